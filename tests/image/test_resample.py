"""Resampling: identity, known shifts, signs, orientations, anisotropic and oblique lattices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.image.resample import input_voxels, resample, resample_image
from deepprep.image.volume import Grid, Volume


class Shift:
    """Output point -> input point by adding a vector, in RAS mm."""

    def __init__(self, *mm: float) -> None:
        self.mm = np.array(mm)

    def map_points(self, points: np.ndarray) -> np.ndarray:
        return points + self.mm


def blob(shape=(24, 26, 22), affine=None, centre=(12, 13, 11)) -> Volume:
    data = np.zeros(shape, dtype=np.float32)
    data[centre] = 1
    data = ndimage.gaussian_filter(data, 2.0)
    return Volume(data / data.max(), np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)


@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_identity_returns_the_values(interpolation):
    volume = blob()
    out = resample(volume, volume.grid, None, interpolation)
    np.testing.assert_allclose(out.data, volume.data, atol=2e-5)


def test_point_map_of_plus_two_mm_moves_the_image_one_voxel_to_the_left():
    # The output at x shows the input at x + 2 mm: what was at voxel 12 is now at 11.
    volume = blob()
    out = resample(volume, volume.grid, Shift(2.0, 0, 0), "linear")
    assert np.unravel_index(out.data.argmax(), out.shape) == (11, 13, 11)
    np.testing.assert_allclose(out.data[:-1], volume.data[1:], atol=1e-5)


def test_anisotropic_voxels_shift_by_millimetres_not_voxels():
    volume = blob()
    out = resample(volume, volume.grid, Shift(0, 0, 3.0), "linear")
    np.testing.assert_allclose(out.data[..., :-1], volume.data[..., 1:], atol=1e-5)


def test_a_las_lattice_shows_the_same_world():
    volume = blob(centre=(8, 13, 11))
    flipped = np.array(volume.affine)
    flipped[0, 0] *= -1
    flipped[0, 3] = volume.affine[0, 0] * (volume.shape[0] - 1)
    out = resample(volume, Grid(volume.shape, flipped), None, "nearest")
    np.testing.assert_array_equal(out.data, volume.data[::-1])


def test_oblique_lattice_agrees_with_scipy():
    rng = np.random.default_rng(0)
    rotation = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.5, 2.0, 2.5]
    affine[:3, 3] = [-10, 5, 3]
    volume = Volume(ndimage.gaussian_filter(rng.random((20, 21, 22)), 1.5).astype("f4"), affine)
    target = Grid((15, 16, 17), np.diag([2.0, 2.0, 2.0, 1.0]))
    coords = (
        np.linalg.inv(affine) @ np.c_[target.points_ras().reshape(-1, 3), np.ones(15 * 16 * 17)].T
    )
    for interpolation, order in (("cubic", 3), ("linear", 1)):
        out = resample(volume, target, None, interpolation).data
        want = ndimage.map_coordinates(
            volume.data, coords[:3], order=order, mode="grid-constant"
        ).reshape(target.shape)
        inside = (
            ndimage.map_coordinates(np.ones(volume.shape), coords[:3], order=1).reshape(
                target.shape
            )
            > 0.999
        )
        assert inside.sum() > 100
        assert np.abs(out - want)[inside].max() < 1e-3 * volume.data.max()


def test_labels_keep_their_values_and_borders_stay_in_place():
    data = np.zeros((20, 20, 20), dtype=np.uint8)
    data[5:15, 5:15, 5:10] = 3
    data[5:15, 5:15, 10:15] = 41
    volume = Volume(data, np.eye(4))
    fine = Grid(
        (40, 40, 40),
        np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]),
    )
    out = resample(volume, fine, None, "label")
    assert set(np.unique(out.data)) == {0, 3, 41}
    assert out.data.dtype == np.uint8
    for value in (3, 41):
        assert (out.data == value).sum() == pytest.approx(8 * (data == value).sum(), rel=0.03)


def test_series_are_resampled_frame_by_frame():
    volume = blob()
    series = volume.like(np.stack([volume.data, 2 * volume.data], axis=3))
    out = resample(series, volume.grid, Shift(2.0, 0, 0), "linear")
    np.testing.assert_allclose(out.data[..., 1], 2 * out.data[..., 0], atol=1e-6)


def test_outside_the_field_of_view_is_the_fill_value():
    volume = blob()
    out = resample(volume, volume.grid, Shift(500.0, 0, 0), "linear", fill=-7.0)
    assert (out.data == -7).all()


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-20, 20)] * 3))
def test_voxel_coordinates_invert_the_affine(mm):
    grid = Grid((3, 4, 5), np.diag([-2.0, 3.0, 1.5, 1.0]))
    coords = input_voxels(grid, grid, Shift(*mm))
    back = np.moveaxis(coords, 0, -1) * [-2.0, 3.0, 1.5]
    np.testing.assert_allclose(back, grid.points_ras() + mm, atol=1e-4)


def test_an_image_keeps_its_range_and_its_empty_background():
    data = np.zeros((24, 24, 24), dtype=np.float32)
    data[6:18, 6:18, 6:18] = 100
    volume = Volume(data, np.diag([2.0, 2.0, 2.0, 1.0]))
    moved = Shift(0.9, -0.7, 0.4)
    sharp = resample(volume, volume.grid, moved, "cubic").data
    assert sharp.min() < -1 and sharp.max() > 101 and (sharp != 0).mean() > 0.5
    out = resample_image(volume, volume.grid, moved).data
    assert out.min() == 0 and out.max() == 100
    assert (out != 0).sum() == pytest.approx(12**3, rel=0.1)


def test_labels_are_the_arg_max_of_their_interpolated_maps():
    rng = np.random.default_rng(5)
    coarse = rng.choice(np.array([0, 2, 3, 41, 1035], np.int16), (5, 6, 4))
    labels = np.kron(coarse, np.ones((3, 3, 3), np.int16))
    volume = Volume(labels, np.diag([1.0, 1.2, 1.5, 1.0]))
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix() * 0.8
    turned[:3, 3] = (-2, -3, 1)
    target = Grid((24, 22, 20), turned)
    out = resample(volume, target, None, "label", fill=7)
    coords = input_voxels(volume.grid, target, None)
    values = np.unique(labels)
    maps = [np.pad((labels == value).astype(np.float64), 1) for value in values]
    scores = np.stack(
        [ndimage.map_coordinates(m, coords + 1.0, order=1, mode="constant") for m in maps]
    )
    expected = np.where(scores.max(0) > 1e-6, values[scores.argmax(0)], 7)
    ordered = np.sort(scores, axis=0)
    sure = ordered[-1] - ordered[-2] > 1e-5  # elsewhere rounding decides
    sure |= scores.max(0) == 0
    assert out.data.dtype == np.int16
    np.testing.assert_array_equal(out.data[sure], expected[sure])
    assert sure.mean() > 0.9
    assert (out.data == 7).any()
