"""The brain mask that a segmentation implies, and how it compares with another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.segmentation.tissue import bounding_box

CLOSING_MM = 3.0
"""Sulci narrower than twice this are bridged."""

RIM_MM = 2.0
"""The mask keeps so much beyond the labels: the fluid on the brain, as FreeSurfer's brainmask and
fMRIPrep's masks do; resampling and smoothing then find no cut cortex."""

AGREEMENT = 0.95
"""Dice of two brain masks below which somebody should look."""

TRUST = 0.85
"""Dice below which the segmentation's mask is not used: one of the two has failed."""


@dataclass(frozen=True)
class BrainChoice:
    """The mask to go on with.

    Attributes
    ----------
    mask : (X, Y, Z) bool array
    dice : float
        Overlap of the segmentation's mask with the first one.
    source : str
        ``segmentation`` or ``extraction``.
    warning : str
        A sentence when they disagree, else empty.
    """

    mask: np.ndarray
    dice: float
    source: str
    warning: str


def brain_of_labels(labels: np.ndarray, zooms_mm: np.ndarray) -> np.ndarray:
    """Mask of everything labelled: sulci bridged, holes filled, largest piece.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        0 outside the brain.
    zooms_mm : (3,) array

    Returns
    -------
    (X, Y, Z) bool array

    Raises
    ------
    ValueError
        If nothing is labelled.
    """
    if not labels.any():
        raise ValueError("the segmentation found no brain")
    out = np.zeros(labels.shape, dtype=bool)
    box = bounding_box(labels > 0)
    pad = [int(np.ceil(CLOSING_MM / z)) + 1 for z in zooms_mm]
    inside = np.pad(labels[box] > 0, [(p, p) for p in pad])
    # closing with a ball, by distances: at 0.7 mm a structuring element would take a minute
    grown = ndimage.distance_transform_edt(~inside, sampling=zooms_mm) <= CLOSING_MM
    closed = inside | (ndimage.distance_transform_edt(grown, sampling=zooms_mm) > CLOSING_MM)
    closed = ndimage.binary_fill_holes(closed)
    pieces, n = ndimage.label(closed)
    if n > 1:
        closed = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    out[box] = closed[tuple(slice(p, n - p) for p, n in zip(pad, closed.shape))]
    return out


def choose_brain(extracted: np.ndarray, labels: np.ndarray, zooms_mm: np.ndarray) -> BrainChoice:
    """Take the segmentation's brain, with a rim, unless it differs too much from the extracted one.

    The two are compared without the rim.

    Parameters
    ----------
    extracted : (X, Y, Z) bool array
        Mask of the brain extraction.
    labels : (X, Y, Z) int array
    zooms_mm : (3,) array
    """
    mask = brain_of_labels(labels, zooms_mm)
    dice = 2.0 * float((mask & extracted).sum()) / float(mask.sum() + extracted.sum())
    warning = ""
    if dice < AGREEMENT:
        warning = (
            f"The brain masks of the extraction and of the segmentation agree only with Dice "
            f"{dice:.3f} (usual: above {AGREEMENT}): look at the figures of the mask and of the "
            "segmentation."
        )
    if dice < TRUST:
        return BrainChoice(extracted, dice, "extraction", warning)
    return BrainChoice(with_rim(mask, zooms_mm), dice, "segmentation", warning)


def with_rim(mask: np.ndarray, zooms_mm: np.ndarray, rim_mm: float = RIM_MM) -> np.ndarray:
    """Everything within ``rim_mm`` of a mask.

    Parameters
    ----------
    mask : (X, Y, Z) bool array
        Not empty.
    zooms_mm : (3,) array
    rim_mm : float
    """
    voxels = np.argwhere(mask)
    pad = np.ceil(rim_mm / zooms_mm).astype(int) + 1
    low = np.maximum(voxels.min(0) - pad, 0)
    high = np.minimum(voxels.max(0) + pad + 1, mask.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    out = mask.copy()
    out[box] = ndimage.distance_transform_edt(~mask[box], sampling=zooms_mm) <= rim_mm
    return out
