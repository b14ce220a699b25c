"""Brain mask of a segmentation."""

import numpy as np
import pytest

from deepprep.segmentation.brain import brain_of_labels, choose_brain, with_rim


def ball(radius: float, n: int = 40) -> np.ndarray:
    axis = np.arange(n) - n / 2
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return x**2 + y**2 + z**2 < radius**2


def test_a_narrow_sulcus_is_bridged_and_a_hole_filled():
    labels = np.where(ball(15), 3, 0)
    labels[19:22, 20:, :] = 0  # a slit of 3 mm
    labels[12:16, 12:16, 18:22] = 0
    mask = brain_of_labels(labels, np.ones(3))
    assert mask[20, 25, 20] and mask[13, 13, 20]
    assert 0.98 < mask.sum() / ball(15).sum() < 1.02


def test_a_detached_piece_is_dropped():
    labels = np.where(ball(10), 42, 0)
    labels[0:2, 0:2, 0:2] = 3
    assert not brain_of_labels(labels, np.ones(3))[0, 0, 0]


def test_anisotropic_voxels_close_in_millimetres():
    labels = np.where(ball(15), 3, 0)[:, :, ::2]
    labels[18:21, 20:, :] = 0
    assert brain_of_labels(labels, np.array([1.0, 1.0, 2.0]))[19, 25, 10]


def test_nothing_labelled_is_an_error():
    with pytest.raises(ValueError, match="no brain"):
        brain_of_labels(np.zeros((5, 5, 5), int), np.ones(3))


def test_agreement_decides_which_mask_is_used():
    labels = np.where(ball(12), 3, 0)
    good = choose_brain(ball(12), labels, np.ones(3))
    assert good.source == "segmentation" and good.dice > 0.98 and not good.warning
    poor = choose_brain(ball(13.0), labels, np.ones(3))
    assert poor.source == "segmentation" and "0.8" in poor.warning
    bad = choose_brain(ball(18), labels, np.ones(3))
    assert bad.source == "extraction" and bad.warning
    np.testing.assert_array_equal(bad.mask, ball(18))


def test_the_rim_is_in_millimetres_and_stays_in_the_image():
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 4] = mask[0, 0, 0] = True
    grown = with_rim(mask, np.array([1.0, 1.0, 2.0]), 1.5)
    assert grown[3, 4, 4] and grown[3, 3, 4] and not grown[4, 4, 3] and not grown[2, 4, 4]
    assert grown[0, 1, 0]
