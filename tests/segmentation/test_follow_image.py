"""Borders of cortex that the image moves, and images that move nothing."""

import numpy as np

from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.follow_image import follow_image


def class_of(label: int) -> int:
    return CLASSES.index(label)


def slabs(sd: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, posterior and truth of fluid, cortex and white matter in slabs.

    The posterior has the border of cortex and white matter two voxels too far out.
    """
    shape = (30, 30, 30)
    x = np.arange(30)[:, None, None] * np.ones(shape)
    image = np.where(x < 4, 0.25, np.where(x < 15, 0.65, 1.0))
    image += np.random.default_rng(0).normal(0, sd, shape)
    posterior = np.zeros((len(CLASSES), *shape), np.float32)
    posterior[class_of(24)] = 0.98 * (x < 4) + 0.01
    posterior[class_of(2)] = 1 / (1 + np.exp(17 - x)) * (1 - posterior[class_of(24)])
    posterior[class_of(3)] = 1 - posterior[class_of(2)] - posterior[class_of(24)]
    truth = np.where(x < 4, class_of(24), np.where(x < 15, class_of(3), class_of(2)))
    return image.astype(np.float32), posterior, truth


def test_the_border_moves_to_where_the_image_has_it() -> None:
    image, posterior, truth = slabs(0.03)
    found = posterior.astype(np.float16)
    assert follow_image(image, found, np.ones(truth.shape, bool), CLASSES, np.ones(3))
    assert np.allclose(found.sum(0, dtype=np.float32), 1, atol=2e-3)
    assert (posterior.argmax(0) == truth).mean() < 0.95
    assert (found.argmax(0) == truth).mean() > 0.99


def test_a_dark_spot_in_sure_white_matter_stays_white_matter() -> None:
    image, posterior, truth = slabs(0.03)
    image[24:27, 10:13, 10:13] = 0.65
    follow_image(image, posterior, np.ones(truth.shape, bool), CLASSES, np.ones(3))
    assert (posterior.argmax(0)[24:27, 10:13, 10:13] == class_of(2)).all()


def test_other_structures_and_what_is_not_shown_keep_their_posterior() -> None:
    image, posterior, truth = slabs(0.03)
    posterior *= 0.85
    posterior[class_of(17)] = 0.15
    before, inside = posterior.copy(), np.ones(truth.shape, bool)
    inside[:, :4] = False
    assert follow_image(image, posterior, inside, CLASSES, np.ones(3))
    assert np.array_equal(posterior[class_of(17)], before[class_of(17)])
    assert np.array_equal(posterior[:, :, :4], before[:, :, :4])


def test_contrast_that_is_not_t1_and_missing_tissue_change_nothing() -> None:
    image, posterior, truth = slabs(0.03)
    before, inside = posterior.copy(), np.ones(truth.shape, bool)
    assert not follow_image(1.3 - image, posterior, inside, CLASSES, np.ones(3))
    posterior[class_of(24)] = 0
    lost = posterior.copy()
    assert not follow_image(image, posterior, inside, CLASSES, np.ones(3))
    assert np.array_equal(posterior, lost)
    assert not follow_image(image, before, ~inside, CLASSES, np.ones(3))
