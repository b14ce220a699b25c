"""Compiled kernels against torch."""

import numpy as np
import torch

from deepprep.registration.velocity import identity, sample
from deepprep.registration.warping import demons_force, pull_trilinear

RNG = np.random.default_rng(0)
ONES = np.ones((6, 7, 8), np.float32)


def test_pulling_equals_grid_sample_inside_and_outside():
    values = RNG.normal(size=(2, 9, 10, 11)).astype(np.float32)
    field = RNG.normal(scale=4, size=(3, 9, 10, 11)).astype(np.float32)
    coords = identity((9, 10, 11)) + torch.from_numpy(field)
    expected = sample(torch.from_numpy(values), coords).numpy()
    np.testing.assert_allclose(pull_trilinear(values, field), expected, atol=2e-5)


def test_pulling_by_a_shift_reads_the_neighbour():
    values = RNG.normal(size=(1, 5, 5, 5)).astype(np.float32)
    field = np.zeros((3, 5, 5, 5), np.float32)
    field[0] = 1
    np.testing.assert_allclose(pull_trilinear(values, field)[0, :4], values[0, 1:], atol=1e-6)


def test_force_is_the_demons_formula():
    fixed, moved = RNG.normal(size=(2, 2, 6, 7, 8)).astype(np.float32)
    slope = 0.5 * np.stack(np.gradient(fixed + moved, axis=(1, 2, 3)), axis=1)
    residual = fixed - moved
    power = (slope**2).sum((0, 1)) + 0.4 * (residual**2).sum(0) + 1e-6
    expected = (residual[:, None] * slope).sum(0) / power
    np.testing.assert_allclose(
        demons_force(fixed, moved, np.float32(0.4), ONES), expected, rtol=1e-3, atol=1e-5
    )


def test_force_of_a_ramp_points_to_the_match_and_is_bounded():
    ramp = np.broadcast_to(np.arange(12, dtype=np.float32)[None, :, None, None], (1, 12, 6, 6))
    everywhere = np.ones(ramp.shape[1:], np.float32)
    # the moved image must be read half a voxel further on to look like the fixed one
    force = demons_force(np.ascontiguousarray(ramp + 0.5), ramp.copy(), np.float32(0.0), everywhere)
    np.testing.assert_allclose(force[0], 0.5, atol=1e-5)
    np.testing.assert_allclose(force[1:], 0, atol=1e-6)
    far = demons_force(np.ascontiguousarray(ramp + 50), ramp.copy(), np.float32(1.0), everywhere)
    assert np.abs(far).max() <= 0.5


def test_force_is_weighted_and_nought_in_a_lesion():
    fixed, moved = RNG.normal(size=(2, 2, 6, 7, 8)).astype(np.float32)
    weight = RNG.uniform(0.1, 1, size=(6, 7, 8)).astype(np.float32)
    weight[2:4] = 0
    whole = demons_force(fixed, moved, np.float32(0.4), ONES)
    np.testing.assert_allclose(
        demons_force(fixed, moved, np.float32(0.4), weight), whole * weight, rtol=1e-5, atol=1e-7
    )
