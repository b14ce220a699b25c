"""White matter comes to 110 under a known field, and nothing outside is amplified more."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.image.white_matter_scaling import global_gain, scale_white_matter, white_matter_core

SHAPE = (76, 92, 76)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def head():
    """White matter (700) in folds, grey (450) around it, fluid, and a scalp of 1500."""
    points = np.stack(np.meshgrid(*(np.arange(n) * 2.0 - n for n in SHAPE), indexing="ij"), -1)
    radius = np.linalg.norm(points / [60, 78, 60], axis=-1)
    folds = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2.5)
    white = radius + 0.25 * folds / folds.std() < 0.75
    image = np.where(radius < 0.95, 450.0, np.where(radius < 1.02, 100.0, 0.0))
    image[white] = 700
    image[(radius > 1.12) & (radius < 1.18)] = 1500
    noise = np.random.default_rng(1).normal(0, 20, SHAPE)
    return np.maximum(image + noise, 0).astype(np.float32), white, radius < 1.0, points


def field(points):
    x, y, z = (points[..., a] / 80 for a in range(3))
    return np.exp(0.2 * x - 0.15 * y**2 + 0.12 * x * z + 0.1 * z).astype(np.float32)


@pytest.fixture(scope="module")
def simulated():
    clean, white, brain, points = head()
    bias = field(points)
    return clean, white, brain, bias, scale_white_matter(Volume(clean * bias, AFFINE), white)


def test_white_matter_is_at_110(simulated):
    _, white, _, _, result = simulated
    assert np.median(result.scaled.data[white_matter_core(white)]) == pytest.approx(110, abs=0.01)
    assert np.median(result.scaled.data[white]) == pytest.approx(110, abs=1)
    # In every part of the brain, not only over all.
    for part in np.array_split(np.arange(SHAPE[1]), 5)[1:-1]:
        values = result.scaled.data[:, part][white[:, part]]
        assert np.median(values) == pytest.approx(110, abs=2)


def test_a_known_field_is_taken_off(simulated):
    _, white, brain, bias, result = simulated
    residual = result.log_gain + np.log(bias)
    assert residual[white].std() < 0.2 * np.log(bias)[white].std()
    assert residual[brain].std() < 0.4 * np.log(bias)[brain].std()


def test_grey_matter_keeps_its_contrast(simulated):
    clean, white, brain, _, result = simulated
    grey = ndimage.binary_erosion((clean > 350) & (clean < 550) & brain & ~white)
    assert np.median(result.scaled.data[grey]) == pytest.approx(110 * 450 / 700, abs=2)


def test_nothing_outside_is_amplified_more_than_white_matter(simulated):
    _, white, brain, _, result = simulated
    inside = result.log_gain[white]
    assert result.log_gain[~brain].max() <= inside.max() + 0.002
    assert result.log_gain[~brain].min() >= inside.min() - 0.002


def test_far_from_white_matter_the_global_gain_rules():
    image = np.full((80, 80, 80), 100, np.float32)
    white = np.zeros(image.shape, bool)
    white[4:16, 4:16, 4:16] = True
    image[4:10] *= 1.3
    result = scale_white_matter(Volume(image, np.diag([2.5, 2.5, 2.5, 1])), white)
    assert abs(result.log_gain[-5:, -5:, -5:]).max() < 0.01


def test_wrong_labels_do_not_pull_the_level(simulated):
    clean, white, brain, _, _ = simulated
    wrong = white | (brain & (np.random.default_rng(2).random(SHAPE) < 0.05))
    result = scale_white_matter(Volume(clean, AFFINE), wrong)
    assert np.median(result.scaled.data[white_matter_core(white)]) == pytest.approx(110, abs=1)


def test_the_unit_of_the_image_does_not_matter(simulated):
    clean, white, _, _, _ = simulated
    one = scale_white_matter(Volume(clean, AFFINE), white)
    other = scale_white_matter(Volume(clean * 0.01, AFFINE), white)
    np.testing.assert_allclose(one.scaled.data, other.scaled.data, atol=0.05)


def test_one_gain_brings_the_median_to_110(simulated):
    clean, white, _, _, _ = simulated
    gain = global_gain(Volume(clean, AFFINE), white)
    assert np.median(clean[white_matter_core(white)]) * gain == pytest.approx(110, abs=0.01)


def test_no_white_matter_is_an_error():
    with pytest.raises(ValueError, match="no white matter"):
        scale_white_matter(Volume(np.ones((9, 9, 9), "f4"), np.eye(4)), np.zeros((9, 9, 9), bool))
