"""Tissue classes on simulated brains with known fractions."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.image.bias import correct_bias
from deepprep.image.volume import Volume
from deepprep.segmentation.tissue import CSF, GM, WM, segment_tissues

MEANS = {"csf": 20.0, "gm": 70.0, "wm": 110.0}


def nested_balls(n: int = 48, up: int = 3):
    """White ball in a grey shell in a fluid shell; fractions exact to 1/27 voxel."""
    axis = (np.arange(n * up) + 0.5) / up - n / 2
    r = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    fine = {"wm": r < 12, "gm": (r >= 12) & (r < 17), "csf": (r >= 17) & (r < 21)}
    return {
        k: v.reshape(n, up, n, up, n, up).mean(axis=(1, 3, 5)).astype(np.float32)
        for k, v in fine.items()
    }


@pytest.fixture(scope="module")
def simulated():
    truth = nested_balls()
    clean = sum(MEANS[k] * v for k, v in truth.items())
    noisy = clean + np.random.default_rng(0).normal(0, 4, clean.shape)
    mask = sum(truth.values()) > 0.5
    return truth, noisy.astype(np.float32), mask


def test_fractions_are_found_within_a_few_percent(simulated):
    truth, image, mask = simulated
    maps = segment_tissues(Volume(image, np.eye(4)), mask)
    for name in ("gm", "wm", "csf"):
        error = np.abs(getattr(maps, name) - truth[name])[mask & (sum(truth.values()) > 0.99)]
        assert error.mean() < 0.04, name
    np.testing.assert_allclose((maps.gm + maps.wm + maps.csf)[mask], 1, atol=1e-4)
    assert not (maps.gm + maps.wm + maps.csf)[~mask].any()


def test_labels_follow_the_bids_order(simulated):
    truth, image, mask = simulated
    dseg = segment_tissues(Volume(image, np.eye(4)), mask).dseg
    assert (GM, WM, CSF) == (1, 2, 3)
    for value, name in ((GM, "gm"), (WM, "wm"), (CSF, "csf")):
        pure = ndimage.binary_erosion(truth[name] > 0.99)
        assert (dseg[pure] == value).mean() > 0.98
    assert not dseg[~mask].any()


def test_partial_volume_is_kept_in_the_volumes(simulated):
    truth, image, mask = simulated
    volumes = segment_tissues(Volume(image, np.eye(4)), mask).volumes_ml(1.0)
    assert volumes["GM"] == pytest.approx(truth["gm"].sum() / 1000, rel=0.05)
    assert volumes["WM"] == pytest.approx(truth["wm"].sum() / 1000, rel=0.05)


def test_the_result_does_not_depend_on_the_unit(simulated):
    _, image, mask = simulated
    one = segment_tissues(Volume(image, np.eye(4)), mask)
    other = segment_tissues(Volume(image * 13 + 500, np.eye(4)), mask)
    assert (one.dseg == other.dseg).mean() > 0.999


def test_model_means_are_in_the_image_unit(simulated):
    _, image, mask = simulated
    model = segment_tissues(Volume(image, np.eye(4)), mask).model
    np.testing.assert_allclose(model.means, [20, 70, 110], atol=5)


def test_constant_and_empty_inputs_are_refused():
    volume = Volume(np.ones((20, 20, 20), dtype="f4"), np.eye(4))
    with pytest.raises(ValueError, match="constant"):
        segment_tissues(volume, np.ones(volume.shape, bool))
    with pytest.raises(ValueError, match="too few"):
        segment_tissues(volume, np.zeros(volume.shape, bool))


def test_n4_takes_a_known_field_off(simulated):
    _, image, mask = simulated
    x = np.linspace(-1, 1, image.shape[0], dtype=np.float32)
    smooth = 0.25 * x[:, None, None] + 0.1 * x[None, :, None] ** 2
    field = np.exp(np.broadcast_to(smooth, image.shape))
    found = correct_bias(Volume(np.maximum(image, 1) * field, np.diag([4.0, 4, 4, 1])), mask)
    residual = (np.log(field) - found.log_bias)[mask]
    assert residual.std() < 0.2 * np.log(field)[mask].std()
    assert np.median(found.log_bias[mask]) == pytest.approx(0, abs=1e-5)


def test_n4_needs_voxels():
    volume = Volume(np.ones((20, 20, 20), dtype="f4"), np.eye(4))
    with pytest.raises(ValueError, match="no positive voxel"):
        correct_bias(volume, np.zeros(volume.shape, bool))
