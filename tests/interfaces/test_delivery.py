"""Derivatives are copied whole or not at all, and what was written is on record."""

import gzip
import json

import pytest

from deepprep.interfaces.delivery import Delivery, copy_atomically, read_records
from deepprep.reports.methods import Step


def test_compression_on_the_way_is_reproducible(tmp_path):
    source = tmp_path / "x.nii"
    source.write_bytes(b"voxels" * 1000)
    for name in ("a.nii.gz", "b.nii.gz"):
        copy_atomically(source, tmp_path / "out" / name)
    a, b = ((tmp_path / "out" / n).read_bytes() for n in ("a.nii.gz", "b.nii.gz"))
    assert a == b
    assert gzip.decompress(a) == source.read_bytes()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_record_names_files_steps_and_metrics(tmp_path):
    source = tmp_path / "x.tsv"
    source.write_text("a\tb\n")
    delivery = Delivery(tmp_path / "out", "sub-01", "anat", "uuid")
    delivery.put(source, tmp_path / "out/sub-01/func/t.tsv", {"Method": "Mean"})
    delivery.close(steps=[Step("n", "anatomical", "Done.")], metrics={"x": {"m": 1.0}})
    (record,) = read_records(tmp_path / "out", "sub-01")
    assert record["files"] == ["sub-01/func/t.json", "sub-01/func/t.tsv"]
    assert record["steps"] == [{"name": "n", "section": "anatomical", "text": "Done."}]
    assert record["metrics"] == {"x": {"m": 1.0}}
    assert json.loads((tmp_path / "out/sub-01/func/t.json").read_text()) == {"Method": "Mean"}


def test_a_vanished_derivative_is_an_error(tmp_path):
    source = tmp_path / "x.tsv"
    source.write_text("a")
    delivery = Delivery(tmp_path / "out", "sub-01", "anat", "uuid")
    delivery.put(source, tmp_path / "out/t.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"t\.tsv was written but is gone"):
        delivery.close()


def test_the_anatomy_comes_first_then_spaces_surfaces_and_runs(tmp_path):
    """What is done to a surface is told after how it was made."""
    order = [
        *("anat", "lesion", "space-T1w", "template-X", "freesurfer", "surfaces", "cortex"),
        *("another_task-a_bold", "sub-01_task-a_bold"),
    ]
    for part in sorted(order):
        Delivery(tmp_path, "sub-01", part, "u").close()
    assert [r["part"] for r in read_records(tmp_path)] == order
