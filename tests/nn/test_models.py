"""The registry, where weights are looked for, and what verify says."""

from pathlib import Path

import pytest

from deepprep.nn.models import (
    DEFAULT_MODELS_DIR,
    REGISTRY,
    find_models_dir,
    find_weight_files,
    locate,
    read_record,
    verify,
    weights_of,
    write_record,
)
from deepprep.segmentation.fastsurfer.views import VIEWS


def test_registry_holds_what_is_published():
    sizes = {w.file: w.size_bytes for w in weights_of("fastsurfer")}
    assert sizes == {
        "aparc_vinn_coronal_v2.0.0.pkl": 22_399_783,
        "aparc_vinn_axial_v2.0.0.pkl": 22_399_769,
        "aparc_vinn_sagittal_v2.0.0.pkl": 22_375_598,
    }
    assert [w.file for w in REGISTRY if w.checksum] == [
        "aparc_vinn_axial_v2.0.0.pkl",
        "synthmorph.affine.2.h5",
        "synthmorph.deform.3.h5",
    ]
    assert weights_of("fastsurfer") == weights_of("fastsurfer-vinn")
    assert weights_of("nothing") == []


def test_views_are_in_the_order_of_the_engines():
    for engine in ("fastsurfer-vinn", "fastsurfer-v1"):
        assert [w.view for w in weights_of(engine)] == [v.name for v in VIEWS]


def test_folder_given_then_variable_then_cache(monkeypatch):
    monkeypatch.setenv("DEEPPREP_MODELS_DIR", "/from/variable")
    assert find_models_dir("/given") == Path("/given")
    assert find_models_dir(None) == Path("/from/variable")
    monkeypatch.delenv("DEEPPREP_MODELS_DIR")
    assert find_models_dir() == Path(DEFAULT_MODELS_DIR).expanduser()


def test_files_are_found_in_subfolders_and_under_their_older_names(tmp_path):
    vinn = weights_of("fastsurfer-vinn")
    (tmp_path / "FastSurfer/checkpoints").mkdir(parents=True)
    for weight in vinn:
        (tmp_path / "FastSurfer/checkpoints" / weight.file).write_bytes(b"x")
    assert find_weight_files("fastsurfer-vinn", tmp_path) == [
        tmp_path / "FastSurfer/checkpoints" / w.file for w in vinn
    ]
    (tmp_path / vinn[0].file).write_bytes(b"y")
    assert locate(vinn[0], tmp_path) == tmp_path / vinn[0].file

    axial = next(w for w in weights_of("fastsurfer-v1") if w.view == "axial")
    assert locate(axial, tmp_path) is None
    for view in ("Coronal", "Axial"):
        folder = tmp_path / f"old/{view}_Weights_FastSurferCNN/ckpts"
        folder.mkdir(parents=True)
        (folder / "Epoch_30_training_state.pkl").write_bytes(b"z")
    assert locate(axial, tmp_path) == (
        tmp_path / "old/Axial_Weights_FastSurferCNN/ckpts/Epoch_30_training_state.pkl"
    )
    assert find_weight_files("fastsurfer-v1", tmp_path) is None
    assert find_weight_files("fastsurfer-vinn", tmp_path / "none") is None


def test_wrong_size_is_bad_and_absence_is_missing(tmp_path):
    weight = weights_of("fastsurfer-vinn")[0]
    assert verify(weight, tmp_path).state == "missing"
    (tmp_path / weight.file).write_bytes(b"short")
    verdict = verify(weight, tmp_path)
    assert verdict.state == "bad"
    assert verdict.detail == "it has 5 bytes instead of 22399783"


def test_right_size_and_wrong_checksum_is_bad(tmp_path):
    weight = next(w for w in REGISTRY if w.checksum)
    with open(tmp_path / weight.file, "wb") as file:
        file.truncate(weight.size_bytes)
    assert verify(weight, tmp_path).detail == "its md5 checksum is wrong"


@pytest.mark.parametrize("content", ["", "no json", "[1]"])
def test_damaged_record_is_started_anew(tmp_path, content):
    (tmp_path / "fetched.json").write_text(content)
    assert read_record(tmp_path) == {}
    write_record(tmp_path, {"a": {"sha256": "1"}})
    write_record(tmp_path, {"b": {"sha256": "2"}})
    assert set(read_record(tmp_path)) == {"a", "b"}
    assert [p.name for p in tmp_path.iterdir()] == ["fetched.json"]
