"""A lesion on the lattice of the T1w, and what it takes from the segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.image.conform import to_ras
from deepprep.image.resample import PointTransform, resample
from deepprep.image.volume import Grid, Volume

LESION_RIM_MM = 2.0
"""How far beyond its border a lesion is left out: the tissue there is swollen."""


def binary(mask: Volume) -> Volume:
    """0 and 1 (uint8) from a mask of 0 and any other value, or of probabilities."""
    data = np.nan_to_num(mask.frame(0).data)
    return Volume((data > 0.5 * max(float(data.max()), 1e-12)).astype(np.uint8), mask.affine)


def lesion_on(
    masks: Sequence[Volume], grid: Grid, transforms: Sequence[PointTransform | None]
) -> Volume:
    """Union of lesion masks on a lattice.

    Parameters
    ----------
    masks : sequence of Volume
        As they were drawn, in any orientation.
    grid : Grid
        Lattice of the result.
    transforms : sequence of PointTransform or None
        For each mask, points of ``grid``'s space -> points of the mask's space (RAS mm).

    Returns
    -------
    Volume
        uint8, 0 and 1. A mask that has the lattice already, apart from the order and direction
        of its axes, is not interpolated.

    Raises
    ------
    InputError
        Nothing of the lesion is in the field of view.
    """
    total = np.zeros(grid.shape, bool)
    for mask, transform in zip(masks, transforms, strict=True):
        ras = to_ras(binary(mask))
        if transform is None and ras.grid.same_as(grid):
            total |= ras.data > 0
        else:
            share = resample(ras.like(ras.data.astype(np.float32)), grid, transform, "linear")
            total |= share.data >= 0.5
    if not total.any():
        raise InputError(
            "The lesion mask is empty on the lattice of the T1w: draw it on that T1w, or leave "
            "it out."
        )
    return Volume(total.astype(np.uint8), grid.affine)


def with_rim(lesion: Volume, rim_mm: float = LESION_RIM_MM) -> Volume:
    """The lesion and what lies within ``rim_mm`` of it, 0 and 1 (float32).

    Raises
    ------
    InputError
        The mask is empty.
    """
    inside = np.nan_to_num(lesion.data) > 0.5
    if not inside.any():
        raise InputError("The lesion mask is empty: leave it out or give one with the lesion.")
    margin = np.ceil(rim_mm / lesion.zooms_mm).astype(int) + 1
    used = np.argwhere(inside)
    box = tuple(slice(max(a, 0), b) for a, b in zip(used.min(0) - margin, used.max(0) + margin + 1))
    around = ndimage.distance_transform_edt(~inside[box], sampling=lesion.zooms_mm)
    out = np.zeros(inside.shape, np.float32)
    out[box] = around <= rim_mm
    return lesion.like(out)


def labels_outside(labels: Volume, lesion: Volume) -> Volume:
    """The segmentation without what lies in a lesion or at its rim (label 0 there).

    A network labels a lesion as what it resembles, or as nothing: neither must count as overlap.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) integers.
    lesion : Volume
        0 and 1 on any lattice of the same space.
    """
    rim = with_rim(lesion)
    if not rim.grid.same_as(labels.grid):
        rim = resample(rim, labels.grid, None, "linear")
    return labels.like(np.where(rim.data > 0.5, 0, labels.data))
