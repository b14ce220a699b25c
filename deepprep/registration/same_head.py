"""Whether two T1w images show one head, and how they lie to each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration.affine import register_affine
from deepprep.registration.transforms import Affine

SPACING_MM = 1.5
"""Lattice of the comparison."""

FINE_MM, COARSE_MM = 1.0, 6.0
"""Structures between these sizes are compared: gyri, ventricles; neither noise nor shading."""

SAME = 0.5
"""Correlation from which two images show one head: another one has 0.0, a shift of 1 mm leaves 0.75."""

STILL_MM = 0.5
"""Images that lie closer than this to each other, 60 mm from the centre, are taken to agree."""


@dataclass(frozen=True)
class HeadMatch:
    """Comparison of an image with a reference.

    Attributes
    ----------
    to_other : Affine
        RAS mm of the reference to RAS mm of the other image; the identity where headers agree.
    correlation : float
        Of structures of 1 to 6 mm in the brain, after that map.
    by_header : float
        The same without it.
    moved_mm : float
        How far the map moves the centre of the brain and points 60 mm from it, at most.
    """

    to_other: Affine
    correlation: float
    by_header: float
    moved_mm: float

    @property
    def same(self) -> bool:
        """Whether both show one head."""
        return self.correlation >= SAME


def match_heads(reference: Volume, mask: Volume, other: Volume) -> HeadMatch:
    """Compare an image with a reference, as their headers say and after a rigid registration.

    Parameters
    ----------
    reference : Volume
        (X, Y, Z) T1w.
    mask : Volume
        Its brain, on the same lattice.
    other : Volume
        (X, Y, Z) T1w, any lattice.

    Returns
    -------
    HeadMatch
    """
    still = Affine.identity()
    reference = reference.like(reference.data.astype(np.float32))
    other = other.like(other.data.astype(np.float32))
    by_header = _likeness(reference, mask, other, still)
    fitted = [register_affine(reference, other, fixed_mask=mask, init=still, metric="ncc", dof=6)]
    likeness = [_likeness(reference, mask, other, fitted[0])]
    if max(by_header, likeness[0]) < SAME:
        fitted.append(register_affine(reference, other, fixed_mask=mask, metric="ncc", dof=6))
        likeness.append(_likeness(reference, mask, other, fitted[1]))
    best = int(np.argmax(likeness))
    moved = _largest_move(fitted[best], reference, mask)
    if (by_header >= SAME and moved < STILL_MM) or by_header >= likeness[best]:
        return HeadMatch(still, by_header, by_header, 0.0)
    return HeadMatch(fitted[best], likeness[best], by_header, moved)


def _likeness(reference: Volume, mask: Volume, other: Volume, to_other: Affine) -> float:
    step = np.maximum(1, np.rint(SPACING_MM / reference.zooms_mm)).astype(int)
    there = resample(other, reference.grid, to_other, "linear").data
    every = tuple(slice(None, None, s) for s in step)
    inside = (mask.data > 0)[every]
    if not inside.any():
        return 0.0
    zooms = reference.zooms_mm
    pair = []
    for data in (np.nan_to_num(np.asarray(reference.data, dtype=np.float32)), there):
        fine = ndimage.gaussian_filter(data, FINE_MM / 2.355 / zooms)[every]
        coarse = ndimage.gaussian_filter(data[every], COARSE_MM / 2.355 / (zooms * step))
        values = (fine - coarse)[inside]
        low, high = np.percentile(values, [1, 99])
        pair.append(np.clip(values, low, high))
    if min(float(values.std()) for values in pair) == 0:
        return 0.0
    return float(np.corrcoef(*pair)[0, 1])


def _largest_move(found: Affine, reference: Volume, mask: Volume) -> float:
    centre = np.argwhere(mask.data > 0).mean(axis=0)
    centre_ras = reference.affine[:3, :3] @ centre + reference.affine[:3, 3]
    around = np.concatenate([np.zeros((1, 3)), 60.0 * np.eye(3), -60.0 * np.eye(3)])
    points = centre_ras + around
    return float(np.linalg.norm(found.map_points(points) - points, axis=1).max())
