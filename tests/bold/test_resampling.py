"""One-shot resampling against scipy and known shifts."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.bold.resampling import ShiftField, resample_bold
from deepprep.image.resample import input_voxels
from deepprep.image.volume import Grid, Volume
from tests.bold import simulated


class _Map:
    def __init__(self, matrix):
        self.matrix = matrix

    def map_points(self, points):
        return points @ self.matrix[:3, :3].T + self.matrix[:3, 3]


def test_same_lattice_gives_the_same_values():
    lattice = simulated.grid(shape=(12, 14, 9), flip_x=True)
    data = np.random.default_rng(0).normal(size=(*lattice.shape, 3)).astype(np.float32)
    out = resample_bold(Volume(data, lattice.affine), None, lattice)
    np.testing.assert_allclose(out.data, data, atol=2e-5)
    assert out.data.flags.f_contiguous and out.data.dtype == np.float32


def test_agrees_with_scipy_through_motion_and_a_map():
    lattice = simulated.grid(shape=(24, 20, 14), zooms=(3, 3, 4.5), oblique_rad=(0.1, 0, 0.2))
    random = np.random.default_rng(1)
    data = ndimage.gaussian_filter(random.normal(size=(*lattice.shape, 2)), (1, 1, 1, 0)) * 1000
    bold = Volume(data.astype(np.float32), lattice.affine)
    target = simulated.grid(shape=(30, 28, 26), zooms=(2, 2, 2), flip_x=True)
    to_ref = simulated.rigid(np.array([2.0, -1, 3]), np.array([0.1, -0.05, 0.02]))
    motion = np.stack([
        simulated.rigid(np.array([0.7, 0.2, -1]), np.array([0.01, 0.02, 0])),
        simulated.rigid(np.array([-1, 0, 0.4]), np.array([0, -0.03, 0.01])),
    ])  # fmt: skip
    out = resample_bold(bold, motion, target, _Map(to_ref))
    for t in range(2):
        where = input_voxels(lattice, target, _Map(motion[t] @ to_ref))
        expected = ndimage.map_coordinates(bold.data[..., t], where, order=3, mode="mirror")
        size = np.array(lattice.shape)[:, None, None, None]
        inside = np.all((where >= 0) & (where <= size - 1), axis=0)
        assert 0.1 < inside.mean() < 1
        scale = np.abs(expected[inside]).max()
        assert np.abs(out.data[..., t] - expected)[inside].max() < 1e-3 * scale
        outside = np.any((where < -0.51) | (where > size - 0.49), axis=0)
        assert (out.data[..., t][outside] == 0).all()


def test_motion_is_undone():
    lattice = simulated.grid()
    moved = simulated.rigid(np.array([4.0, -3, 2]), np.array([0.03, 0.02, -0.04]))
    frames = simulated.series(lattice, moved[np.newaxis])
    out = resample_bold(frames, moved[np.newaxis], lattice).data[..., 0]
    still = simulated.frame(lattice)
    inner = np.zeros(lattice.shape, bool)
    inner[4:-4, 4:-4, 4:-4] = True
    assert (
        np.abs(out - still)[inner].mean() < 0.2 * np.abs(frames.data[..., 0] - still)[inner].mean()
    )
    assert np.corrcoef(out[inner], still[inner])[0, 1] > 0.999


def test_mask_limits_the_work_and_fill_the_rest():
    lattice = simulated.grid(shape=(8, 9, 7))
    bold = Volume(np.full((*lattice.shape, 2), 10, np.float32), lattice.affine)
    mask = np.zeros(lattice.shape, bool)
    mask[2:4] = True
    out = resample_bold(bold, None, lattice, mask=mask, fill=-1).data
    assert out[mask] == pytest.approx(10, abs=1e-4)
    assert (out[~mask] == -1).all()


def test_integers_are_rounded_and_clipped():
    lattice = simulated.grid(shape=(6, 6, 6))
    data = np.zeros((*lattice.shape, 1), np.float32)
    data[..., 0] = 99.7
    data[0] = 1e6
    out = resample_bold(Volume(data, lattice.affine), None, lattice, dtype=np.int16).data
    assert out.dtype == np.int16
    assert (out[0] == 32767).all() and (out[4:] == 100).all()


def test_nan_stays_local():
    lattice = simulated.grid(shape=(12, 12, 12))
    data = np.full((*lattice.shape, 1), 7.0, np.float32)
    data[5, 5, 5] = np.nan
    out = resample_bold(Volume(data, lattice.affine), None, lattice).data[..., 0]
    assert np.isfinite(out).all()
    assert out[0, 0, 0] == pytest.approx(7, abs=0.01)


def test_single_slice_and_single_frame():
    grid = Grid((7, 8, 1), np.diag([3.0, 3, 3, 1]))
    data = np.arange(56, dtype=np.float32).reshape(7, 8, 1)
    out = resample_bold(Volume(data, grid.affine), None, grid)
    np.testing.assert_allclose(out.data, data, atol=1e-4)


def test_shift_field_moves_along_its_axis_and_scales():
    lattice = simulated.grid(shape=(10, 12, 8))
    ramp = np.broadcast_to(np.arange(12.0)[None, :, None, None], (10, 12, 8, 1)).astype(np.float32)
    shift = np.full(lattice.shape, 1.5, np.float32)
    field = ShiftField(shift, axis=1, jacobian=np.full(lattice.shape, 2.0))
    out = resample_bold(Volume(ramp, lattice.affine), None, lattice, shift_field=field)
    assert out.data[5, 5, 4, 0] == pytest.approx(2 * 6.5, abs=0.01)


def test_wrong_number_of_affines_is_refused():
    lattice = simulated.grid(shape=(4, 4, 4))
    bold = Volume(np.zeros((4, 4, 4, 3), np.float32), lattice.affine)
    with pytest.raises(ValueError, match="3 frames"):
        resample_bold(bold, np.tile(np.eye(4), (2, 1, 1)), lattice)


def test_progress_counts_frames():
    lattice = simulated.grid(shape=(4, 4, 4))
    seen = []
    bold = Volume(np.zeros((4, 4, 4, 3), np.float32), lattice.affine)
    resample_bold(bold, None, lattice, on_chunk=lambda done, n: seen.append((done, n)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
