"""Smooth invertible registration: known warps, no folds, inverse, order of composition."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration import diffeomorphic, flow
from deepprep.registration.diffeomorphic import (
    ChannelPair,
    Level,
    register_diffeomorphic,
    rough_map,
)
from deepprep.registration.flow import (
    _near,
    _refine_smoothly,
    lattice,
    voxel_lattice,
    whole_lattice,
)
from deepprep.registration.folding import smallest_corner_determinant
from deepprep.registration.transforms import (
    Affine,
    Chain,
    Displacement,
    jacobian_determinant,
    smallest_jacobian,
)
from deepprep.registration.velocity import Smoother, compose, exponential, identity, invert
from deepprep.registration.warping import agreement
from tests.registration.heads import T1W, brain_points, error_mm, grid, motion, paint

LEVELS = (Level(6.0, 40, 1.2, 0.8), Level(3.0, 25, 1.2, 0.8))


def smooth_warp(size_mm=5.0, seed=4) -> Displacement:
    """A random warp with structure of about 40 mm, at most ``size_mm``."""
    where = grid(3.0)
    rng = np.random.default_rng(seed)
    field = np.stack(
        [ndimage.gaussian_filter(rng.normal(size=where.shape), 6.0) for _ in range(3)], axis=-1
    )
    inside = np.linalg.norm(where.points_ras() / 70.0, axis=-1) < 1
    field *= ndimage.gaussian_filter(inside.astype(float), 3.0)[..., None]
    return Displacement(size_mm * field / np.abs(field).max(), where.affine)


@pytest.fixture(scope="module")
def warped():
    """Fixed, moving, affine part, whole true map (fixed points to moving points), result."""
    init = motion((0, 0, 6), (4, -5, 3), scales=(1.05, 1.0, 0.95))
    truth = Chain([smooth_warp(), init])
    moving_grid = grid(2.5, (1, 1.1, 1), (-1, 1, 1))
    moving = paint(moving_grid, T1W, init.inverse())
    fixed = resample(moving, grid(2.5), truth, "linear")
    return fixed, moving, init, truth, register_diffeomorphic(fixed, moving, init, levels=LEVELS)


def test_known_warp_is_recovered(warped):
    fixed, moving, init, truth, result = warped
    before, after = error_mm(init, truth), error_mm(result.fixed_to_moving(), truth)
    assert before.mean() > 1.5
    assert after.mean() < 0.5 * before.mean()
    aligned = resample(moving, fixed.grid, result.fixed_to_moving(), "linear")
    inside = fixed.data > 10
    assert np.corrcoef(aligned.data[inside], fixed.data[inside])[0, 1] > 0.97


def test_rough_map_is_the_coarsest_level_alone(warped):
    fixed, moving, init, truth, _ = warped
    rough = rough_map(fixed, moving, init)
    assert error_mm(rough, truth).mean() < 0.8 * error_mm(init, truth).mean()
    alone = register_diffeomorphic(fixed, moving, init, levels=diffeomorphic.LEVELS[:1])
    apart = np.linalg.norm(
        rough.map_points(brain_points(2000))
        - alone.fixed_to_moving().map_points(brain_points(2000)),
        axis=1,
    )
    assert apart.mean() < 0.1


def test_nothing_folds(warped):
    result = warped[-1]
    assert smallest_jacobian(result.forward) > 0
    assert smallest_jacobian(result.inverse) > 0
    assert jacobian_determinant(result.forward).data.min() > 0
    assert result.log["smallest_jacobian"] > 0


def test_inverse_undoes_the_whole_map(warped):
    result = warped[-1]
    points = brain_points(2000)
    there = result.fixed_to_moving().map_points(points)
    error = np.linalg.norm(result.moving_to_fixed().map_points(there) - points, axis=1)
    assert error.mean() < 0.1
    assert error.max() < 0.5


def test_inverse_at_the_voxels_of_the_moving_image_is_exact_there(warped):
    _, moving, *_, result = warped
    back = result.moving_to_fixed(moving.grid)
    np.testing.assert_allclose(2 * back.steps[0].grid.zooms_mm, moving.zooms_mm)
    there = moving.grid.points_ras().reshape(-1, 3)[::7]
    own = back.map_points(there)
    # what the forward map makes of it is where it came from; the inverse kept elsewhere is worse
    error = np.linalg.norm(result.fixed_to_moving().map_points(own) - there, axis=1)
    assert np.abs(back.steps[0].field).max() > 1
    assert error.max() < 0.02
    old = result.moving_to_fixed().map_points(there)
    assert np.linalg.norm(old - own, axis=1).max() < 0.5
    assert np.linalg.norm(result.fixed_to_moving().map_points(old) - there, axis=1).max() > 0.02
    far = np.array([[500.0, 0, 0]])
    np.testing.assert_allclose(back.map_points(far), result.init.inverse().map_points(far))


def test_sheared_or_tiny_moving_voxels_get_the_inverse_of_the_fixed_lattice(warped):
    _, moving, *_, result = warped
    sheared = moving.affine.copy()
    sheared[0, 1] = 0.01 * sheared[0, 0]
    odd = Grid(moving.shape, sheared)
    assert odd.shear > 0.005
    tiny = Grid(moving.shape, moving.affine @ np.diag([0.25, 0.25, 0.25, 1]))
    for where in (odd, tiny):
        assert result.moving_to_fixed(where).steps[-1] is result.inverse


def test_whole_lattice_keeps_every_voxel_and_divides_large_ones():
    affine = np.diag([-1.0, 2.0, 3.2, 1.0])
    affine[:3, 3] = (5, 6, 7)
    image = Grid((11, 8, 6), affine)
    whole = whole_lattice(image)
    assert whole.shape == (11, 15, 16)
    np.testing.assert_allclose(whole.zooms_mm, [1.0, 1.0, 3.2 / 3])
    own = whole.points_ras()[::1, ::2, ::3]
    np.testing.assert_allclose(own, image.points_ras(), atol=1e-9)


def test_fine_levels_near_the_brain_alone_find_the_same(warped, monkeypatch):
    """What they leave out is far from the brain: there the coarse level's velocity stays."""
    fixed, moving, init, truth, _ = warped
    levels = (*LEVELS[:1], Level(3.0, 12, 1.2, 0.8))
    monkeypatch.setattr(diffeomorphic, "FINE_SPACING_MM", 3.0)
    part = register_diffeomorphic(fixed, moving, init, levels=levels)
    monkeypatch.setattr(diffeomorphic, "FINE_SPACING_MM", 1.0)
    whole = register_diffeomorphic(fixed, moving, init, levels=levels)
    points = brain_points(2000)
    maps = [result.fixed_to_moving().map_points(points) for result in (part, whole)]
    assert np.linalg.norm(maps[0] - maps[1], axis=1).max() < 0.1
    assert (
        error_mm(part.fixed_to_moving(), truth).mean()
        < 1.1 * error_mm(whole.fixed_to_moving(), truth).mean()
    )
    coarse = register_diffeomorphic(fixed, moving, init, levels=levels[:1])
    far = np.abs(whole.velocity.field - part.velocity.field).max(axis=3)
    assert far[3:-3, 3:-3, 3:-3].max() > 0
    assert smallest_jacobian(part.forward) > 0
    corner = part.velocity.grid.points_ras()[4, 4, 4][None]
    np.testing.assert_allclose(
        part.velocity.map_points(corner), coarse.velocity.map_points(corner), atol=0.05
    )


