"""Fraction of white matter from intensities: scale, local means, noise."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.surface.white_level import NOISE, calmed, white_part

SHAPE = (40, 30, 30)


def halves() -> np.ndarray:
    labels = np.full(SHAPE, 3, dtype=np.uint8)
    labels[20:] = 2
    return labels


def test_cortex_is_zero_white_matter_one_and_half_way_a_half() -> None:
    labels = halves()
    data = np.where(labels == 2, 110.0, 80.0).astype(np.float32)
    data[0, 0, 0] = 95.0
    part = white_part(data, labels, "left", np.ones(3))
    np.testing.assert_allclose(part[labels == 2], 1, atol=0.02)
    assert part[5, 5, 5] == pytest.approx(0, abs=0.02)
    assert part[0, 0, 0] == pytest.approx(0.5, abs=0.02)


def test_means_are_local() -> None:
    labels = np.full((160, 12, 12), 3, dtype=np.uint8)
    labels[:, 6:] = 2
    data = np.where(labels == 2, 110.0, 80.0) * np.linspace(0.8, 1.2, 160)[:, None, None]
    part = white_part(data.astype(np.float32), labels, "left", np.ones(3))
    # with means of the whole these would be 0.4 off
    for place in (slice(30, 35), slice(125, 130)):
        assert abs(part[place][labels[place] == 2].mean() - 1) < 0.25
        assert abs(part[place][labels[place] == 3].mean()) < 0.25


def test_noise_is_calmed_to_what_is_tolerated_and_quiet_images_are_left_alone() -> None:
    random = np.random.default_rng(0)
    white = halves() == 2
    truth = ndimage.gaussian_filter(white.astype(np.float32), 0.5)
    for sd in (0.05, 0.25, 0.4):
        noisy = (truth + sd * random.normal(size=SHAPE)).astype(np.float32)
        found = calmed(noisy, white)
        assert found[25:35].std() == pytest.approx(min(sd, 0.9 * NOISE), rel=0.25)
        assert (found is noisy) == (sd == 0.05)
