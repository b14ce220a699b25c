"""Coarse copies of a volume, exact in their geometry."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Affine

STRIPPED_ZERO_FRACTION = 0.4
"""More exact zeros than this and a head is taken to have its background removed."""


def clean(volume: Volume, mask: Volume | None, name: str) -> Volume:
    """Finite float32 values, zero outside the mask.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z).
    mask : Volume or None
        On any lattice; above 0.5 is inside.
    name : str
        What to call the image in an error.

    Raises
    ------
    InputError
        Not 3D, empty, or without contrast.
    """
    if volume.data.ndim != 3:
        raise InputError(f"The {name} image has {volume.data.ndim} dimensions: give it 3.")
    data = volume.data.astype(np.float32)
    if not np.isfinite(data).all():
        data = np.nan_to_num(data, posinf=0.0, neginf=0.0)
    if mask is not None:
        data = data * (on_lattice(mask, volume).data > 0.5)
    if data.size == 0 or data.min() == data.max():
        raise InputError(f"The {name} image is empty or constant: nothing can be registered.")
    return volume.like(data)


def on_lattice(mask: Volume, volume: Volume) -> Volume:
    """The mask on the lattice of ``volume`` (trilinear, float32)."""
    if mask.grid.same_as(volume.grid):
        return Volume(mask.data.astype(np.float32), volume.affine)
    return resample(Volume(mask.data.astype(np.float32), mask.affine), volume.grid, None, "linear")


def is_stripped(volume: Volume) -> bool:
    """Whether most of the background is exactly zero."""
    return bool(np.mean(volume.data == 0) > STRIPPED_ZERO_FRACTION)


def shrink(volume: Volume, spacing_mm: float, smooth_vox: float = 0.0) -> Volume:
    """Average blocks of voxels until they measure about ``spacing_mm``.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) float32.
    spacing_mm : float
        Wanted voxel edge; axes that are coarser already stay as they are.
    smooth_vox : float
        Standard deviation of a Gaussian applied afterwards, in voxels of the result.

    Returns
    -------
    Volume
        The affine accounts for the shift of the voxel centres by half a block.
    """
    blocks = block_sizes(volume, spacing_mm)
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    if blocks.max() > 1:
        pad = [(0, int(-n % b)) for n, b in zip(data.shape, blocks)]
        data = np.pad(data, pad)
        pooled = torch.nn.functional.avg_pool3d(
            torch.from_numpy(data)[None, None], tuple(int(b) for b in blocks)
        )
        data = pooled[0, 0].numpy()
    if smooth_vox > 0:
        data = ndimage.gaussian_filter(data, smooth_vox, mode="nearest", truncate=3.0)
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ ((blocks - 1) / 2.0)
    affine[:3, :3] = volume.affine[:3, :3] * blocks
    return Volume(data, affine)


def crop(volume: Volume, margin_vox: int = 8) -> Volume:
    """The box around what is not zero, with a margin; the affine follows."""
    filled = volume.data != 0
    box = []
    for axis in range(3):
        used = np.flatnonzero(filled.any(axis=tuple(a for a in range(3) if a != axis)))
        if used.size == 0:
            return volume
        box.append(slice(max(int(used[0]) - margin_vox, 0), int(used[-1]) + margin_vox + 1))
    return volume.part(box)


def block_sizes(volume: Volume, spacing_mm: float) -> np.ndarray:
    """(3,) numbers of voxels that measure about ``spacing_mm`` together; at least one."""
    blocks = np.maximum(1, np.floor(spacing_mm / volume.zooms_mm + 0.3)).astype(int)
    return np.minimum(blocks, volume.shape[:3])


def centroid_ras(volume: Volume) -> np.ndarray:
    """(3,) RAS mm of the centre of mass of the positive values."""
    small = shrink(volume, 4.0)
    weight = np.clip(small.data, 0, np.percentile(small.data, 99)).astype(np.float64)
    if weight.sum() <= 0:
        return volume.grid.centre_ras
    points = small.grid.points_ras().reshape(-1, 3)
    return weight.ravel() @ points / weight.sum()


def on_grid(
    volume: Volume, grid: Grid, init: Affine | None = None, stretch: bool = True
) -> np.ndarray:
    """The volume, smoothed to the resolution of a lattice and sampled on it.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z); what is not finite counts as 0.
    grid : Grid
        Lattice of the result.
    init : Affine, optional
        Points of the lattice's space -> points of the volume's.
    stretch : bool
        Divide by the 99th percentile of what is above 0 and clip to 0..1.5.

    Returns
    -------
    (X', Y', Z') float32 array, 0 outside the volume.
    """
    # averaging blocks first makes the smoothing of a fine image cheap
    small = shrink(crop(volume), 0.55 * float(grid.zooms_mm.mean()))
    data = small.data if np.isfinite(small.data).all() else np.nan_to_num(small.data)
    if stretch:
        positive = data[data > 0]
        data = data / max(float(np.percentile(positive, 99)) if positive.size else 1.0, 1e-12)
        data = np.clip(data, 0.0, 1.5)
    wanted = 0.45 * grid.zooms_mm.mean()
    sigma = np.sqrt(np.maximum(wanted**2 - (0.45 * small.zooms_mm) ** 2, 0.0)) / small.zooms_mm
    if sigma.max() > 0.1:
        data = ndimage.gaussian_filter(data, sigma, truncate=3.0)
    pose = np.eye(4) if init is None else init.matrix
    to_vox = small.grid.ras2vox @ pose @ grid.affine
    return ndimage.affine_transform(
        data, to_vox[:3, :3], to_vox[:3, 3], grid.shape, np.float32, order=1, mode="constant"
    )
