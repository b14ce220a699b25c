"""FastSurfer's conformed head: what the networks were trained on.

Conformed: isotropic, axes exactly left, inferior, anterior (LIA), 256 voxels a side or more,
whole numbers 0..255. Intensities are scaled as mri_convert does.
"""

from __future__ import annotations

from typing import Literal

import nibabel as nib
import numpy as np
from scipy import ndimage

from deepprep.errors import StageError
from deepprep.image.volume import Grid, Volume

MIN_SIDE = 256
"""Voxels along each side of a conformed head."""

HIGH_RESOLUTION_MM = 0.95
"""Coarser images are conformed to 1 mm."""

HISTOGRAM_BINS = 1000
CLIPPED_FRACTION = 0.001
"""Share of the non-zero voxels, the brightest, that become 255."""

LIA_DIRECTIONS = np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""(3, 3) voxel axes (columns) in RAS."""

VoxelSize = Literal["1mm", "min"]


def voxel_size_mm(grid: Grid, rule: VoxelSize) -> float:
    """Voxel size of the conformed head: 1 mm, or the smallest of an image finer than 0.95 mm."""
    smallest = float(np.round(grid.zooms_mm.min(), 4))
    return smallest if rule == "min" and smallest <= HIGH_RESOLUTION_MM else 1.0


def conformed_grid(grid: Grid, rule: VoxelSize) -> Grid:
    """Lattice of the conformed head of an image in LIA order.

    The middle voxel (index shape/2, rounded down where no interpolation is needed otherwise)
    is the same point of the world in both.
    """
    size = voxel_size_mm(grid, rule)
    field_mm = float((grid.zooms_mm * grid.shape).max())
    # At 1 mm the side is always 256, FreeSurfer's standard.
    side = MIN_SIDE if size == 1.0 else max(MIN_SIDE, int(np.ceil(round(field_mm / size, 4))))
    affine = np.eye(4)
    affine[:3, :3] = LIA_DIRECTIONS * size
    middle = np.array(grid.shape) / 2.0
    if np.allclose(grid.affine[:3, :3], affine[:3, :3], atol=1e-4 * size):
        middle = np.floor(middle)
    centre_ras = nib.affines.apply_affine(grid.affine, middle)
    affine[:3, 3] = centre_ras - affine[:3, :3] @ np.full(3, side / 2.0)
    return Grid((side, side, side), affine)


def intensity_scale(data: np.ndarray) -> tuple[float, float]:
    """Offset and factor that take intensities to 0..255.

    The darkest value becomes 0; the brightest 0.1 % of the non-zero voxels may exceed 255.

    Returns
    -------
    offset, factor : float
        ``factor * (value - offset)``.

    Raises
    ------
    StageError
        When the image holds one value only.
    """
    low, high = float(data.min()), float(data.max())
    if low == high:
        raise StageError(
            f"the T1w image holds the value {low:g} only and cannot be segmented: check the file."
        )
    counts, edges = np.histogram(data, bins=HISTOGRAM_BINS, range=(low, high))
    below = np.concatenate([[0], np.cumsum(counts)])
    wanted = data.size - int(CLIPPED_FRACTION * np.count_nonzero(np.abs(data) >= 1e-15))
    top = edges[int(np.flatnonzero(below >= wanted)[0]) - 2]
    return low, 255.0 / (top - low) if top > low else 1.0


def to_lia(volume: Volume) -> Volume:
    """Reorder and flip axes to the closest LIA orientation, without interpolation.

    Doing this first makes the result independent of how the file stores the head.
    """
    ornt = nib.io_orientation(volume.affine)
    if np.isnan(ornt).any():
        raise StageError(
            "the affine of the T1w image has a zero column, so its axes cannot be told apart: "
            "correct the header."
        )
    turn = nib.orientations.ornt_transform(ornt, nib.orientations.axcodes2ornt("LIA"))
    data = nib.apply_orientation(volume.data, turn)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape[:3])
    return Volume(data, affine)


def conform(head: Volume, rule: VoxelSize) -> Volume:
    """Conform a head.

    Parameters
    ----------
    head : Volume
        (X, Y, Z), any orientation and voxel size.
    rule : {'1mm', 'min'}
        Voxel size: FastSurferCNN v1 works at 1 mm, VINN at the smallest voxel size.

    Returns
    -------
    Volume
        (N, N, N) uint8, LIA.
    """
    data = np.asarray(head.data)
    if data.dtype != np.uint8:
        data = np.nan_to_num(data.astype(np.float32), posinf=0.0, neginf=0.0)
    offset, factor = intensity_scale(data)
    lia = to_lia(head.like(data))
    target = conformed_grid(lia.grid, rule)
    to_source = lia.grid.ras2vox @ target.affine
    sampled = ndimage.affine_transform(
        lia.data.astype(np.float32, copy=False), to_source[:3, :3], to_source[:3, 3],
        output_shape=target.shape, order=1, mode="constant", cval=0.0,
    )  # fmt: skip
    if data.dtype != np.uint8:
        # Empty voxels and what lies outside the field of view stay 0.
        sampled = np.where(sampled == 0, np.float32(0), (sampled - offset) * factor)
    return Volume(np.clip(np.rint(sampled), 0, 255).astype(np.uint8), target.affine)


def box_of(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice, slice]:
    """Smallest box around the true voxels, enlarged by ``margin`` and cut to the array."""
    found = []
    for axis, n in enumerate(mask.shape):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first, last = (line[0], line[-1]) if line.size else (0, -1)
        found.append(slice(max(0, int(first) - margin), min(n, int(last) + 1 + margin)))
    return found[0], found[1], found[2]
