"""DVARS by hand and by a second route."""

import numpy as np
import pytest

from deepprep.bold.dvars import compute_dvars


def test_dvars_of_a_step_by_hand():
    series = np.tile(np.array([1000.0, 1000, 1020, 1020, 990, 990, 1000]), (4, 1))
    found = compute_dvars(series)
    assert found.dvars == pytest.approx([np.nan, 0, 20, 0, 30, 0, 10], nan_ok=True, abs=1e-3)


def test_intensity_scale_does_not_matter():
    series = np.random.default_rng(0).normal(500, 10, size=(200, 50))
    first, second = compute_dvars(series), compute_dvars(series * 7)
    np.testing.assert_allclose(first.dvars[1:], second.dvars[1:], rtol=1e-4)
    np.testing.assert_allclose(first.std_dvars[1:], second.std_dvars[1:], rtol=1e-4)


def test_stationary_noise_has_standardised_dvars_of_one():
    random = np.random.default_rng(1)
    white = random.normal(size=(3000, 200))
    series = 1000 + 10 * white
    assert compute_dvars(series).std_dvars[1:].mean() == pytest.approx(1, abs=0.03)
    # Autocorrelated noise changes less from frame to frame; the standard accounts for it.
    smooth = (white[:, 1:] + white[:, :-1]) / np.sqrt(2)
    assert compute_dvars(1000 + 10 * smooth).std_dvars[1:].mean() == pytest.approx(1, abs=0.03)


def test_formula_voxel_by_voxel():
    series = np.random.default_rng(2).normal(800, 20, size=(7, 40))
    scaled = series / np.median(series) * 1000
    expected = []
    for voxel in scaled:
        low, high = sorted(voxel)[int(0.25 * 39)], sorted(voxel)[int(0.75 * 39)]
        x = voxel - voxel.mean()
        ar1 = (x[1:] @ x[:-1]) / (x @ x)
        expected.append(np.sqrt(2 * (1 - ar1)) * (high - low) / 1.349)
    change = np.sqrt((np.diff(scaled, axis=1) ** 2).mean(axis=0))
    np.testing.assert_allclose(
        compute_dvars(series).std_dvars[1:], change / np.mean(expected), rtol=1e-4
    )


def test_silent_voxels_are_left_out():
    series = np.random.default_rng(3).normal(1000, 10, size=(100, 50))
    padded = np.vstack([series, np.full((100, 50), 1000.0)])
    np.testing.assert_allclose(
        compute_dvars(padded).dvars[1:], compute_dvars(series).dvars[1:], rtol=2e-3
    )


@pytest.mark.parametrize("series", [np.empty((0, 5)), np.zeros((3, 5)), np.ones((3, 5)),
                                    np.ones((3, 1))])  # fmt: skip
def test_nothing_to_measure_is_missing_not_an_error(series):
    found = compute_dvars(series)
    assert found.dvars.shape == (series.shape[1],)
    assert np.isnan(found.dvars).all() and np.isnan(found.std_dvars).all()
