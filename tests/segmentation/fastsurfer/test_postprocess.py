"""Hemispheres, mask and stray white matter of synthetic heads whose answer is known."""

import numpy as np
import pytest

from deepprep.segmentation.fastsurfer.postprocess import (
    RESIDED_PARCELS,
    brain_litres,
    brain_mask,
    flip_wm_islands,
    largest_component,
    padded,
    reduce_to_aseg,
    split_cortex_labels,
)


@pytest.fixture
def two_hemispheres() -> np.ndarray:
    """Right white matter at low x (LIA: x runs to the left), left at high x, cortex around."""
    labels = np.zeros((60, 40, 40), dtype=np.int16)
    labels[8:26, 8:32, 8:32] = 1027
    labels[34:52, 8:32, 8:32] = 1027
    labels[10:24, 10:30, 10:30] = 41
    labels[36:50, 10:30, 10:30] = 2
    return labels


def test_parcels_go_to_the_nearer_hemisphere(two_hemispheres):
    out = split_cortex_labels(two_hemispheres)
    assert (out[8:10, 8:32, 8:32] == 2027).all()
    assert (out[50:52, 8:32, 8:32] == 1027).all()
    assert (out[10:24, 10:30, 10:30] == 41).all()
    assert (out != two_hemispheres).any()
    assert (two_hemispheres[8:10, 8:32, 8:32] == 1027).all()


def test_a_parcel_across_the_midline_is_divided_voxel_by_voxel(two_hemispheres):
    two_hemispheres[26:34, 18:22, 18:22] = 1026
    out = split_cortex_labels(two_hemispheres)
    assert (out[26:30, 18:22, 18:22] == 2026).all()
    assert (out[31:34, 18:22, 18:22] == 1026).all()


def test_other_parcels_keep_their_side(two_hemispheres):
    two_hemispheres[8:10, 8:12, 8:12] = 1012  # has a right twin among the classes
    assert (split_cortex_labels(two_hemispheres)[8:10, 8:12, 8:12] == 1012).all()
    assert len(RESIDED_PARCELS) == 19


def test_without_white_matter_nothing_is_split(two_hemispheres):
    two_hemispheres[two_hemispheres == 41] = 0
    assert np.array_equal(split_cortex_labels(two_hemispheres), two_hemispheres)


def test_reduction_to_aseg():
    labels = np.array([0, 2, 17, 77, 1002, 1035, 2002, 2035], dtype=np.int16)
    out = reduce_to_aseg(labels)
    assert out.dtype == np.uint8
    assert out.tolist() == [0, 2, 17, 77, 3, 3, 42, 42]


def test_mask_closes_holes_and_drops_what_is_apart():
    labels = np.zeros((50, 50, 50), dtype=np.int16)
    labels[15:35, 15:35, 15:35] = 2
    labels[22:28, 22:28, 22:28] = 0
    labels[1:3, 1:3, 1:3] = 41
    mask = brain_mask(labels)
    assert mask[22:28, 22:28, 22:28].all()
    assert not mask[:5, :5, :5].any()
    # Five dilations and four erosions leave one voxel around.
    assert mask[14, 25, 25] and not mask[13, 25, 25]


def test_orbital_parcels_are_not_dilated():
    labels = np.zeros((50, 50, 50), dtype=np.int16)
    labels[15:35, 15:35, 15:35] = 2
    labels[24:26, 24:26, 35:45] = 1012
    mask = brain_mask(labels)
    assert mask[24:26, 24:26, 35:45].all()
    assert not mask[22, 25, 42]


def test_stray_white_matter_changes_sides(two_hemispheres):
    aseg = reduce_to_aseg(split_cortex_labels(two_hemispheres))
    aseg[9, 20, 20] = 2  # left white matter in the right cortex
    aseg[56, 4, 4] = 2  # apart, but on its own side
    out = flip_wm_islands(aseg)
    assert out[9, 20, 20] == 41
    assert out[56, 4, 4] == 2
    assert np.count_nonzero(out != aseg) == 1


def test_empty_segmentations_pass_through():
    empty = np.zeros((20, 20, 20), dtype=np.int16)
    assert not brain_mask(split_cortex_labels(empty)).any()
    assert not flip_wm_islands(reduce_to_aseg(empty)).any()


def test_largest_component_uses_corners():
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[5, 5, 5] = True
    assert np.count_nonzero(largest_component(mask)) == 2


def test_padding_is_undone():
    labels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    wide, inner = padded(labels, 5)
    assert wide.shape == (12, 13, 14)
    assert np.array_equal(wide[inner], labels)


def test_litres():
    assert brain_litres(np.ones((100, 100, 100), dtype=np.uint8), 0.5) == pytest.approx(0.125)
