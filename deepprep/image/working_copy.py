"""A smaller copy of an anatomical image for registration: the brain's box at a bounded resolution."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.output_grid import regrid
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume

WORKING_ZOOM_MM = 1.0
"""The finest level of the normalisation."""


def working_grid(reference: Grid, mask: np.ndarray, zoom_mm: float = WORKING_ZOOM_MM) -> Grid:
    """The box of ``mask`` with voxels no finer than ``zoom_mm``, on the axes of ``reference``."""
    return regrid(reference, np.maximum(reference.zooms_mm, zoom_mm), mask)


def working_copy(volume: Volume, grid: Grid) -> Volume:
    """``volume`` smoothed to the resolution of ``grid`` and sampled on it.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z).
    grid : Grid
        From :func:`working_grid`.

    Returns
    -------
    Volume
        float32.
    """
    low, high = _box(volume.grid, grid)
    data = volume.data[tuple(slice(a, b) for a, b in zip(low, high))].astype(np.float32)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    # A Gaussian whose width makes up the difference of the voxels' widths (FWHM in quadrature).
    ratio = grid.zooms_mm.max() / volume.zooms_mm
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / 2.355
    if sigma.max() > 0.2:
        data = ndimage.gaussian_filter(data, sigma, truncate=3.0)
    return resample(Volume(data, affine), grid, None, "linear")


def _box(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of ``source`` that ``target`` can see, with some to spare for the smoothing."""
    corners = np.array(np.meshgrid(*[[-1, n] for n in target.shape], indexing="ij")).reshape(3, -1)
    ras = target.affine[:3, :3] @ corners + target.affine[:3, 3:]
    vox = source.ras2vox[:3, :3] @ ras + source.ras2vox[:3, 3:]
    low = np.clip(np.floor(vox.min(axis=1)).astype(int) - 3, 0, np.array(source.shape) - 1)
    high = np.clip(np.ceil(vox.max(axis=1)).astype(int) + 4, low + 1, source.shape)
    return low, high
