"""Views: nothing is flipped, neighbours are in order, sagittal classes become 79."""

import numpy as np
import pytest
import torch

from deepprep.segmentation.fastsurfer.labels import (
    BOTH_SIDES,
    CLASSES,
    SAGITTAL_CLASSES,
    SAGITTAL_TO_FULL,
)
from deepprep.segmentation.fastsurfer.views import VIEWS, stacks
from deepprep.segmentation.labels import LEFT_RIGHT, STRUCTURES


@pytest.mark.parametrize(
    ("view", "slices_along", "down", "across"),
    [("coronal", 2, 0, 1), ("axial", 1, 2, 0), ("sagittal", 0, 2, 1)],
)
def test_views_turn_but_never_flip(view, slices_along, down, across):
    view = next(v for v in VIEWS if v.name == view)
    volume = torch.arange(4 * 5 * 6).reshape(4, 5, 6)
    seen = view.arrange(volume)
    assert seen.shape == (volume.shape[slices_along], volume.shape[down], volume.shape[across])
    corner = [0, 0, 0]
    corner[slices_along], corner[down], corner[across] = 1, 2, 3
    assert seen[1, 2, 3] == volume[tuple(corner)]
    assert torch.equal(view.restore(seen), volume)


def test_weights_of_views_sum_to_one():
    assert {v.name: v.weight for v in VIEWS} == {"coronal": 0.4, "axial": 0.4, "sagittal": 0.2}


def test_stacks_are_in_the_order_of_slices_and_repeat_the_outermost():
    slices = torch.arange(0, 255, 25, dtype=torch.uint8)[:, None, None].expand(-1, 2, 3)
    found = stacks(slices, torch.tensor([0, 4, 10]))
    assert found.shape == (3, 7, 2, 3)
    indices = [[0, 0, 0, 0, 1, 2, 3], [1, 2, 3, 4, 5, 6, 7], [7, 8, 9, 10, 10, 10, 10]]
    assert torch.allclose(found[:, :, 1, 2], torch.tensor(indices) * 25 / 255)


def test_classes_are_79_and_51():
    assert len(CLASSES) == len(set(CLASSES.tolist())) == 79
    assert len(SAGITTAL_CLASSES) == 51
    assert BOTH_SIDES.sum() == 17
    assert set(CLASSES[CLASSES < 1000].tolist()) - {0} <= set(STRUCTURES)


def test_sagittal_channels_are_expanded_as_published():
    published = [0, *range(5, 14), 1, 2, 3, 14, 15, 4, 16, 17, 18, *range(5, 19), *range(19, 51),
                 20, 22, 27, 29, 30, 31, 33, 34, *range(38, 43), 45]  # fmt: skip
    assert SAGITTAL_TO_FULL.tolist() == published


def test_sagittal_expansion_serves_both_sides_alike():
    for i, label in enumerate(CLASSES.tolist()):
        twin = LEFT_RIGHT.get(label, label + 1000 if 1000 < label < 2000 else label)
        for j in np.flatnonzero(twin == CLASSES):
            assert SAGITTAL_TO_FULL[i] == SAGITTAL_TO_FULL[j]
    own = SAGITTAL_CLASSES[SAGITTAL_TO_FULL]
    middle = np.isin(CLASSES, SAGITTAL_CLASSES)
    assert (own[middle] == CLASSES[middle]).all()