def test_weights_around_folds_are_the_same_stamped_and_by_distance(monkeypatch):
    fine = Grid((40, 30, 20), np.eye(4))
    coarse = Grid((20, 15, 10), np.diag([2.0, 2, 2, 1]))
    cells = np.zeros((39, 29, 19), bool)
    cells[0, 0, 0] = cells[20, 14, 9] = cells[21, 14, 9] = True
    moved = torch.zeros(3, 40, 30, 20)
    moved[0, 0, 0, 0] = 38.0
    stamped = _near(cells, moved, fine, coarse, 1, torch.device("cpu"))
    monkeypatch.setattr(flow, "MOST_STAMPED", 0)
    again = _near(cells, moved, fine, coarse, 1, torch.device("cpu"))
    np.testing.assert_allclose(again, stamped, atol=1e-6)
    # at both ends of the way of a cell
    assert stamped[0, 0, 0] == stamped[10, 7, 4] == stamped[19, 0, 0] == 1
    # 1 up to two voxels away, 0 from six on
    assert stamped[12, 7, 4] == 1 and 0 < stamped[14, 7, 4] < 1 and stamped[16, 7, 4] == 0


def test_tightness_knows_both_directions():
    wide = np.zeros((3, 6, 6, 6), np.float32)
    wide[0] = 3.0 * np.arange(6)[:, None, None]
    np.testing.assert_allclose(smallest_corner_determinant(wide, False), 4.0)
    np.testing.assert_allclose(smallest_corner_determinant(wide, True), 0.25)
    wide[0] = -0.5 * np.arange(6)[:, None, None]
    np.testing.assert_allclose(smallest_corner_determinant(wide, True), 0.5)
    wide[0] = -2.0 * np.arange(6)[:, None, None]
    np.testing.assert_allclose(smallest_corner_determinant(wide, True), -1.0)


