"""aseg.stats: FreeSurfer's layout line by line, read by a parser of its kind, and round trip."""

import numpy as np
import pytest

from deepprep.segmentation.brain_measures import brain_measures
from deepprep.segmentation.stats_file import EXCLUDED, format_stats, parse_stats
from deepprep.segmentation.volumes import structure_volumes


def read_like_asegstats2table(text):
    """What FreeSurfer's asegstats2table takes from the file: measures, and volume by name."""
    measures, table, columns = {}, {}, []
    for line in text.splitlines():
        if line.startswith("# Measure"):
            parts = line.split(",")
            measures[parts[1].strip()] = float(parts[3])
        elif line.startswith("# ColHeaders"):
            columns = line.split()[2:]
        elif not line.startswith("#"):
            values = dict(zip(columns, line.split(), strict=True))
            table[values["StructName"]] = {k: v for k, v in values.items() if k != "StructName"}
    return measures, table, columns


@pytest.fixture(scope="module")
def written():
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 2, 3, 41, 42, 10, 17, 53, 77, 16], (30, 30, 30)).astype(np.uint8)
    image = rng.integers(1, 200, labels.shape).astype(np.uint8)
    rows = structure_volumes(labels, image, 1.0, {17: 1234.56}, EXCLUDED)
    measures = brain_measures(labels, labels > 0, 1.0, etiv_mm3=1_512_345.678)
    return format_stats("sub-01", "0.1", measures, rows), measures, rows


def test_a_freesurfer_reader_finds_everything(written):
    text, ours, rows = written
    measures, table, columns = read_like_asegstats2table(text)
    assert columns == [
        "Index",
        "SegId",
        "NVoxels",
        "Volume_mm3",
        "StructName",
        "normMean",
        "normStdDev",
        "normMin",
        "normMax",
        "normRange",
    ]
    assert measures["eTIV"] == 1_512_345.678
    assert len(measures) == len(ours) == 19
    assert float(table["Left-Hippocampus"]["Volume_mm3"]) == 1234.6
    assert len(table) == len(rows)
    assert [int(v["Index"]) for v in table.values()] == list(range(1, len(rows) + 1))


def test_round_trip(written):
    text, ours, rows = written
    read = parse_stats(text)
    assert read.header["subjectname"] == "sub-01"
    assert read.header["NRows"] == str(len(rows))
    assert [m.name for m in read.measures] == [m.name for m in ours]
    for a, b in zip(read.measures, ours, strict=True):
        assert (a.field, a.description, a.unit) == (b.field, b.description, b.unit)
        assert a.value == pytest.approx(b.value, abs=1e-6)
    for a, b in zip(read.rows, rows, strict=True):
        assert (a.label, a.name, a.n_voxels) == (b.label, b.name, b.n_voxels)
        assert a.volume_mm3 == pytest.approx(b.volume_mm3, abs=0.051)
        assert (a.mean, a.sd) == pytest.approx((b.mean, b.sd), abs=1e-4)
    assert format_stats("sub-01", "0.1", read.measures, read.rows) == text


def test_it_says_what_did_not_come_from_surfaces(written):
    (note,) = (x for x in written[0].splitlines() if x.startswith("# Note"))
    assert "not from surfaces" in note and "lhCortex" in note and "SubCortGray" not in note


def test_a_broken_row_is_refused():
    with pytest.raises(ValueError, match="10 columns"):
        parse_stats("  1   4      3129     3430.2  Left-Lateral-Ventricle\n")


def test_the_layout_is_that_of_a_real_file(shared_data):
    for path in sorted((shared_data / "freesurfer-silver").glob("sub-*/stats/aseg.stats")):
        text = path.read_text()
        real = parse_stats(text)
        lines = text.splitlines()
        again = format_stats("x", "0", real.measures, real.rows).splitlines()
        # The table and its description, character by character.
        assert [x for x in again if not x.startswith("#")] == [
            x for x in lines if not x.startswith("#")
        ]
        for start in ("# TableCol", "# NRows", "# NTableCols", "# ColHeaders", "# VoxelVolume"):
            assert [x for x in again if x.startswith(start)] == [
                x for x in lines if x.startswith(start)
            ]
        # FreeSurfer counts voxels of the segmentation that knows its surfaces
        assert "# SegVolFile mri/aseg.presurf.mgz " in again
        for start in ("# Title", "# ExcludeSegId", "# InVolFile ", "# anatomy"):
            assert [x for x in again if x.startswith(start)] == [
                x for x in lines if x.startswith(start)
            ]
        holes = [x for x in again if "# Measure" in x and "SurfaceHoles" not in x]
        assert holes == [x for x in lines if "# Measure" in x and "SurfaceHoles" not in x]


def test_measures_have_freesurfers_names_and_order(shared_data, written):
    path = next(iter((shared_data / "freesurfer-silver").glob("sub-*/stats/aseg.stats")))
    real = [m for m in parse_stats(path.read_text()).measures if "SurfaceHoles" not in m.name]
    ours = written[1]
    assert [(m.name, m.field, m.description, m.unit) for m in ours] == [
        (m.name, m.field, m.description, m.unit) for m in real
    ]
