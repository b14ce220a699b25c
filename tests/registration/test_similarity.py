"""Similarities and their derivatives."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import approx_fprime

from deepprep.registration.linear import Motion
from deepprep.registration.similarity import (
    correlation,
    histogram_bins,
    mutual_information,
    pose_gradient,
    sample_points,
)
from tests.registration.heads import motion

RNG = np.random.default_rng(0)


def smooth_image(shape=(14, 15, 16)):
    image = ndimage.gaussian_filter(RNG.normal(size=shape), 2.0)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def test_values_agree_with_scipy_and_fade_outside():
    image = smooth_image()
    points = RNG.uniform(0, 13, size=(100, 3))
    value, _, weight, _ = sample_points(image, np.eye(4), points)
    np.testing.assert_allclose(value, ndimage.map_coordinates(image, points.T, order=1), atol=1e-6)
    np.testing.assert_array_equal(weight, 1)
    outside = np.array([[-0.25, 3, 3], [5, 14.75, 5], [5, 5, 40.0]])
    value, _, weight, _ = sample_points(image, np.eye(4), outside)
    np.testing.assert_allclose(weight, [0.75, 0.25, 0])
    assert value[0] == pytest.approx(image[0, 3, 3])


@pytest.mark.parametrize("metric", ["nmi", "ncc"])
@pytest.mark.parametrize("dof", [6, 12])
def test_gradient_by_pose_agrees_with_finite_differences(metric, dof):
    image = smooth_image()
    points = RNG.uniform(-0.5, 13.5, size=(400, 3))
    fixed = np.clip(ndimage.map_coordinates(image, points.T, order=1, mode="nearest"), 0, 1)
    bins = histogram_bins(fixed)
    pose = Motion(motion((3, -2, 4), (0.4, -0.3, 0.2)), np.array([7.0, 7, 8]), dof)
    ras2vox = np.diag([-1.1, 0.9, 1.0, 1.0])
    ras2vox[0, 3] = 14.0

    def cost(theta):
        value, slope, weight, weight_slope = sample_points(
            image, ras2vox @ pose.matrix(theta), points
        )
        one = mutual_information(bins, value, weight) if metric == "nmi" else (
            correlation(fixed, value, weight)
        )  # fmt: skip
        gradient = pose_gradient(points, ras2vox, slope, one[1], weight_slope, one[2])
        return one[0], pose.gradient(theta, gradient)

    theta = RNG.normal(scale=0.3, size=dof)
    numeric = approx_fprime(theta, lambda x: cost(x)[0], 1e-5)
    np.testing.assert_allclose(cost(theta)[1], numeric, atol=2e-2 * np.abs(numeric).max())


def test_mutual_information_is_highest_for_equal_images_and_blind_to_inversion():
    values = RNG.uniform(size=5000)
    ones = np.ones(5000)
    bins = histogram_bins(values)
    equal = mutual_information(bins, values, ones)[0]
    assert equal == pytest.approx(mutual_information(bins, 1 - values, ones)[0], rel=1e-2)
    assert equal > 1.5 > mutual_information(bins, RNG.permutation(values), ones)[0]


def test_correlation_knows_sign_and_weights():
    values = RNG.uniform(size=100)
    weight = np.r_[np.ones(50), np.zeros(50)]
    spoilt = np.r_[values[:50], RNG.uniform(size=50)]
    assert correlation(values, spoilt, weight)[0] == pytest.approx(1)
    assert correlation(values, -spoilt, weight)[0] == pytest.approx(-1)
