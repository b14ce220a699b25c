"""Measures and warnings of a whole-brain segmentation."""

import numpy as np

from deepprep.image.volume import Volume
from deepprep.quality.segmentation import segmentation_metrics
from deepprep.segmentation.result import Segmentation


def found_of(volumes: dict[int, float], uncertain: float = 0.05):
    labels = np.zeros((10, 10, 10), np.uint8)
    labels[:5], labels[5:] = 2, 41
    labels[0, 0, :4] = 17
    uncertainty = np.full(labels.shape, uncertain, np.float32)
    uncertainty[labels == 17] = 0.5
    zero = np.zeros(labels.shape, np.float32)
    found = Segmentation(labels, zero, zero, zero, uncertainty, volumes, "test")
    return Volume(labels, np.diag([2.0, 1, 1, 1])), found


USUAL = {2: 240e3, 41: 245e3, 3: 250e3, 42: 255e3, 17: 4000.0, 53: 4100.0, 4: 9e3, 43: 3e3}


def test_structures_have_volumes_voxels_and_mean_uncertainty():
    structures, summary, warnings = segmentation_metrics(*found_of(USUAL))
    rows = {row["index"]: row for row in structures}
    assert rows[17]["name"] == "Left-Hippocampus"
    assert rows[17]["n_voxels"] == 4 and rows[17]["volume_mm3"] == 4000.0
    assert rows[17]["uncertainty"] == 0.5 and rows[53]["uncertainty"] is None
    assert summary["seg_uncertainty_worst"] == 0.5
    np.testing.assert_allclose(summary["seg_uncertainty"], (996 * 0.05 + 4 * 0.5) / 1000, rtol=1e-5)
    assert summary["volume_left_hippocampus_mm3"] == 4000.0
    assert warnings == []


def test_half_a_brain_is_noticed_and_ventricles_may_differ():
    lopsided = {**USUAL, 41: 60e3, 42: 70e3}
    _, _, warnings = segmentation_metrics(*found_of(lopsided))
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "Much smaller on the right than on the other side: Cerebral-White"
    )
    assert "Cerebral-Cortex 70000 against 250000 mm3" in warnings[0]


def test_volumes_of_no_brain_are_noticed():
    tiny = {k: v / 10 for k, v in USUAL.items()}
    _, _, warnings = segmentation_metrics(*found_of(tiny))
    assert any("white matter holds 48 ml" in sentence for sentence in warnings)


def test_nothing_found_gives_no_number():
    volume, found = found_of({})
    empty = volume.like(np.zeros(volume.shape, np.uint8))
    structures, summary, warnings = segmentation_metrics(empty, found)
    assert structures == [] and np.isnan(summary["seg_uncertainty"]) and warnings


def test_slices_thicker_than_the_cortex_are_noticed():
    labels, found = found_of(USUAL)
    thick = Volume(labels.data, np.diag([1.0, 1, 5, 1]))
    _, _, warnings = segmentation_metrics(thick, found)
    assert len(warnings) == 1
    assert warnings[0].startswith("Voxels of the T1w are 5.0 mm long")
