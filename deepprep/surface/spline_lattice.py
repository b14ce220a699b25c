"""A finer lattice with the same axes, and cubic interpolation onto it, axis by axis."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.spline_matrix import interpolation_matrix
from deepprep.image.volume import Grid

MOST_BLUR = 1.1
"""A lattice coarser than this many voxels of the image takes means, so that noise is not aliased."""


def finer_grid(source: Grid, spacing_mm: float) -> Grid:
    """Isotropic lattice with the axes of ``source`` that covers its voxel centres.

    Parameters
    ----------
    source : Grid
        Any orientation and voxel size.
    spacing_mm : float
        Voxel size of the result.
    """
    ratio = spacing_mm / source.zooms_mm
    extent = np.array(source.shape) - 1
    n = np.floor(extent / ratio).astype(int) + 1
    # what is left over is shared by both ends
    first = (extent - (n - 1) * ratio) / 2
    affine = source.affine.copy()
    affine[:3, :3] = source.affine[:3, :3] * ratio
    affine[:3, 3] = source.affine[:3, :3] @ first + source.affine[:3, 3]
    return Grid((int(n[0]), int(n[1]), int(n[2])), affine)


def to_finer(data: np.ndarray, source: Grid, target: Grid, degree: int = 3) -> np.ndarray:
    """Interpolate onto a lattice of :func:`finer_grid`.

    Parameters
    ----------
    data : (X, Y, Z) float array
        On ``source``.
    source, target : Grid
    degree : {1, 3}
        Linear, or cubic interpolating spline.

    Returns
    -------
    float32 array of the shape of ``target``
    """
    between = source.ras2vox @ target.affine
    out = np.asarray(data, dtype=np.float32)
    for axis in range(3):
        step = float(between[axis, axis])
        if step > MOST_BLUR:
            out = ndimage.gaussian_filter1d(out, 0.4 * np.sqrt(step**2 - 1), axis)
        at = between[axis, 3] + step * np.arange(target.shape[axis])
        weights = interpolation_matrix(out.shape[axis], at, degree)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)