def test_agreement_is_correlation_less_mismatch():
    rng = np.random.default_rng(0)
    fixed, moved = rng.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    counted = rng.random((4, 5, 6)).astype(np.float32)
    counted[0] = 0
    expected = (fixed[:2] * moved[:2]).mean(0) - 0.5 * ((fixed[2] - moved[2]) ** 2)
    found = agreement(fixed, moved, counted, 2)
    np.testing.assert_allclose(found, (expected * counted).sum(), rtol=1e-5)


def test_order_of_composition_is_as_documented(warped):
    result = warped[-1]
    points = brain_points(50)
    np.testing.assert_allclose(
        result.fixed_to_moving().map_points(points),
        result.init.map_points(result.forward.map_points(points)),
    )
    np.testing.assert_allclose(
        result.moving_to_fixed().map_points(points),
        result.inverse.map_points(result.init.inverse().map_points(points)),
    )


def test_field_covers_the_fixed_image_and_fades_to_nothing(warped):
    fixed, *_, result = warped
    corners = fixed.grid.points_ras()[:: fixed.shape[0] - 1, :: fixed.shape[1] - 1]
    voxels = corners.reshape(-1, 3) @ result.forward.grid.ras2vox[:3, :3].T
    voxels += result.forward.grid.ras2vox[:3, 3]
    assert voxels.min() > -0.5
    assert (voxels < np.array(result.forward.grid.shape) - 0.5).all()
    assert np.abs(result.forward.field[0]).max() == 0
    assert np.abs(result.forward.field[..., -1, :]).max() == 0


def test_maps_lie_on_the_voxels_of_the_fixed_image(warped):
    fixed, *_, result = warped
    # 2.5 mm voxels are halved
    at = fixed.grid.ras2vox @ result.forward.affine
    np.testing.assert_allclose(at[:3, :3], np.eye(3) / 2, atol=1e-12)
    np.testing.assert_allclose(at[:3, 3] * 2, np.rint(at[:3, 3] * 2), atol=1e-9)


@pytest.mark.parametrize(
    ("zooms", "step"),
    [((1, 1, 1), 1), ((0.4, 0.7, 2), (3, 2, 0.5)), ((3, 1.5, 1.6), (0.5, 1, 0.5))],
)
def test_voxels_are_joined_or_divided_to_about_one_millimetre(zooms, step):
    affine = motion((10, 20, 30), (3, -4, 5)).matrix @ np.diag([*zooms, 1.0])
    fixed = Grid((40, 50, 30), affine)
    work = lattice(fixed, np.ones(fixed.shape, bool), 1.5)
    found = voxel_lattice(fixed, work)
    at = fixed.ras2vox @ found.affine
    np.testing.assert_allclose(at[:3, :3], np.diag(np.broadcast_to(step, 3)), atol=1e-9)
    first = at[:3, 3] / np.broadcast_to(step, 3)
    np.testing.assert_allclose(first, np.rint(first), atol=1e-6)
    # all of the working lattice but what is less than one voxel at its ends
    ends = np.array([[0, 0, 0], np.array(found.shape) - 1]) @ found.affine[:3, :3].T
    ends = (ends + found.affine[:3, 3]) @ work.ras2vox[:3, :3].T + work.ras2vox[:3, 3]
    room = found.zooms_mm / 1.5 + 1e-6
    assert (ends[0] > -1e-6).all() and (ends[0] < room).all()
    left = np.array(work.shape) - 1 - ends[1]
    assert (left > -1e-6).all() and (left < room).all()


def test_a_velocity_is_refined_without_kinks():
    coarse, fine = Grid((12, 13, 14), np.diag([1.5, 1.5, 1.5, 1])), np.diag([1.0, 1.0, 1.0, 1])
    fine[:3, 3] = 2.0
    fine = Grid((11, 12, 13), fine)

    # a cubic of the position is met exactly, and voxels become larger in number
    def cubic(grid):
        x, y, z = np.moveaxis(grid.points_ras(), -1, 0)
        return np.stack([(x / 9) ** 3, y * z / 99, 1 + x * 0])

    velocity = torch.from_numpy((cubic(coarse) / 1.5).astype(np.float32))
    np.testing.assert_allclose(_refine_smoothly(velocity, coarse, fine), cubic(fine), atol=1e-4)


