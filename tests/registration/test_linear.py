"""Rigid and affine registration of heads whose motion is known."""

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.affine import register_affine
from deepprep.registration.linear import generators
from deepprep.registration.pyramid import crop, shrink
from deepprep.registration.rigid import register_rigid
from deepprep.registration.transforms import Affine
from tests.registration.heads import BOLD, T1W, error_mm, grid, motion, paint, tissue


def pair(truth, fixed_grid, moving_grid, fixed_values=T1W, moving_values=T1W):
    """``truth`` maps fixed points to moving points."""
    fixed = paint(fixed_grid, fixed_values, noise=2.0)
    moving = paint(moving_grid, moving_values, truth.inverse(), noise=2.0, noise_seed=7)
    return fixed, moving


def test_identity_is_found():
    fixed, moving = pair(Affine.identity(), grid(), grid())
    assert error_mm(register_rigid(fixed, moving), Affine.identity()).max() < 0.15


@pytest.mark.parametrize("metric", ["nmi", "ncc"])
def test_known_motion_has_the_right_sign_and_size(metric):
    truth = motion((6, -4, 9), (5, -8, 3))
    fixed, moving = pair(truth, grid(), grid())
    assert error_mm(register_rigid(fixed, moving, metric=metric), truth).max() < 0.3


def test_oblique_flipped_anisotropic_lattices():
    truth = motion((3, 5, -7), (-6, 4, 8))
    fixed, moving = pair(
        truth, grid(3.0, (1, 1, 1.4), (-1, 1, 1)), grid(2.5, (1, 1.3, 1), (1, -1, 1), turn_deg=20)
    )
    assert error_mm(register_rigid(fixed, moving), truth).mean() < 0.4


def test_large_tilt_is_caught():
    truth = motion((35, 0, 0), (20, -40, 30))
    fixed, moving = pair(truth, grid(), grid())
    assert error_mm(register_rigid(fixed, moving), truth).mean() < 0.4


def test_inverted_contrast_needs_mutual_information():
    truth = motion((5, 3, -4), (4, 6, -5))
    fixed, moving = pair(truth, grid(), grid(), T1W, BOLD)
    assert error_mm(register_rigid(fixed, moving, metric="nmi"), truth).mean() < 0.5


def test_affine_finds_scales_and_masks_keep_the_rest_out():
    truth = motion((4, 0, -5), (3, -6, 2), scales=(1.1, 0.92, 1.05))
    fixed, moving = pair(truth, grid(), grid())
    fixed_mask = fixed.like((tissue(grid()).data > 0).astype(np.uint8))
    moving_mask = moving.like((tissue(grid(), truth.inverse()).data > 0).astype(np.uint8))
    dirty = moving.like(np.where(moving_mask.data > 0, moving.data, 300).astype(np.float32))
    found = register_affine(fixed, dirty, fixed_mask=fixed_mask, moving_mask=moving_mask)
    assert error_mm(found, truth).mean() < 0.5


def test_rigid_result_is_rigid():
    fixed, moving = pair(motion((4, 0, -5), scales=(1.1, 1.1, 1.1)), grid(), grid())
    turn = register_rigid(fixed, moving).matrix[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0


def test_start_is_refined_and_runs_are_equal():
    truth = motion((2, 1, -1), (2, 2, -2))
    fixed, moving = pair(truth, grid(), grid())
    found = [register_rigid(fixed, moving, init=motion((1, 0, 0), (1, 1, 0))) for _ in range(2)]
    assert error_mm(found[0], truth).max() < 0.3
    np.testing.assert_array_equal(found[0].matrix, found[1].matrix)


def test_nan_is_ignored():
    truth = motion((0, 0, 4), (3, 0, 0))
    fixed, moving = pair(truth, grid(), grid())
    moving.data[:2] = np.nan
    assert error_mm(register_rigid(fixed, moving), truth).max() < 0.4


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_image_without_contrast_is_refused(value):
    fixed = paint(grid(6.0), T1W)
    with pytest.raises(InputError, match="moving image is empty or constant"):
        register_rigid(fixed, fixed.like(np.full(fixed.shape, value, np.float32)))


def test_empty_mask_is_refused():
    fixed = paint(grid(6.0), T1W)
    with pytest.raises(InputError, match="fixed image is empty"):
        register_rigid(fixed, fixed, fixed_mask=fixed.like(np.zeros(fixed.shape)))


@pytest.mark.parametrize("dof", [6, 7, 9, 12])
def test_generators_move_the_lever_by_one_mm(dof):
    assert generators(dof).shape == (dof, 4, 4)
    with pytest.raises(ValueError, match="degrees of freedom"):
        register_affine(*2 * [paint(grid(6.0), T1W)], dof=dof + 20)


def test_shrinking_keeps_world_positions():
    where = grid(2.0, (1, 1, 1.5), (-1, 1, 1), turn_deg=10)
    points = where.points_ras()
    # the x coordinate itself as the image: averages must equal the coordinate of the centre
    small = shrink(Volume(points[..., 0].astype(np.float32), where.affine), 6.0)
    inner = np.s_[:-1, :-1, :-1]
    np.testing.assert_allclose(small.data[inner], small.grid.points_ras()[inner][..., 0], atol=1e-3)
    assert small.shape == (25, 25, 25)


def test_cropping_keeps_values_where_they_are_in_the_world():
    where = grid(3.0, flip=(-1, 1, 1), turn_deg=10)
    head = paint(where, T1W)
    head.data[head.data < 5] = 0
    small = crop(head, 2)
    assert small.data.size < 0.6 * head.data.size
    assert small.data.sum() == pytest.approx(head.data.sum())
    voxel = np.array(small.shape) // 2
    world = small.affine[:3, :3] @ voxel + small.affine[:3, 3]
    back = np.rint(where.ras2vox[:3, :3] @ world + where.ras2vox[:3, 3]).astype(int)
    assert small.data[tuple(voxel)] == head.data[tuple(back)]
    empty = head.like(np.zeros(head.shape, np.float32))
    assert crop(empty).shape == head.shape
