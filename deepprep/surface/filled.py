"""What lies inside the white surface of each hemisphere, from labels.

As in FreeSurfer, the white surface goes around the white matter, the deep grey nuclei, the lateral
ventricle and half of the corpus callosum. The hippocampus, the amygdala and the inferior horn lie
outside, next to the cortex of the temporal lobe; the brain stem, the cerebellum, the third
ventricle and everything of the other hemisphere are cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.tissue import bounding_box

SIDES = ("left", "right")

WHITE = {"left": (2, 78), "right": (41, 79)}
CORTEX = {"left": (3,), "right": (42,)}
DEEP = {"left": (4, 10, 11, 12, 13, 26, 28, 31), "right": (43, 49, 50, 51, 52, 58, 60, 63)}
"""FreeSurfer numbers: white matter, cortex, and what else lies inside the white surface."""

OTHER_LATERAL = {"left": (5, 7, 8, 17, 18), "right": (44, 46, 47, 53, 54)}
"""Outside of the white surface, but they say which side a place is on."""

EITHER_SIDE = (77, 80, 251, 252, 253, 254, 255)
"""Hypointensities and corpus callosum: inside, of the side that they are nearer to."""

PLAIN = (0, 24, 30, 62, 77, 80)
"""Nothing, fluid, vessels and hypointensities."""

MARGIN_MM = 6.0
"""Room around a hemisphere."""

CLOSING_MM = 2.0
"""Gaps up to twice this between deep structures belong to the hemisphere, unless cortex is near."""


@dataclass(frozen=True)
class FilledHemisphere:
    """Masks of one hemisphere in a box around it.

    Attributes
    ----------
    inside : (X, Y, Z) bool array
        Inside the white surface, as far as labels tell.
    plain : (X, Y, Z) bool array
        White matter, cortex and fluid or nothing: here intensities tell white matter from the
        rest. In deep nuclei, the hippocampus, the other hemisphere ... they do not.
    box : tuple of slice
        Where the box lies in the volume.
    """

    inside: np.ndarray
    plain: np.ndarray
    box: tuple[slice, slice, slice]


def fill_hemisphere(labels: Volume, side: str) -> FilledHemisphere:
    """Find the inside of one white surface.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers (aseg), any orientation.
    side : {'left', 'right'}

    Returns
    -------
    FilledHemisphere

    Raises
    ------
    ValueError
        If the side has no white matter or no cortex.
    """
    data = np.asarray(labels.data)
    for name, numbers in (("white matter", WHITE[side]), ("cortex", CORTEX[side])):
        if not np.isin(data, numbers).any():
            raise ValueError(f"the labels have no {side} cerebral {name}: no surface can be made")
    pad = np.ceil(MARGIN_MM / labels.zooms_mm).astype(int)
    own = (*WHITE[side], *DEEP[side], *CORTEX[side])
    box = bounding_box(np.isin(data, own), 1 + pad)
    data = data[box]
    zooms = labels.zooms_mm
    white = np.isin(data, WHITE[side]) | (np.isin(data, EITHER_SIDE) & _nearer(data, side, zooms))
    deep = np.isin(data, DEEP[side])
    cortex = np.isin(data, CORTEX[side])
    inside = white | deep
    inside |= _gaps(data, inside, cortex, zooms)
    inside = _largest(inside)
    return FilledHemisphere(inside, np.isin(data, (*PLAIN, *WHITE[side], *CORTEX[side])), box)


def _lateral(side: str) -> tuple[int, ...]:
    return (*WHITE[side], *DEEP[side], *CORTEX[side], *OTHER_LATERAL[side])


def _nearer(data: np.ndarray, side: str, zooms_mm: np.ndarray) -> np.ndarray:
    """Whether the nearest structure that has a side is of this one."""
    other = SIDES[1 - SIDES.index(side)]
    own = np.isin(data, _lateral(side))
    theirs = np.isin(data, _lateral(other))
    if not theirs.any():
        return np.ones(data.shape, dtype=bool)
    to_own = ndimage.distance_transform_edt(~own, sampling=zooms_mm)
    to_theirs = ndimage.distance_transform_edt(~theirs, sampling=zooms_mm)
    # a tie on the mid-line goes to the left, once
    return to_own <= to_theirs if side == "left" else to_own < to_theirs


def _gaps(
    data: np.ndarray, inside: np.ndarray, cortex: np.ndarray, zooms_mm: np.ndarray
) -> np.ndarray:
    """Unlabelled voxels and fluid between deep structures."""
    open_to = ~np.isin(data, (0, 24, 30, 62)) & ~inside
    grown = ndimage.distance_transform_edt(~inside, sampling=zooms_mm) <= CLOSING_MM
    closed = ndimage.distance_transform_edt(grown, sampling=zooms_mm) > CLOSING_MM
    near_cortex = ndimage.distance_transform_edt(~cortex, sampling=zooms_mm) <= 2 * CLOSING_MM
    return closed & ~inside & ~open_to & ~near_cortex


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces, n = ndimage.label(mask, np.ones((3, 3, 3)))
    if n < 2:
        return mask
    return pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