def test_no_weight_of_a_gaussian_is_a_denormal():
    for matrix in Smoother((120, 90, 60), 0.7).matrices:
        assert matrix[matrix > 0].min() > 1e-8


def test_equal_images_stay_where_they_are():
    head = paint(grid(), T1W)
    result = register_diffeomorphic(head, head, Affine.identity(), levels=LEVELS[:1])
    assert np.abs(result.forward.field).max() < 0.05


def test_runs_are_equal():
    fixed, moving = paint(grid(), T1W), paint(grid(), T1W, seed=3)
    fields = [
        register_diffeomorphic(fixed, moving, Affine.identity(), levels=LEVELS[:1]).forward.field
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*fields)


def test_tissue_maps_pull_where_the_image_shows_nothing():
    flat = paint(grid(), (50.0, 50.0, 50.0))
    shift = motion(mm=(4, 0, 0))
    ball = Volume(
        (np.linalg.norm(grid().points_ras(), axis=-1) < 20).astype(np.float32), grid().affine
    )
    moved = resample(ball, grid(), shift.inverse(), "linear")
    result = register_diffeomorphic(
        flat, flat, Affine.identity(), channels=[ChannelPair(ball, moved)], levels=LEVELS
    )
    edge = np.array([[20.0, 0, 0], [-20.0, 0, 0]])
    pulled = result.fixed_to_moving().map_points(edge) - edge
    np.testing.assert_allclose(pulled[:, 0], 4.0, atol=1.2)


def test_exponential_of_a_constant_is_a_shift():
    shape = (12, 13, 14)
    velocity = torch.ones(3, *shape) * torch.tensor([1.5, -0.5, 0.25]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(exponential(velocity, identity(shape)), velocity, atol=1e-5)


def test_exponential_of_a_linear_field_is_the_matrix_exponential():
    shape = (21, 21, 21)
    ident = identity(shape)
    slope = torch.tensor([[0.1, -0.2, 0.0], [0.2, 0.05, 0.0], [0.0, 0.0, -0.1]])
    centred = ident - 10.0
    velocity = torch.einsum("ij,jxyz->ixyz", slope, centred)
    flow = exponential(velocity, ident, max_step_vox=0.01)
    expected = torch.einsum("ij,jxyz->ixyz", torch.matrix_exp(slope), centred) - centred
    inner = np.s_[:, 7:14, 7:14, 7:14]
    np.testing.assert_allclose(flow[inner], expected[inner], atol=0.02)


def test_inverse_of_a_field_is_exact_at_voxels():
    shape = (20, 21, 22)
    ident = identity(shape)
    field = Smoother(shape, 3.0)(torch.randn(3, *shape, generator=torch.manual_seed(0))) * 15
    inner = np.s_[:, 4:-4, 4:-4, 4:-4]
    assert field.abs().max() > 1
    assert compose(-field, field, ident)[inner].abs().max() > 0.1
    assert compose(invert(field, -field), field, ident)[inner].abs().max() < 2e-3


def test_inverse_of_a_linear_field_is_known():
    shape = (20, 21, 22)
    ident = identity(shape) - 10.0
    slope = torch.tensor([[0.3, -0.2, 0.1], [0.2, -0.4, 0.0], [0.0, 0.1, -0.3]])
    field = torch.einsum("ij,jxyz->ixyz", slope, ident) + 0.5
    there = torch.linalg.inv(torch.eye(3) + slope)
    known = torch.einsum("ij,jxyz->ixyz", there, ident - 0.5) - ident
    inner = np.s_[:, 8:13, 8:13, 8:13]
    np.testing.assert_allclose(invert(field, -field)[inner], known[inner], atol=2e-3)


def test_inverse_never_gets_worse_than_its_guess():
    shape = (12, 12, 12)
    # folds: no inverse exists everywhere
    field = torch.randn(3, *shape, generator=torch.manual_seed(1)) * 2
    ident = identity(shape)
    before = compose(-field, field, ident).norm(dim=0)
    after = compose(invert(field, -field), field, ident).norm(dim=0)
    assert (after <= before + 1e-4).all()


def test_smoother_keeps_constants_and_total():
    values = torch.zeros(1, 15, 15, 15)
    values[0, 7, 7, 7] = 1
    np.testing.assert_allclose(Smoother((15, 15, 15), 1.0)(values).sum(), 1, atol=1e-4)
    ones = torch.ones(2, 5, 6, 7)
    np.testing.assert_allclose(Smoother((5, 6, 7), box_radius=2)(ones), ones, atol=1e-6)
