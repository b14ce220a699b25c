"""Dummy scans and the reference volume."""

import numpy as np
import pytest

from deepprep.bold.reference import bold_reference, detect_non_steady_state
from deepprep.image.volume import Volume
from tests.bold import simulated


def _noisy_run(n: int, seed: int = 0) -> Volume:
    lattice = simulated.grid(shape=(30, 36, 20), zooms=(5, 5, 6))
    random = np.random.default_rng(seed)
    data = simulated.frame(lattice)[..., None] + random.normal(scale=15, size=(*lattice.shape, n))
    return Volume(data.astype(np.float32), lattice.affine)


@pytest.mark.parametrize("n_dummy", [0, 1, 3])
def test_bright_first_frames_are_counted(n_dummy):
    run = _noisy_run(30)
    for t in range(n_dummy):
        run.data[..., t] *= 1.5 - 0.1 * t
    assert detect_non_steady_state(run) == n_dummy


def test_bright_frame_later_is_no_dummy():
    run = _noisy_run(20)
    run.data[..., 10] *= 1.5
    assert detect_non_steady_state(run) == 0


def test_constant_run_and_single_frame_have_no_dummies():
    assert detect_non_steady_state(Volume(np.ones((3, 3, 3, 10), np.float32), np.eye(4))) == 0
    assert detect_non_steady_state(Volume(np.ones((3, 3, 3), np.float32), np.eye(4))) == 0


def test_reference_has_less_noise_and_no_outlier_frames():
    run = _noisy_run(24)
    run.data[..., 7] += 400
    run.data[..., 0] *= 1.6
    found = bold_reference(run, n_dummy=1, max_frames=12)
    truth = simulated.frame(run.grid)
    assert len(found.frames_used) == 12
    assert 0 not in found.frames_used and 7 not in found.frames_used
    inner = truth > 300
    error = found.volume.data - truth
    # Twelve frames, the middle half averaged: about 15 / sqrt(12) x 1.2 plus interpolation.
    assert np.sqrt((error[inner] ** 2).mean()) < 9
    assert np.abs(error[inner].mean()) < 5


def test_reference_of_moving_frames_is_sharp():
    lattice = simulated.grid()
    random = np.random.default_rng(2)
    motions = np.stack([
        simulated.rigid(random.normal(size=3) * 4, random.normal(size=3) * 0.05) for _ in range(9)
    ])  # fmt: skip
    run = simulated.series(lattice, motions)
    found = bold_reference(run).volume.data
    still = simulated.frame(lattice)
    # Blurring by motion lowers the gradient; alignment keeps it.
    sharpness = [np.sqrt(sum((g**2).mean() for g in np.gradient(v))) for v in
                 (found, run.data.mean(axis=3), still)]  # fmt: skip
    assert sharpness[0] > 0.97 * sharpness[2] > sharpness[1]


def test_one_frame_is_returned_as_it_is():
    run = _noisy_run(1)
    found = bold_reference(run)
    assert np.array_equal(found.volume.data, run.data[..., 0])
    assert found.frames_used == (0,)


def test_nan_and_empty_runs_give_finite_references():
    run = _noisy_run(8)
    run.data[:3] = np.nan
    assert np.isfinite(bold_reference(run).volume.data).all()
    empty = Volume(np.zeros((6, 6, 6, 8), np.float32), np.eye(4))
    assert (bold_reference(empty).volume.data == 0).all()
