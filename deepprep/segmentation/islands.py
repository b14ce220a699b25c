"""Detached pieces of a structure that belong to something else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepprep.segmentation.labels import CORTEX, mirrored
from deepprep.segmentation.lattice import order_bits

SMALL_PART = 0.1
"""A detached piece smaller than this part of its structure's largest piece is an island."""

ONE_PIECE_EXEMPT = (24,)
"""Sulcal CSF is in many pieces by nature."""

MANY_PIECES = (*CORTEX, 2, 41, 7, 46)
"""Thin blades of these may come apart at 1 mm: only pieces on the wrong side are islands."""


def most_likely(posterior: np.ndarray) -> np.ndarray:
    """Index of the largest of (C, X, Y, Z) float posteriors, none negative: (X, Y, Z) uint8."""
    bits = order_bits(posterior)
    best, labels = bits[0].copy(), np.zeros(posterior.shape[1:], np.uint8)
    for index in range(1, len(bits)):
        np.copyto(labels, index, where=bits[index] > best)
        np.maximum(best, bits[index], out=best)
    return labels


def clear_islands(labels: np.ndarray, posterior: np.ndarray, classes: Sequence[int]) -> int:
    """Give detached small pieces of structures to the next most likely class, in place.

    Parameters
    ----------
    labels : (X, Y, Z) uint8 array
        Index of the most likely class; changed in place.
    posterior : (C, X, Y, Z) array
        Changed in place: the posterior of an island's class becomes 0 there.
    classes : sequence of int
        FreeSurfer number of each class; 0 is background.

    Returns
    -------
    int
        Number of voxels that got another label.
    """
    position = {label: i for i, label in enumerate(classes)}
    moved = 0
    for index, box in enumerate(ndimage.find_objects(labels.astype(np.int16) + 1)):
        label = classes[index]
        if box is None or label == 0 or label in ONE_PIECE_EXEMPT:
            continue
        pieces, n = ndimage.label(labels[box] == index, np.ones((3, 3, 3)))
        if n < 2:
            continue
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        small = sizes < SMALL_PART * sizes.max()
        small[0] = False
        island = small[pieces]
        if not island.any():
            continue
        rest = posterior[:, *box][:, island].astype(np.float32)
        own = rest[index].copy()
        rest[index] = 0
        second = rest.argmax(axis=0)
        if label in MANY_PIECES:
            twin = second == position[mirrored(label)]
            # a piece is on the wrong side when most of its voxels' second choice is its twin
            number = pieces[island]
            votes = np.bincount(number, weights=twin, minlength=n + 1)
            wrong = votes > 0.5 * sizes
            take = wrong[number]
        else:
            take = np.ones(len(second), dtype=bool)
        voxels = tuple(axis[take] + s.start for axis, s in zip(np.nonzero(island), box))
        labels[voxels] = second[take]
        posterior[(second[take], *voxels)] += own[take].astype(posterior.dtype)
        posterior[(index, *voxels)] = 0
        moved += int(take.sum())
    return moved
