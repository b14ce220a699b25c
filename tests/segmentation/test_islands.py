"""Detached pieces go to the next most likely class."""

import numpy as np
import pytest

from deepprep.segmentation.islands import clear_islands, most_likely

CLASSES = (0, 2, 41, 17, 24)


def field(labels: np.ndarray, second: np.ndarray) -> np.ndarray:
    posterior = np.zeros((len(CLASSES), *labels.shape), dtype=np.float16)
    np.put_along_axis(posterior, second[None].astype(int), 0.4, axis=0)
    np.put_along_axis(posterior, labels[None].astype(int), 0.6, axis=0)
    return posterior


def scene():
    labels = np.zeros((30, 12, 12), dtype=np.uint8)
    labels[2:12, 2:10, 2:10] = 1  # left white matter
    labels[16:28, 2:10, 2:10] = 2  # right
    return labels, np.zeros_like(labels)


def test_white_matter_of_the_wrong_side_changes_side():
    labels, second = scene()
    labels[20:22, 4:6, 4:6] = 1
    second[labels == 1] = 2
    posterior = field(labels, second)
    assert clear_islands(labels, posterior, CLASSES) == 8
    assert (labels[16:28, 2:10, 2:10] == 2).all()
    np.testing.assert_allclose(posterior[2, 20:22, 4:6, 4:6], 1.0, atol=1e-3)
    np.testing.assert_allclose(posterior[1, 20:22, 4:6, 4:6], 0.0)
    np.testing.assert_allclose(posterior.sum(0)[20:22, 4:6, 4:6], 1.0, atol=1e-3)


def test_a_detached_blade_of_white_matter_stays():
    labels, second = scene()
    labels[13:15, 4, 4] = 1
    labels[12, 2:10, 2:10] = 0
    before = labels.copy()
    assert clear_islands(labels, field(labels, second), CLASSES) == 0
    np.testing.assert_array_equal(labels, before)


def test_a_detached_crumb_of_hippocampus_goes():
    labels, second = scene()
    labels[4:9, 4:8, 4:6] = 3
    labels[25, 4, 4] = 3
    second[labels == 3] = 2
    assert clear_islands(labels, field(labels, second), CLASSES) == 1
    assert labels[25, 4, 4] == 2 and labels[5, 5, 5] == 3


def test_fluid_may_be_in_pieces():
    labels, second = scene()
    labels[0, 0, 0] = labels[29, 11, 11] = 4
    assert clear_islands(labels, field(labels, second), CLASSES) == 0


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_the_most_likely_class_is_the_first_of_the_largest(kind):
    posterior = np.random.default_rng(0).random((33, 6, 7, 8)).astype(kind)
    posterior[:, 0] = 0
    posterior[4, 1] = posterior[9, 1] = 2
    posterior[:, 2] *= 1e-6  # the smallest float16 too
    np.testing.assert_array_equal(most_likely(posterior), posterior.argmax(0))
