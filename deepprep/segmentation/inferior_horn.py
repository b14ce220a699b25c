"""Inferior horns that hold fluid, and not the hippocampus around them.

The inferior horn of a young brain is a slit. A network at 1 mm draws it twice too wide, at the cost
of hippocampus and amygdala: where the image shows no fluid, the voxel is given to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepprep.segmentation.islands import most_likely
from deepprep.segmentation.tissue import bounding_box

SIDES = ((5, 4, (17, 18), 2), (44, 43, (53, 54), 41))
"""Of each side: inferior horn, lateral ventricle, hippocampus and amygdala, white matter."""

MOST_GREY = 0.6
"""A voxel of the horn is less than this of the way from fluid (0) to hippocampus (1)."""

WHITE = 0.9
"""From here on it is white matter: only the part of fluid in it makes it as dark as grey matter."""

LEAST_VOXELS = 50
"""With fewer voxels inside the lateral ventricle, or of the hippocampus, nothing is changed."""

ROOM_VOX = 5


def empty_inferior_horns(image: np.ndarray, posterior: np.ndarray, classes: Sequence[int]) -> int:
    """Give voxels of the inferior horns that hold little fluid to what lies around, in place.

    Parameters
    ----------
    image : (X, Y, Z) float array
        Bias-corrected T1w.
    posterior : (C, X, Y, Z) float array
        Changed in place; its sum over the classes stays what it was.
    classes : sequence of int
        FreeSurfer number of each of the C classes.

    Returns
    -------
    int
        Voxels that were given away.
    """
    index = {label: i for i, label in enumerate(classes)}
    labels = most_likely(posterior)
    moved = 0
    for horn, ventricle, grey, white in SIDES:
        own = labels == index[horn]
        fluid = ndimage.binary_erosion(labels == index[ventricle])
        hippocampus = labels == index[grey[0]]
        if min(fluid.sum(), hippocampus.sum()) < LEAST_VOXELS or not own.any():
            continue
        low, high = (float(np.median(image[mask])) for mask in (fluid, hippocampus))
        if not high > low:
            continue
        box = bounding_box(own, 1 + ROOM_VOX)
        share = (image[box] - low) / (high - low)
        away = [ndimage.distance_transform_edt(labels[box] != index[label]) for label in grey]
        solid = own[box] & (share > MOST_GREY)
        nearer = away[0] <= away[1]
        for target, where in (
            (white, solid & (share > WHITE)),
            (grey[0], solid & (share <= WHITE) & nearer),
            (grey[1], solid & (share <= WHITE) & ~nearer),
        ):
            given, taken = (posterior[index[label]][box] for label in (target, horn))
            given[where] += taken[where]
            taken[where] = 0
            moved += int(where.sum())
    return moved
