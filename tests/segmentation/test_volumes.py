"""Structure volumes and whole-brain measures of label maps that can be counted by hand."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.segmentation.brain_measures import brain_measures
from deepprep.segmentation.colors import COLORS, lookup_table
from deepprep.segmentation.labels import STRUCTURES
from deepprep.segmentation.stats_file import EXCLUDED, parse_stats
from deepprep.segmentation.volume_table import hemisphere, table_sidecar, volume_table
from deepprep.segmentation.volumes import structure_name, structure_volumes

COUNTS = {
    2: 500, 41: 510, 3: 700, 42: 690, 4: 20, 43: 22, 5: 3, 44: 4, 31: 2, 63: 1, 14: 5, 15: 6,
    24: 7, 7: 30, 46: 31, 8: 80, 47: 82, 16: 40, 10: 9, 49: 10, 17: 8, 53: 8, 77: 10, 85: 1,
    251: 12, 30: 3,
}  # fmt: skip


def label_map():
    """COUNTS voxels of each label in one array; 77 lies four fifths on the left side."""
    labels = np.zeros((20, 20, 20), np.uint8)
    flat = labels.reshape(-1)
    at = 0
    for label, n in COUNTS.items():
        if label != 77:
            flat[at : at + n] = label
            at += n
    left, right = (np.argwhere(labels == k).mean(0) for k in (2, 41))
    free = np.argwhere(labels == 0)
    nearer = np.argsort((free - (left + right) / 2) @ (left - right))
    for index in [*free[nearer[-8:]], *free[nearer[:2]]]:
        labels[tuple(index)] = 77
    return labels


@pytest.fixture(scope="module")
def labels():
    return label_map()


def measures(labels, **options):
    mask = labels >= 0
    return {m.name: m.value for m in brain_measures(labels, mask, 2.0, **options)}


def test_measures_are_sums_of_their_structures(labels):
    found = measures(labels)
    total = sum(COUNTS.values())
    ventricles = 20 + 22 + 3 + 4 + 2 + 1
    deep = 9 + 10 + 8 + 8
    white = 500 + 510 + 10 + 12
    assert found["BrainSeg"] == 2 * (total - 40)
    assert found["BrainSegNotVent"] == 2 * (total - 40 - ventricles - 5 - 6 - 7)
    assert found["VentricleChoroidVol"] == 2 * ventricles
    assert found["Cortex"] == 2 * (700 + 690)
    assert found["CerebralWhiteMatter"] == 2 * white
    assert found["lhCerebralWhiteMatter"] == pytest.approx(2 * (500 + 8 + 6))
    assert found["SubCortGray"] == 2 * deep
    assert found["TotalGray"] == 2 * (700 + 690 + deep + 80 + 82)
    assert found["SupraTentorialNotVentVox"] == 2 * (700 + 690 + white + deep + 3)
    assert found["SupraTentorial"] == 2 * (700 + 690 + white + deep + 3 + ventricles)
    assert found["BrainSegNotVentSurf"] == 2 * (700 + 690 + white + deep + 3 + 30 + 31 + 80 + 82)
    assert found["Mask"] == 2 * labels.size
    assert "EstimatedTotalIntraCranialVol" not in found


def test_posteriors_go_into_cortex_and_white_matter_only(labels):
    found = measures(labels, posterior_mm3={3: 1500.0, 2: 900.0, 4: 9.0}, etiv_mm3=10_000.0)
    assert found["lhCortex"] == 1500
    assert found["lhCerebralWhiteMatter"] == pytest.approx(900 + 2 * (8 + 6))
    assert found["VentricleChoroidVol"] == measures(labels)["VentricleChoroidVol"]
    assert found["SupraTentorialNotVentVox"] == measures(labels)["SupraTentorialNotVentVox"]
    assert found["BrainSegVol-to-eTIV"] == pytest.approx(found["BrainSeg"] / 10_000)
    assert found["EstimatedTotalIntraCranialVol"] == 10_000


def test_rows_describe_the_intensity(labels):
    image = np.full(labels.shape, 50.0)
    where = np.argwhere(labels == 17)
    for value, index in zip((10, 20, 30, 40, 50, 60, 70, 80), where, strict=True):
        image[tuple(index)] = value
    rows = {r.label: r for r in structure_volumes(labels, image, 2.0, without=EXCLUDED)}
    row = rows[17]
    assert (row.name, row.n_voxels, row.volume_mm3) == ("Left-Hippocampus", 8, 16.0)
    assert (row.mean, row.minimum, row.maximum, row.value_range) == (45, 10, 80, 70)
    assert row.sd == pytest.approx(np.std([10, 20, 30, 40, 50, 60, 70, 80]))
    assert rows[18].n_voxels == 0 and rows[18].mean == 0  # an empty structure has its row
    assert rows[251].name == "CC_Posterior"
    assert set(rows) == (set(STRUCTURES) - set(EXCLUDED)) | {30, 251}


def test_a_posterior_is_the_volume_but_not_the_count(labels):
    rows = {r.label: r for r in structure_volumes(labels, labels, 2.0, {17: 18.5})}
    assert (rows[17].n_voxels, rows[17].volume_mm3) == (8, 18.5)
    assert rows[53].volume_mm3 == 16


def test_the_table_has_a_row_a_structure_and_a_mean_uncertainty(labels):
    rows = structure_volumes(labels, labels, 2.0)
    unsure = np.where(labels == 17, 0.25, 0.5)
    lines = [x.split("\t") for x in volume_table(rows, labels, unsure).splitlines()]
    assert lines[0] == ["index", "name", "hemisphere", "volume_mm3", "n_voxels", "uncertainty"]
    table = {int(x[0]): x for x in lines[1:]}
    assert table[17] == ["17", "Left-Hippocampus", "L", "16.0", "8", "0.2500"]
    assert table[18][3:] == ["0.0", "0", "n/a"]
    assert table[16][2] == "n/a"
    assert volume_table(rows).splitlines()[1].endswith("n/a")


def test_the_sidecar_explains_every_column_and_measure(labels):
    found = brain_measures(labels, labels > 0, 1.0, etiv_mm3=5000.0)
    sidecar = table_sidecar(found, from_posteriors=True, engine="deepprep")
    for column in ("index", "name", "hemisphere", "volume_mm3", "n_voxels", "uncertainty"):
        assert sidecar[column]["Description"].endswith(".")
    assert sidecar["volume_mm3"]["Units"] == "mm^3"
    assert sidecar["Measures"]["eTIV"] == {
        "Description": "Estimated Total Intracranial Volume", "Value": 5000.0, "Units": "mm^3",
    }  # fmt: skip


def test_sides_and_names():
    assert [hemisphere(k) for k in (2, 63, 16, 14)] == ["L", "R", "n/a", "n/a"]
    assert structure_name(300) == "Label-300"


def test_every_structure_has_freesurfers_colour():
    assert set(COLORS) == set(STRUCTURES) | {0}
    assert COLORS[2] == (245, 245, 245) and COLORS[41] == (0, 225, 0)
    assert COLORS[17] == COLORS[53] == (220, 216, 20)
    lines = lookup_table().splitlines()
    assert lines[:3] == [
        "index\tname\tcolor", "0\tUnknown\t#000000", "2\tLeft-Cerebral-White-Matter\t#f5f5f5",
    ]  # fmt: skip
    assert len(lines) == 38


def test_measures_of_a_real_aseg_are_freesurfers(shared_data):
    for folder in sorted((shared_data / "freesurfer-silver").glob("sub-*")):
        labels = np.asarray(nib.load(folder / "mri/aseg.mgz").dataobj)
        mask = np.asarray(nib.load(folder / "mri/brainmask.mgz").dataobj) > 0
        ours = {m.name: m.value for m in brain_measures(labels, mask, 1.0)}
        real = parse_stats((folder / "stats/aseg.stats").read_text())
        for measure in real.measures:
            if measure.name not in ours:
                assert "SurfaceHoles" in measure.name or "eTIV" in measure.field
                continue
            # Counts agree but for what FreeSurfer cut by its surfaces; the mask was edited since.
            tolerance = 0.01 if measure.name == "Mask" else 0.007
            assert ours[measure.name] == pytest.approx(measure.value, rel=tolerance), measure.name
        rows = {r.label: r for r in structure_volumes(labels, labels, 1.0, without=EXCLUDED)}
        for row in real.rows:
            if row.label in rows:
                assert rows[row.label].n_voxels == row.n_voxels


def test_what_the_engine_has_no_class_for_has_no_row():
    few = np.zeros((4, 4, 4), dtype=np.int32)
    few[0] = 17
    rows = {r.label for r in structure_volumes(few, few, 2.0, {17: 18.5, 18: 0.0})}
    assert rows == {17, 18}
    assert 63 in {r.label for r in structure_volumes(few, few, 2.0)}
