"""From parcels without sides to FreeSurfer's aseg: hemispheres, brain mask, stray white matter.

All functions take LIA (or any other) label arrays at about 1 mm and return new arrays.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.segmentation.fastsurfer.labels import (
    LEFT_CORTEX,
    LEFT_PARCELS,
    LEFT_WHITE,
    RIGHT_CORTEX,
    RIGHT_PARCELS,
    RIGHT_WHITE,
)

RESIDED_PARCELS = tuple(
    LEFT_PARCELS + n
    for n in (3, 6, 7, 8, 9, 11, 15, 18, 19, 20, 25, 26, 27, 28, 29, 30, 31, 34, 35)
)
"""Parcels whose pieces are given to the nearer hemisphere."""

DIVIDED_PARCELS = tuple(LEFT_PARCELS + n for n in (11, 19, 26, 29))
"""Parcels that may touch across the mid-line and are divided voxel by voxel."""

ORBITAL_PARCELS = (1012, 2012, 1019, 2019)
"""Left out when the brain mask is closed, so that it does not take in the optic nerves."""

DIVIDING_SIGMA_VOX = 3.0
ISLAND_SIGMA_VOX = 1.5
MASK_DILATIONS, MASK_EROSIONS = 5, 4
MIN_BRAIN_LITRES = 0.7
"""A smaller total volume fails the quality check."""

_FULL = np.ones((3, 3, 3), dtype=bool)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest piece (26-neighbourhood) of a mask; the mask itself when it is empty."""
    pieces, n = ndimage.label(mask, _FULL)
    if n < 2:
        return mask.copy()
    return pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def split_cortex_labels(labels: np.ndarray) -> np.ndarray:
    """Give the parcels that stand for both sides to the left or right hemisphere.

    Each piece goes to the hemisphere whose white matter's centre of mass is nearer; the
    parcels that may touch across the mid-line are then divided by the white matter around
    each voxel.

    Parameters
    ----------
    labels : (X, Y, Z) int16 array
        FreeSurfer numbers of the 79 classes.

    Returns
    -------
    (X, Y, Z) int16 array; the same array's copy when a hemisphere has no white matter.
    """
    out = labels.copy()
    left, right = labels == LEFT_WHITE, labels == RIGHT_WHITE
    if not left.any() or not right.any():
        return out
    centre_left = np.array(ndimage.center_of_mass(largest_component(left)))
    centre_right = np.array(ndimage.center_of_mass(largest_component(right)))
    for parcel in RESIDED_PARCELS:
        pieces, n = ndimage.label(labels == parcel, _FULL)
        if n == 0:
            continue
        centres = np.array(ndimage.center_of_mass(pieces > 0, pieces, range(1, n + 1)))
        nearer_right = np.linalg.norm(centres - centre_right, axis=1) < np.linalg.norm(
            centres - centre_left, axis=1
        )
        out[np.concatenate([[False], nearer_right])[pieces]] = parcel + 1000
    on_right = _blur(right, DIVIDING_SIGMA_VOX) > _blur(left, DIVIDING_SIGMA_VOX)
    for parcel in DIVIDED_PARCELS:
        here = (out == parcel) | (out == parcel + 1000)
        out[here] = np.where(on_right[here], parcel + 1000, parcel)
    return out


def reduce_to_aseg(labels: np.ndarray) -> np.ndarray:
    """Parcels to left (3) and right (42) cortex; uint8."""
    cortex = np.where(labels >= RIGHT_PARCELS, RIGHT_CORTEX, LEFT_CORTEX)
    return np.where(labels >= LEFT_PARCELS, cortex, labels).astype(np.uint8)


def brain_mask(labels: np.ndarray) -> np.ndarray:
    """Closed outline of all labels, one piece, with the orbital parcels as they are.

    Parameters
    ----------
    labels : (X, Y, Z) int16 array
        After :func:`split_cortex_labels`; room of six voxels around the brain is needed.
    """
    orbital = np.isin(labels, ORBITAL_PARCELS)
    mask = (labels > 0) & ~orbital
    mask = ndimage.binary_dilation(mask, _FULL, iterations=MASK_DILATIONS)
    mask = ndimage.binary_erosion(mask, _FULL, iterations=MASK_EROSIONS)
    return largest_component(mask) | orbital


def sidedness(aseg: np.ndarray, sigma_vox: float) -> np.ndarray:
    """(X, Y, Z) float32: blurred right hemisphere minus blurred left one."""
    left = np.isin(aseg, (LEFT_WHITE, LEFT_CORTEX))
    right = np.isin(aseg, (RIGHT_WHITE, RIGHT_CORTEX))
    return ndimage.gaussian_filter(
        right.astype(np.float32) - left.astype(np.float32), sigma_vox, mode="nearest"
    )


def flip_wm_islands(aseg: np.ndarray) -> np.ndarray:
    """White matter apart from its hemisphere, amid the other one, changes sides."""
    side = sidedness(aseg, ISLAND_SIGMA_VOX)
    out = aseg.copy()
    for own, other, sign in ((LEFT_WHITE, RIGHT_WHITE, 1), (RIGHT_WHITE, LEFT_WHITE, -1)):
        white = aseg == own
        stray = white & ~largest_component(white)
        out[stray & (sign * side > 0)] = other
    return out


def brain_litres(aseg: np.ndarray, voxel_mm: float) -> float:
    """Volume of everything labelled, in litres; below :data:`MIN_BRAIN_LITRES` is a failure."""
    return float(np.count_nonzero(aseg)) * voxel_mm**3 * 1e-6


def padded(labels: np.ndarray, margin: int) -> tuple[np.ndarray, tuple[slice, ...]]:
    """Labels with empty voxels around them, and the slices that undo it."""
    return np.pad(labels, margin), tuple(slice(margin, margin + n) for n in labels.shape)


def _blur(mask: np.ndarray, sigma_vox: float) -> np.ndarray:
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma_vox)
