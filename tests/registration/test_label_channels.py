"""Soft maps of structures: shares, sides, lattices; and the overlap's pull."""

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.image.volume import Grid, Volume
from deepprep.registration.diffeomorphic import Level, register_diffeomorphic
from deepprep.registration.label_channels import GROUPS, LabelPair, group_lookup, soft_groups
from deepprep.registration.transforms import Affine
from deepprep.segmentation.labels import LEFT_RIGHT, STRUCTURES
from tests.registration.heads import T1W, grid, motion, paint


def halves(shape=(8, 8, 8), affine=None) -> Volume:
    """White matter for x < 4, cortex beyond."""
    data = np.full(shape, 2, np.uint8)
    data[4:] = 3
    return Volume(data, np.eye(4) if affine is None else affine)


def test_no_structure_is_in_two_groups_and_sides_go_together():
    flat = [label for group in GROUPS for label in group]
    assert len(flat) == len(set(flat))
    assert set(flat) <= set(STRUCTURES)
    table = group_lookup()
    assert all(table[left] == table[right] for left, right in LEFT_RIGHT.items())


def test_same_lattice_gives_one_hot_maps():
    maps = soft_groups(halves(), halves().grid)
    np.testing.assert_array_equal(maps[0], np.arange(8)[:, None, None] < np.full((8, 8, 8), 4))
    np.testing.assert_array_equal(maps[1], 1 - maps[0])
    assert not maps[2:].any()


def test_cell_across_the_border_is_shared():
    # cells of 3 mm: -0.5 to 2.5 mm, and 2.5 to 5.5 mm with the border at 3.5 mm
    affine = np.diag([3.0, 1, 1, 1])
    affine[0, 3] = 1.0
    maps = soft_groups(halves(), Grid((2, 8, 8), affine))
    assert maps[0, 1, 4, 4] == pytest.approx(1 / 3, abs=0.1)
    assert maps[0, 0, 4, 4] == pytest.approx(1)
    np.testing.assert_allclose(maps[:2].sum(0), 1, atol=1e-6)


def test_pose_and_flipped_lattice_are_respected():
    shift = motion(mm=(2, 0, 0))
    maps = soft_groups(halves(), halves().grid, shift)
    # a point of the lattice at x looks at x + 2 of the labels
    np.testing.assert_array_equal(maps[0, :, 3, 3], [1, 1, 0, 0, 0, 0, 0, 0])
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 7
    maps = soft_groups(halves(), Grid((8, 8, 8), flipped))
    np.testing.assert_array_equal(maps[0, :, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1])


def test_labels_without_structures_are_refused():
    with pytest.raises(InputError, match="FreeSurfer's numbering"):
        soft_groups(halves().like(np.zeros((8, 8, 8), np.uint8)), halves().grid)


def test_overlap_pulls_where_the_image_shows_nothing():
    flat = paint(grid(), (50.0, 50.0, 50.0))
    points = grid().points_ras()

    def ball(x):
        inside = np.linalg.norm(points - [x, 0, 0], axis=-1) < 20
        return Volume(np.where(inside, 2, 3).astype(np.uint8), grid().affine)

    levels = (Level(6.0, 40, 1.2, 0.5), Level(3.0, 25, 1.2, 0.5))
    result = register_diffeomorphic(
        flat, flat, Affine.identity(), labels=LabelPair(ball(0), ball(4)), levels=levels
    )
    edge = np.array([[20.0, 0, 0], [-20.0, 0, 0]])
    pulled = result.fixed_to_moving().map_points(edge) - edge
    np.testing.assert_allclose(pulled[:, 0], 4.0, atol=1.0)


def test_lesion_does_not_pull_when_masked():
    fixed = paint(grid(), T1W)
    points = grid().points_ras()
    inside = np.linalg.norm(points - [20, 10, 0], axis=-1) < 18
    moving = fixed.like(np.where(inside, 10.0, fixed.data).astype(np.float32))
    levels = (Level(6.0, 30, 1.2, 0.8), Level(3.0, 15, 1.2, 0.8))
    moved = {}
    for name, lesion in (("without", None), ("with", moving.like(inside.astype(np.uint8)))):
        result = register_diffeomorphic(
            fixed, moving, Affine.identity(), lesion=lesion, levels=levels
        )
        there = result.fixed_to_moving().map_points(points.reshape(-1, 3))
        moved[name] = np.linalg.norm(there - points.reshape(-1, 3), axis=1).mean()
    # the heads are equal but for the lesion, so nothing should move
    assert moved["with"] < 0.1
    assert moved["without"] > 3 * moved["with"]


def test_empty_lesion_is_refused():
    fixed = paint(grid(6.0), T1W)
    with pytest.raises(InputError, match="lesion mask is empty"):
        register_diffeomorphic(
            fixed, fixed, Affine.identity(), lesion=fixed.like(np.zeros(fixed.shape))
        )
