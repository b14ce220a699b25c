"""Inferior horns keep what is fluid."""

import numpy as np
import pytest

from deepprep.segmentation.inferior_horn import SIDES, empty_inferior_horns

CLASSES = (0, 2, 4, 5, 17, 18, 41, 43, 44, 53, 54)


def head(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels with a horn between hippocampus (x < 20) and amygdala, and an image to them."""
    horn, ventricle, (hippocampus, amygdala), white = SIDES[side]
    labels = np.zeros((40, 24, 24), int)
    labels[2:12, 2:8, 2:8] = ventricle
    labels[2:38, 10:22, 10:22] = white
    labels[5:20, 12:20, 12:20] = hippocampus
    labels[20:35, 12:20, 12:20] = amygdala
    labels[8:32, 15:18, 15:18] = horn
    level = {0: 0.0, ventricle: 0.2, white: 1.0, hippocampus: 0.7, amygdala: 0.7, horn: 0.2}
    return labels, np.vectorize(level.get)(labels).astype(np.float32)


def one_hot(labels: np.ndarray) -> np.ndarray:
    soft = np.stack([labels == c for c in CLASSES]).astype(np.float32)
    return 0.9 * soft + 0.1 / len(CLASSES)


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_grey_or_white_goes_to_what_lies_around(side: int) -> None:
    labels, image = head(side)
    horn, _, (hippocampus, amygdala), white = SIDES[side]
    image[10:14, 15:18, 15:18] = 0.6
    image[26:29, 15:18, 15:18] = 0.6
    image[18:20, 15:18, 15:18] = 0.9
    posterior = one_hot(labels)
    total = posterior.sum(0)
    assert empty_inferior_horns(image, posterior, CLASSES) == 9 * 9
    found = np.array(CLASSES)[posterior.argmax(0)]
    wanted = labels.copy()
    wanted[10:14, 15:18, 15:18] = hippocampus
    wanted[26:29, 15:18, 15:18] = amygdala
    wanted[18:20, 15:18, 15:18] = white
    np.testing.assert_array_equal(found, wanted)
    assert (wanted == horn).any()
    np.testing.assert_allclose(posterior.sum(0), total, rtol=1e-6)


def test_fluid_stays() -> None:
    labels, image = head(0)
    posterior = one_hot(labels)
    before = posterior.copy()
    # partial volume of a slit: more fluid than not
    image[8:32, 15, 15:18] = 0.45
    assert empty_inferior_horns(image, posterior, CLASSES) == 0
    np.testing.assert_array_equal(posterior, before)


@pytest.mark.parametrize("what", ["no ventricle", "no hippocampus", "no horn", "dark hippocampus"])
def test_nothing_is_changed_without_levels(what: str) -> None:
    labels, image = head(0)
    image[10:14, 15:18, 15:18] = 0.6
    if what == "dark hippocampus":
        image[labels == 17] = 0.1
    else:
        label = {"no ventricle": 4, "no hippocampus": 17, "no horn": 5}[what]
        labels = np.where(labels == label, 0, labels)
    posterior = one_hot(labels)
    assert empty_inferior_horns(image, posterior, CLASSES) == 0
