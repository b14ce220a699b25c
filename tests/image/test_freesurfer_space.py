"""FreeSurfer's conformed lattice: known headers, world positions kept, labels keep their volume."""

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepprep.image import freesurfer_space as space
from deepprep.image.volume import Grid, Volume


def lattice(
    flip=(1, 1, 1), zooms=(1.0, 1.0, 1.0), shape=(60, 71, 64), turn_deg=0.0, order=(0, 1, 2)
):
    """A lattice whose middle lies at RAS (5, -12, 8)."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [turn_deg, -turn_deg / 2, turn_deg / 3], degrees=True)
    affine[:3, :3] = (turn.as_matrix() @ np.diag(np.array(flip) * zooms))[:, order]
    affine[:3, 3] = [5, -12, 8] - affine[:3, :3] @ (np.array(shape) / 2.0)
    return Grid(shape, affine)


INPUTS = {
    "RAS": lattice(),
    "LAS": lattice(flip=(-1, 1, 1)),
    "PSR": lattice(order=(1, 2, 0), flip=(1, -1, 1)),
    "anisotropic": lattice(zooms=(0.7, 1.3, 2.0), shape=(90, 60, 40)),
    "oblique": lattice(turn_deg=17, flip=(-1, 1, 1), zooms=(1.0, 0.9, 1.2)),
}


@pytest.mark.parametrize("grid", INPUTS.values(), ids=INPUTS.keys())
def test_world_positions_are_kept(grid):
    target = space.conformed_grid(grid)
    corner = np.array([100, 100, 100])
    small = Grid((56, 56, 56), target.affine @ nib.affines.from_matvec(np.eye(3), corner))
    inside = nib.affines.apply_affine(grid.ras2vox, small.points_ras())
    inside = ((inside > 0) & (inside < np.array(grid.shape) - 1)).all(-1)
    assert inside.mean() > 0.25
    for axis in range(3):
        # The image holds its own world coordinate, which trilinear sampling reproduces.
        image = Volume(grid.points_ras()[..., axis].astype(np.float32), grid.affine)
        found = space.conform_image(image, small).data
        error_mm = np.abs(found - small.points_ras()[..., axis])[inside]
        assert error_mm.max() < 0.01


@pytest.mark.parametrize("grid", INPUTS.values(), ids=INPUTS.keys())
def test_the_cube_is_256_lia_about_the_centre_of_the_image(grid):
    target = space.conformed_grid(grid)
    assert target.shape == (256, 256, 256)
    assert target.axcodes == ("L", "I", "A")
    np.testing.assert_allclose(target.zooms_mm, 1)
    np.testing.assert_allclose(space.centre_ras(target), [5, -12, 8], atol=1e-9)
    np.testing.assert_allclose(space.centre_ras(target), space.centre_ras(grid), atol=1e-9)


def test_a_large_field_of_view_gets_a_larger_cube():
    large = Grid((384, 384, 274), np.diag([0.7, 0.7, 0.67, 1]))
    assert space.conformed_grid(large).shape == (270, 270, 270)
    noisy = Grid((256, 256, 176), np.diag([1.00001, 1, 1, 1]))
    assert space.conformed_grid(noisy).shape == (256, 256, 256)


def test_surface_coordinates_are_those_of_tkregister():
    grid = space.conformed_grid(INPUTS["oblique"])
    expected = [[-1, 0, 0, 128], [0, 0, 1, -128], [0, -1, 0, 128], [0, 0, 0, 1]]
    np.testing.assert_allclose(space.vox2ras_tkr(grid), expected)
    shift = np.eye(4)
    shift[:3, 3] = [-5, 12, -8]
    np.testing.assert_allclose(space.ras_to_tkr(grid), shift, atol=1e-9)


@pytest.mark.parametrize("name", ["RAS", "anisotropic", "oblique"])
def test_helpers_agree_with_nibabel(name):
    grid = INPUTS[name]
    header = nib.MGHImage(np.zeros(grid.shape, np.uint8), grid.affine).header
    np.testing.assert_allclose(space.vox2ras_tkr(grid), header.get_vox2ras_tkr(), atol=1e-4)
    np.testing.assert_allclose(space.centre_ras(grid), header["Pxyz_c"], atol=1e-4)


def test_the_lattice_of_a_real_orig_is_met(shared_data):
    for path in sorted((shared_data / "freesurfer-silver").glob("sub-*/mri/T1.mgz")):
        real = nib.load(path)
        found = space.conformed_grid(Grid(real.shape, real.affine))
        np.testing.assert_allclose(found.affine, real.affine, atol=1e-4)
        assert found.shape == real.shape


def test_byte_limits_follow_the_histogram_rule():
    # 100,000 values, evenly over 1..1000: 100 may saturate, which is one bin; two bins less.
    data = np.linspace(1, 1000, 100_000, dtype=np.float32)
    found = space.byte_scaling(data)
    assert found.low == 1
    assert found.high == pytest.approx(1 + 999 * 0.996, abs=1.1)
    scaled = found.apply(np.array([0, 1, found.high, 2000], dtype=np.float32))
    np.testing.assert_array_equal(scaled, [0, 0, 255, 255])


def test_a_bright_vessel_does_not_darken_the_head():
    data = np.random.default_rng(0).uniform(0, 400, 200_000).astype(np.float32)
    data[:50] = 20_000
    assert space.byte_scaling(data).high < 500


def test_bytes_stay_bytes_and_constants_are_refused():
    data = np.array([[[3, 77, 200]]], np.uint8)
    np.testing.assert_array_equal(space.byte_scaling(data).apply(data), data)
    with pytest.raises(ValueError, match="constant"):
        space.byte_scaling(np.ones((4, 4, 4), np.float32))


def two_balls(grid):
    points = grid.points_ras() - [5, -12, 8]
    labels = np.zeros(grid.shape, np.uint8)
    labels[np.linalg.norm(points, axis=-1) < 18] = 3
    labels[np.linalg.norm(points - [4, 0, 0], axis=-1) < 9] = 17
    return Volume(labels, grid.affine)


@pytest.mark.parametrize("name", ["RAS", "LAS", "PSR"])
def test_labels_are_copied_where_only_the_order_of_axes_differs(name):
    grid = INPUTS[name]
    even = Grid(tuple(n + n % 2 for n in grid.shape), lattice(shape=(60, 72, 64)).affine)
    labels = two_balls(even)
    found = space.conform_labels(labels, space.conformed_grid(even))
    for label in (3, 17):
        assert (found.data == label).sum() == (labels.data == label).sum()


@pytest.mark.parametrize("grid", INPUTS.values(), ids=INPUTS.keys())
def test_labels_keep_place_and_volume(grid):
    labels = two_balls(grid)
    found = space.conform_labels(labels, space.conformed_grid(grid))
    assert found.data.dtype == np.uint8
    for label in (3, 17):
        before = nib.affines.apply_affine(grid.affine, np.argwhere(labels.data == label))
        after = nib.affines.apply_affine(found.affine, np.argwhere(found.data == label))
        # Half a voxel where the lattices are just that far apart, else less.
        np.testing.assert_allclose(after.mean(0), before.mean(0), atol=0.5)
        volume = len(before) * grid.voxel_volume_mm3
        assert len(after) == pytest.approx(volume, rel=0.03)


def test_no_labels_give_no_labels():
    empty = Volume(np.zeros((20, 21, 22), np.uint8), np.diag([1.1, 1, 1, 1]))
    assert not space.conform_labels(empty, space.conformed_grid(empty.grid)).data.any()
