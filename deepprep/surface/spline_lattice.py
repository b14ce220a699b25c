"""A finer lattice with the same axes, and cubic interpolation onto it, axis by axis."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.interpolate import BSpline

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
        weights = _interpolation_matrix(out.shape[axis], at, degree)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return np.ascontiguousarray(out)


def _interpolation_matrix(n: int, at: np.ndarray, degree: int) -> np.ndarray:
    """(M, n) float32 weights that interpolate n values at the positions ``at``."""
    at = np.clip(at, 0, n - 1)
    if n <= degree:
        degree = 1
    if n == 1:
        return np.ones((len(at), 1), dtype=np.float32)
    inner = np.arange(1, n - 1) if degree == 1 else np.arange(2, n - 2)
    knots = np.concatenate([np.zeros(degree + 1), inner, np.full(degree + 1, n - 1)])
    own = BSpline.design_matrix(np.arange(n, dtype=float), knots, degree).toarray()
    wanted = BSpline.design_matrix(at, knots, degree).toarray()
    return np.linalg.solve(own.T, wanted.T).T.astype(np.float32)
