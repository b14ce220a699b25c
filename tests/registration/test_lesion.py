"""Lesion masks between lattices, their rim, and segmentations without them."""

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.image.volume import Grid, Volume
from deepprep.registration.diffeomorphic import Level, register_diffeomorphic
from deepprep.registration.lesion import binary, labels_outside, lesion_on, with_rim
from deepprep.registration.transforms import Affine
from tests.registration.heads import T1W, brain_points, grid, motion, paint

GRID = Grid((20, 22, 24), np.diag([1.0, 1.0, 1.0, 1.0]))


def block(value=1.0):
    data = np.zeros(GRID.shape, np.float32)
    data[5:9, 6:12, 7:10] = value
    return Volume(data, GRID.affine)


def test_a_flipped_mask_is_reordered_and_not_interpolated():
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, GRID.shape[0] - 1
    flipped = Volume(block().data[::-1], flip)
    np.testing.assert_array_equal(lesion_on([flipped], GRID, [None]).data, block().data)


def test_masks_are_united_each_through_its_own_transform():
    shift = np.eye(4)
    shift[:3, 3] = (-3, 0, 0)  # points of the grid -> points of the mask
    both = lesion_on([block(7), block()], GRID, [None, Affine(shift)])
    assert np.unique(np.argwhere(both.data)[:, 0]).tolist() == list(range(5, 12))


def test_a_finer_mask_keeps_its_volume():
    fine = Volume(
        np.kron(block().data, np.ones((2, 2, 2), np.float32)), np.diag([0.5, 0.5, 0.5, 1])
    )
    fine.affine[:3, 3] = -0.25
    assert lesion_on([fine], GRID, [None]).data.sum() == block().data.sum()


def test_a_mask_beyond_the_field_of_view_is_refused():
    far = Volume(block().data, np.array(GRID.affine))
    far.affine[:3, 3] = 300
    with pytest.raises(InputError, match="empty on the lattice"):
        lesion_on([far], GRID, [None])


def test_probabilities_are_cut_at_half_of_the_largest_value():
    graded = Volume(np.linspace(0, 0.8, 24).reshape(2, 3, 4).astype(np.float32), np.eye(4))
    assert binary(graded).data.sum() == (graded.data > 0.4).sum()


def test_the_rim_reaches_two_millimetres_on_any_lattice():
    data = np.zeros((15, 15, 15), np.float32)
    data[7, 7, 7] = 1
    rim = with_rim(Volume(data, np.diag([0.5, 1.0, 2.0, 1.0]))).data > 0
    assert [int(rim.any(axis=a).sum()) > 0 for a in ((1, 2), (0, 2), (0, 1))]
    low, high = np.argwhere(rim).min(0), np.argwhere(rim).max(0)
    np.testing.assert_array_equal(high - low, [8, 4, 2])


def test_the_rim_is_cut_at_the_border_of_the_image():
    data = np.zeros((6, 6, 6), np.float32)
    data[0, 0, 0] = 1
    assert with_rim(Volume(data, np.eye(4))).data[2, 0, 0] == 1


def test_labels_in_the_lesion_do_not_count():
    labels = Volume(np.full(GRID.shape, 2, np.uint8), GRID.affine)
    left = labels_outside(labels, block())
    assert left.data.dtype == np.uint8
    assert not left.data[block().data > 0].any()
    assert left.data[0, 0, 0] == 2


def test_the_map_around_a_masked_lesion_is_that_of_the_healthy_head():
    """Both images must be normalised over the same voxels, or the rim of the lesion pulls."""
    fixed = paint(grid(), T1W)
    healthy = paint(grid(), T1W, motion((0, 0, 4), (3, 0, 2)), noise=1.0)
    inside = np.linalg.norm(grid().points_ras() - [20, 10, 0], axis=-1) < 18
    sick = healthy.like(np.where(inside, 10.0, healthy.data).astype(np.float32))
    lesion = healthy.like(inside.astype(np.uint8))
    levels = (Level(6.0, 30, 1.2, 0.8), Level(3.0, 15, 1.2, 0.8))
    points = brain_points(2000)
    points = points[np.linalg.norm(points - [20, 10, 0], axis=1) > 21]

    def there(moving, mask):
        result = register_diffeomorphic(
            fixed, moving, Affine.identity(), lesion=mask, levels=levels
        )
        return result.fixed_to_moving().map_points(points)

    wanted = there(healthy, None)
    with_mask, without = (
        np.linalg.norm(there(sick, mask) - wanted, axis=1).mean() for mask in (lesion, None)
    )
    assert with_mask < 0.75 * without
