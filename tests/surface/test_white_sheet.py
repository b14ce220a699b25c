"""The sheet of white matter under hippocampus and amygdala."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.surface.white_sheet import with_white_sheet

LEVELS = {0: 10.0, 2: 100.0, 3: 60.0, 17: 62.0, 24: 10.0, 41: 100.0, 42: 60.0, 53: 62.0}


def block(zoom: float = 1.0, gap: int = 0, side: str = "left") -> Volume:
    """White matter beside a hippocampus that lies ``gap`` voxels of fluid above a band of cortex."""
    white, cortex, above = (2, 3, 17) if side == "left" else (41, 42, 53)
    data = np.zeros((40, 30, 30), np.uint8)
    data[:16, 5:25, 8:22] = white
    data[16:34, 5:25, 8:12] = cortex
    data[16:34, 5:25, 12 : 12 + gap] = 24
    data[16:34, 5:25, 12 + gap : 20] = above
    return Volume(data, np.diag([zoom, zoom, zoom, 1.0]))


def painted(labels: Volume) -> Volume:
    image = np.vectorize(LEVELS.get)(labels.data).astype(np.float32)
    return labels.like(image)


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_layer_of_the_upper_structure_becomes_white(side: str) -> None:
    labels = block(side=side)
    found = with_white_sheet(labels, painted(labels), side).data
    white, above = (2, 17) if side == "left" else (41, 53)
    changed = found != labels.data
    assert (labels.data[changed] == above).all() and (found[changed] == white).all()
    np.testing.assert_array_equal(np.unique(np.argwhere(changed)[:, 2]), [12])
    assert changed[20:30, 8:22, 12].all()
    other = "right" if side == "left" else "left"
    assert with_white_sheet(labels, painted(labels), other) is labels


def test_bright_voxels_of_cortex_beneath_are_white_too() -> None:
    labels = block()
    image = painted(labels)
    image.data[18:30, 8:22, 11] = 80.0
    image.data[18:30, 8:22, 9] = 80.0
    changed = with_white_sheet(labels, image, "left").data != labels.data
    assert changed[20:28, 10:20, 11].all()
    # three voxels away from the hippocampus it is not the sheet's
    assert not changed[:, :, 9].any()


def test_no_sheet_across_fluid() -> None:
    apart = block(gap=3)
    assert with_white_sheet(apart, painted(apart), "left") is apart
    # a fissure that the labels do not show
    labels = block()
    image = painted(labels)
    image.data[16:34, 5:25, 11:13] = 30.0
    assert with_white_sheet(labels, image, "left") is labels


def test_any_orientation_and_voxel_size() -> None:
    labels = block()
    wanted = with_white_sheet(labels, painted(labels), "left").data
    turn = np.array([[2, -1], [0, 1], [1, -1]])
    turned = labels.like(np.ascontiguousarray(nib.apply_orientation(labels.data, turn)))
    found = with_white_sheet(turned, painted(turned), "left").data
    np.testing.assert_array_equal(found, nib.apply_orientation(wanted, turn))
    for zoom, layers in ((0.5, [12, 13]), (1.6, [12])):
        other = block(zoom)
        changed = with_white_sheet(other, painted(other), "left").data != other.data
        np.testing.assert_array_equal(np.unique(np.argwhere(changed)[:, 2]), layers)


def test_too_little_tissue_and_wrong_contrast() -> None:
    labels = block()
    few = labels.like(np.where(labels.data == 2, 0, labels.data))
    assert with_white_sheet(few, painted(labels), "left") is few
    dark = painted(labels)
    with pytest.raises(ValueError, match="not brighter"):
        with_white_sheet(labels, dark.like(120 - dark.data), "left")


def test_labels_given_are_not_changed() -> None:
    labels = block()
    before = labels.data.copy()
    with_white_sheet(labels, painted(labels), "left")
    np.testing.assert_array_equal(labels.data, before)
