"""Maps, their order of composition, their Jacobians."""

import numpy as np
import pytest

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import (
    Affine,
    Chain,
    Displacement,
    jacobian_determinant,
    smallest_jacobian,
    warp_jacobian,
)

RNG = np.random.default_rng(3)


def oblique_affine(zooms=(1.0, 2.0, 3.0), flip=True):
    angle = 0.3
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(zooms) @ np.diag([-1 if flip else 1, 1, 1])
    affine[:3, 3] = [5, -7, 11]
    return affine


def shift(x, y, z):
    matrix = np.eye(4)
    matrix[:3, 3] = [x, y, z]
    return Affine(matrix)


def linear_field(shape, affine, slope):
    """The field u(p) = slope @ p."""
    grid = Volume(np.zeros(shape), affine).grid
    return Displacement(grid.points_ras() @ np.asarray(slope).T, affine)


def test_identity_moves_nothing():
    points = RNG.normal(size=(10, 3))
    np.testing.assert_array_equal(Affine.identity().map_points(points), points)


def test_affine_inverse_undoes():
    matrix = np.eye(4)
    matrix[:3] += RNG.normal(scale=0.2, size=(3, 4))
    points = RNG.normal(size=(10, 3)) * 50
    there = Affine(matrix)
    np.testing.assert_allclose(there.inverse().map_points(there.map_points(points)), points)


def test_right_operand_acts_first():
    double = Affine(np.diag([2.0, 2, 2, 1]))
    assert (double @ shift(1, 0, 0)).map_points(np.zeros((1, 3)))[0, 0] == 2
    assert (shift(1, 0, 0) @ double).map_points(np.zeros((1, 3)))[0, 0] == 1


def test_chain_applies_the_first_step_first_and_flattens():
    double = Affine(np.diag([2.0, 2, 2, 1]))
    chain = Chain([Chain([shift(1, 0, 0)]), double])
    assert len(chain.steps) == 2
    assert chain.map_points(np.zeros((1, 3)))[0, 0] == 2


@pytest.mark.parametrize(
    "bad", [np.eye(3), np.full((4, 4), np.nan), np.ones((4, 4))], ids=["3x3", "nan", "last row"]
)
def test_bad_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="affine"):
        Affine(bad)


def test_displacement_is_added_in_world_axes_on_flipped_oblique_lattice():
    affine = oblique_affine()
    field = np.zeros((6, 7, 8, 3))
    field[...] = [1, -2, 3]
    inside = Volume(np.zeros((6, 7, 8)), affine).grid.centre_ras[None]
    np.testing.assert_allclose(
        Displacement(field, affine).map_points(inside), inside + [1, -2, 3], atol=1e-5
    )


def test_displacement_is_trilinear_between_voxels():
    slope = RNG.normal(scale=0.1, size=(3, 3))
    affine = oblique_affine()
    warp = linear_field((6, 7, 8), affine, slope)
    voxels = RNG.uniform(0, 5, size=(50, 3))
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    np.testing.assert_allclose(warp.map_points(points), points + points @ slope.T, atol=1e-4)


def test_outside_the_lattice_nothing_moves():
    warp = Displacement(np.ones((4, 4, 4, 3)), np.eye(4))
    points = np.array([[-0.4, 1, 1], [-0.6, 1, 1], [3.6, 1, 1], [1, 1, 100]])
    moved = warp.map_points(points) - points
    np.testing.assert_allclose(moved[:, 0], [1, 0, 0, 0], atol=1e-6)


def test_no_points_give_no_points():
    assert Displacement(np.zeros((2, 2, 2, 3)), np.eye(4)).map_points(np.zeros((0, 3))).shape == (
        0,
        3,
    )


def test_resampling_with_a_shift_pulls_the_image():
    data = np.zeros((5, 5, 5), np.float32)
    data[3, 2, 2] = 1
    # output x = 1 looks at input x = 3
    pulled = resample(Volume(data, np.eye(4)), Volume(data, np.eye(4)).grid, shift(2, 0, 0))
    assert np.unravel_index(pulled.data.argmax(), pulled.shape) == (1, 2, 2)


def test_jacobian_of_a_linear_map_is_its_determinant():
    slope = RNG.normal(scale=0.1, size=(3, 3))
    warp = linear_field((6, 7, 8), oblique_affine(), slope)
    expected = np.linalg.det(np.eye(3) + slope)
    np.testing.assert_allclose(jacobian_determinant(warp).data, expected, rtol=1e-4)
    assert smallest_jacobian(warp) == pytest.approx(expected, rel=1e-4)


def test_jacobian_sees_a_fold():
    field = np.zeros((9, 9, 9, 3))
    field[4:, :, :, 0] = -2.5  # points beyond x = 4 jump over x = 3
    warp = Displacement(field, np.eye(4))
    assert jacobian_determinant(warp).data.min() < 0
    assert smallest_jacobian(warp) == pytest.approx(-1.5)


def test_fold_between_two_voxels_is_not_hidden_by_central_differences():
    field = np.zeros((9, 9, 9, 3))
    field[4, :, :, 0] = 1.4  # the voxel at 4 lands beyond its neighbour at 5
    warp = Displacement(field, np.eye(4))
    assert jacobian_determinant(warp).data.min() > 0
    assert smallest_jacobian(warp) < 0


def test_jacobian_of_a_warp_leaves_out_the_affine_and_is_one_beyond_the_field():
    where = Grid((9, 9, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    points = where.points_ras() - 8.0
    # 10 % longer along x and y: the brain is larger than the template there
    field = Displacement(points * [0.1, 0.1, 0.0], where.affine)
    double = Affine(np.diag([2.0, 2.0, 2.0, 1.0]))
    wide = Grid((20, 5, 5), np.array([[2.0, 0, 0, 0], [0, 2, 0, 4], [0, 0, 2, 4], [0, 0, 0, 1]]))
    found = warp_jacobian(Chain([field, double]), wide).data
    np.testing.assert_allclose(found[1:8], 1.21, atol=1e-4)
    np.testing.assert_allclose(found[11:], 1.0)
    np.testing.assert_array_equal(warp_jacobian(Chain([double]), wide).data, 1.0)
