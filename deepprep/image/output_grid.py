"""Lattices that BOLD series are resampled to."""

from __future__ import annotations

import numpy as np

from deepprep.image.conform import to_ras
from deepprep.image.volume import Grid, Volume

MARGIN_VOXELS = 2
"""Voxels kept around the mask when a lattice is cut to it."""


def regrid(reference: Grid, zooms_mm: np.ndarray, mask: np.ndarray | None = None) -> Grid:
    """A lattice with other voxels over the field of view of ``reference``.

    The axes and the outer faces of the field of view stay those of ``reference`` (the last
    voxel may reach beyond by less than its size); with a mask the field of view is its
    bounding box and a margin.

    Parameters
    ----------
    reference : Grid
        Lattice that gives axes and field of view.
    zooms_mm : (3,) array
        Voxel size of the result along the axes of ``reference``, in mm.
    mask : (X, Y, Z) bool array, optional
        On ``reference``; cuts the field of view.

    Returns
    -------
    Grid

    Raises
    ------
    ValueError
        If the mask is empty or its shape is not that of ``reference``.
    """
    zooms = np.asarray(zooms_mm, dtype=float)
    low, high = np.zeros(3), np.array(reference.shape, dtype=float)
    margin = np.zeros(3)
    if mask is not None:
        if mask.shape != reference.shape:
            raise ValueError(f"mask {mask.shape} and lattice {reference.shape} differ")
        for axis in range(3):
            other = tuple(a for a in range(3) if a != axis)
            index = np.flatnonzero(mask.any(axis=other))
            if not index.size:
                raise ValueError("the mask that should cut the lattice is empty")
            low[axis], high[axis] = index[0], index[-1] + 1
        margin = MARGIN_VOXELS * zooms / reference.zooms_mm
        low, high = low - margin, high + margin
    length_mm = (high - low) * reference.zooms_mm
    shape = np.maximum(1, np.ceil(length_mm / zooms - 1e-3)).astype(int)
    axes = reference.affine[:3, :3] / reference.zooms_mm
    affine = np.eye(4)
    affine[:3, :3] = axes * zooms
    # Faces lie half a voxel outside the centres: -0.5 is the face of voxel 0.
    face = reference.affine[:3, :3] @ (low - 0.5) + reference.affine[:3, 3]
    affine[:3, 3] = face + affine[:3, :3] @ np.full(3, 0.5)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def zooms_in_ras_order(grid: Grid) -> np.ndarray:
    """Voxel sizes of a lattice along the axes closest to R, A and S, in mm, shape (3,)."""
    empty = np.broadcast_to(np.uint8(0), grid.shape)
    return np.round(to_ras(Volume(empty, grid.affine)).zooms_mm, 4)
