"""Borders of cortex that the image moves, and images that move nothing."""

from dataclasses import replace

import numpy as np
import pytest

from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.follow_image import CORTEX, VENTRICLES, Borders, follow_image


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


@pytest.mark.parametrize(("part", "label"), [(0.42, 3), (0.58, 2)])
def test_a_voxel_belongs_to_the_tissue_it_holds_more_of(part: float, label: int) -> None:
    # cortex is four times as uneven as white matter, which must not move the border between them
    image, posterior, truth = slabs(0.01)
    noise = np.random.default_rng(1).normal(0, 0.06, truth.shape)
    image += noise * (truth == class_of(3))
    mixed = np.zeros(truth.shape, bool)
    mixed[15:17] = True
    image[mixed] = 0.65 + part * (1.0 - 0.65)
    for k in (2, 3):
        posterior[class_of(k)][mixed] = 0.5 * (1 - posterior[class_of(24)][mixed])
    assert follow_image(image, posterior, np.ones(truth.shape, bool), CLASSES, np.ones(3))
    assert (posterior.argmax(0)[mixed] == class_of(label)).mean() > 0.9


def ventricle() -> tuple[np.ndarray, np.ndarray]:
    """Image and posterior of a ventricle in white matter, with a caudate above it; drawn too wide."""
    shape = (44, 44, 44)
    x, y, z = np.ogrid[:44, :44, :44]
    fluid = np.broadcast_to((abs(x - 22) < 6) & (abs(y - 22) < 6) & (abs(z - 22) < 6), shape)
    grey = np.broadcast_to((abs(x - 22) < 6) & (abs(y - 22) < 6) & (z >= 28) & (z < 36), shape)
    image = np.where(fluid, 0.3, np.where(grey, 0.8, 1.0))
    image = image + np.random.default_rng(0).normal(0, 0.02, shape)
    wide = (abs(x - 22) < 8) & (abs(y - 22) < 8) & (abs(z - 22) < 8)
    posterior = np.zeros((len(CLASSES), *shape), np.float32)
    posterior[class_of(4)] = np.where(fluid, 0.98, np.where(wide, 0.6, 0.01))
    posterior[class_of(11)] = (1 - posterior[class_of(4)]) * np.where(grey, 0.95, 0.02)
    posterior[class_of(2)] = 1 - posterior.sum(0)
    return image.astype(np.float32), posterior


def test_ventricles_keep_what_is_fluid_and_give_the_rest_to_what_it_was_next_likely() -> None:
    image, posterior = ventricle()
    inside = np.ones(image.shape, bool)
    assert (posterior.argmax(0) == class_of(4)).sum() > 2 * 11**3
    assert follow_image(image, posterior, inside, CLASSES, np.ones(3), VENTRICLES)
    found = posterior.argmax(0)
    # corners lose a voxel to their neighbours
    assert abs((found == class_of(4)).sum() - 11**3) < 0.05 * 11**3
    assert (found[17:28, 17:28, 28:30] == class_of(11)).all()
    assert (found[15:17, 18:27, 18:27] == class_of(2)).all()


def test_nothing_is_done_far_from_what_it_is_about_or_without_it() -> None:
    image, posterior = ventricle()
    inside = np.ones(image.shape, bool)
    none = posterior.copy()
    none[class_of(2)] += none[class_of(4)]
    none[class_of(4)] = 0
    assert not follow_image(image, none, inside, CLASSES, np.ones(3), VENTRICLES)
    near = Borders(VENTRICLES.tissues, VENTRICLES.halfway, (4,))
    far = np.pad(posterior, [(0, 0), (30, 0), (0, 0), (0, 0)], mode="edge")
    wide = np.pad(image, [(30, 0), (0, 0), (0, 0)], mode="edge")
    before = far.copy()
    assert follow_image(wide, far, np.ones(wide.shape, bool), CLASSES, np.ones(3), near)
    assert np.array_equal(far[:, :25], before[:, :25])
    assert set(CORTEX.labels) == {24, 3, 42, 2, 41}


def test_bright_cortex_does_not_move_its_border() -> None:
    # a third of cortex has much myelin; what lies at its border is nearer to white matter than to
    # other cortex, but not than to this one
    image, posterior, truth = slabs(0.06)
    image[:, 20:][truth[:, 20:] == class_of(3)] += 0.12
    image[13:17, 20:] = 0.86
    posterior[class_of(3), 13:17] = posterior[class_of(2), 13:17] = 0.49
    posterior[class_of(24), 13:17] = 0.02
    share = {}
    for borders in (CORTEX, replace(CORTEX, scaled=None)):
        found = posterior.copy()
        inside = np.ones(truth.shape, bool)
        assert follow_image(image, found, inside, CLASSES, np.full(3, 4.0), borders)
        share[borders.scaled] = (found.argmax(0)[13:17, 24:28, 3:-3] == class_of(2)).mean()
    assert share[1] > 0.7 and share[None] < 0.3
