"""Tissue fractions from posteriors and local intensities, on brains with known fractions."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.partial_volume import local_mean, tissue_maps
from deepprep.segmentation.result import Segmentation
from tests.segmentation.test_tissue import MEANS, nested_balls


def segmentation_of(truth: dict[str, np.ndarray], blur: float = 0.0, deep=None) -> Segmentation:
    """A segmentation that knows the true fractions, blurred."""
    maps = {k: ndimage.gaussian_filter(v, blur) if blur else v for k, v in truth.items()}
    labels = np.where(maps["wm"] > 0.5, 2, np.where(maps["gm"] > 0.5, 3, 24)).astype(np.uint8)
    labels[sum(maps.values()) < 0.5] = 0
    if deep is not None:
        labels[deep] = 10
    return Segmentation(
        labels=labels, grey=maps["gm"], white=maps["wm"], fluid=maps["csf"],
        uncertainty=np.zeros(labels.shape, np.float32), volumes_mm3={}, engine="test",
    )  # fmt: skip


@pytest.fixture(scope="module")
def simulated():
    truth = nested_balls()
    clean = sum(MEANS[k] * v for k, v in truth.items())
    noisy = clean + np.random.default_rng(0).normal(0, 4, clean.shape)
    return truth, noisy.astype(np.float32), sum(truth.values()) > 0.5


def error_of(maps, truth, mask) -> dict[str, float]:
    pure = mask & (sum(truth.values()) > 0.99)
    return {k: float(np.abs(getattr(maps, k) - truth[k])[pure].mean()) for k in truth}


def test_fractions_are_found_within_a_few_percent(simulated):
    truth, image, mask = simulated
    maps = tissue_maps(Volume(image, np.eye(4)), segmentation_of(truth, 0.7), mask)
    assert max(error_of(maps, truth, mask).values()) < 0.04
    np.testing.assert_allclose((maps.gm + maps.wm + maps.csf)[mask], 1, atol=1e-4)
    assert not (maps.gm + maps.wm + maps.csf)[~mask].any()


def test_intensities_mend_borders_that_the_segmentation_blurs(simulated):
    truth, image, mask = simulated
    found = segmentation_of(truth, 1.2)
    maps = tissue_maps(Volume(image, np.eye(4)), found, mask)
    own = float(np.abs(found.grey - truth["gm"])[mask].mean())
    assert error_of(maps, truth, mask)["gm"] < 0.6 * own


def test_a_smooth_field_does_not_become_tissue(simulated):
    truth, image, mask = simulated
    x = np.linspace(-1, 1, image.shape[0])[:, None, None]
    maps = tissue_maps(
        Volume((image * (1 + 0.25 * x)).astype(np.float32), np.eye(4)),
        segmentation_of(truth, 0.7),
        mask,
    )
    core = ndimage.binary_erosion(truth["wm"] > 0.99, iterations=2)
    assert maps.wm[core].mean() > 0.97


def test_deep_grey_as_bright_as_white_matter_stays_grey(simulated):
    truth, image, mask = simulated
    nucleus = np.zeros(mask.shape, bool)
    nucleus[20:28, 20:28, 20:28] = True
    truth = {k: v.copy() for k, v in truth.items()}
    truth["gm"][nucleus], truth["wm"][nucleus] = 1.0, 0.0  # the image there is white
    maps = tissue_maps(Volume(image, np.eye(4)), segmentation_of(truth, 0, nucleus), mask)
    assert maps.gm[nucleus].min() > 0.99
    assert (maps.dseg[nucleus] == 1).all()


def test_scale_of_the_image_does_not_matter(simulated):
    truth, image, mask = simulated
    found = segmentation_of(truth, 0.7)
    one = tissue_maps(Volume(image, np.eye(4)), found, mask)
    other = tissue_maps(Volume(image * 13, np.eye(4)), found, mask)
    np.testing.assert_allclose(one.gm, other.gm, atol=2e-2)
    assert other.model.means == pytest.approx(one.model.means * 13, rel=1e-3)


def test_contrast_of_another_modality_is_one_sentence(simulated):
    truth, image, mask = simulated
    inverted = np.where(mask, 140 - image, 0).astype(np.float32)
    with pytest.raises(ValueError, match="not in the order of a T1-weighted image"):
        tissue_maps(Volume(inverted, np.eye(4)), segmentation_of(truth), mask)


def test_a_missing_tissue_is_one_sentence(simulated):
    truth, image, mask = simulated
    without = {**truth, "wm": np.zeros_like(truth["wm"])}
    with pytest.raises(ValueError, match="next to no white matter"):
        tissue_maps(Volume(image, np.eye(4)), segmentation_of(without), mask)


def test_local_mean_follows_a_ramp_and_falls_back_far_away():
    data = np.broadcast_to(np.arange(120.0)[:, None, None], (120, 40, 40)).astype(np.float32)
    where = np.zeros(data.shape, bool)
    where[:60] = True
    mean = local_mean(data, where, 30.0, np.ones(3))
    assert mean[30, 20, 20] == pytest.approx(30, abs=1.0)
    assert mean[15, 20, 20] < mean[45, 20, 20]
    assert local_mean(data, np.zeros(data.shape, bool), 7.0, np.ones(3)) == pytest.approx(7.0)
