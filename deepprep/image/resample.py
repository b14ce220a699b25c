"""Resampling of volumes through any point transform, on CPU or GPU.

A transform here is any object with ``map_points(points) -> points`` that takes an
(N, 3) array of RAS mm in the *output* space to RAS mm in the *input* space (the ITK
convention), or ``None`` for the identity.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.label_vote import vote
from deepprep.image.volume import Grid, Volume

Interpolation = Literal["cubic", "linear", "nearest", "label"]

CHUNK_POINTS = 2_000_000
"""Points mapped at a time, to bound memory."""


class PointTransform(Protocol):
    """Maps points of the output space to the input space (RAS mm)."""

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) RAS mm in the output space -> (N, 3) RAS mm in the input space."""
        ...


def input_voxels(source: Grid, target: Grid, transform: PointTransform | None) -> np.ndarray:
    """Voxel coordinates in ``source`` of every voxel centre of ``target``.

    Parameters
    ----------
    source, target : Grid
        Lattice sampled from, lattice sampled at.
    transform : PointTransform or None
        Maps target RAS mm to source RAS mm.

    Returns
    -------
    (3, X, Y, Z) float32 array of voxel coordinates.
    """
    out = np.empty((3, *target.shape), dtype=np.float32)
    flat = out.reshape(3, -1)
    n = flat.shape[1]
    for start in range(0, n, CHUNK_POINTS):
        index = np.arange(start, min(n, start + CHUNK_POINTS))
        ijk = np.stack(np.unravel_index(index, target.shape), axis=1)
        points = ijk @ target.affine[:3, :3].T + target.affine[:3, 3]
        if transform is not None:
            points = np.asarray(transform.map_points(points))
        vox = points @ source.ras2vox[:3, :3].T + source.ras2vox[:3, 3]
        flat[:, index] = vox.T
    return out


def resample(
    volume: Volume,
    target: Grid,
    transform: PointTransform | None = None,
    interpolation: Interpolation = "cubic",
    fill: float = 0.0,
    device: str | torch.device = "cpu",
) -> Volume:
    """Resample a 3D or 4D volume onto another lattice.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) or (X, Y, Z, T).
    target : Grid
        Lattice of the result.
    transform : PointTransform, optional
        Maps target RAS mm to source RAS mm; identity when absent.
    interpolation : {'cubic', 'linear', 'nearest', 'label'}
        Cubic B-spline (with prefilter), trilinear, nearest, or ``label``: arg-max of the
        linearly interpolated one-hot maps, which keeps label borders smooth.
    fill : float
        Value outside the source field of view.
    device : str or torch.device
        Where 'linear' runs; the B-spline runs on CPU.

    Returns
    -------
    Volume
        float32 for 'cubic' and 'linear', the input's dtype for the others.
    """
    coords = input_voxels(volume.grid, target, transform)
    if interpolation == "label":
        return Volume(_resample_labels(volume.data, coords, int(fill)), target.affine)
    frames = [volume.data] if volume.data.ndim == 3 else np.moveaxis(volume.data, 3, 0)
    done = [_sample(frame, coords, interpolation, fill, device) for frame in frames]
    data = done[0] if volume.data.ndim == 3 else np.stack(done, axis=3)
    return Volume(data, target.affine)


def resample_image(volume: Volume, target: Grid, transform: PointTransform | None = None) -> Volume:
    """Resample an image by cubic splines without what splines add: overshoot and echoes.

    Intensities keep the input's range, and a background that is exactly zero stays so (that is
    how a skull-stripped or defaced image is told from a whole head).

    Parameters
    ----------
    volume : Volume
        (X, Y, Z).
    target, transform
        As in :func:`resample`.
    """
    out = resample(volume, target, transform, "cubic")
    data = np.clip(out.data, float(volume.data.min()), float(volume.data.max()))
    filled = resample(
        volume.like((volume.data != 0).astype(np.float32)), target, transform, "linear"
    )
    return out.like(np.where(filled.data > 0.5, data, np.float32(0)))


def _sample(
    frame: np.ndarray,
    coords: np.ndarray,
    interpolation: Interpolation,
    fill: float,
    device: str | torch.device,
) -> np.ndarray:
    if interpolation == "nearest":
        return ndimage.map_coordinates(
            frame, coords, order=0, mode="constant", cval=fill, output=frame.dtype
        )
    if interpolation == "cubic":
        return ndimage.map_coordinates(
            frame.astype(np.float32), coords, order=3, mode="grid-constant", cval=fill,
            output=np.float32,
        )  # fmt: skip
    return sample_linear(frame, coords, fill, device)


def sample_linear(
    frame: np.ndarray, coords: np.ndarray, fill: float = 0.0, device: str | torch.device = "cpu"
) -> np.ndarray:
    """Trilinear values of ``frame`` (X, Y, Z) at voxel ``coords`` (3, ...); float32."""
    values = torch.as_tensor(np.ascontiguousarray(frame, dtype=np.float32), device=device)
    grid = torch.as_tensor(coords, dtype=torch.float32, device=device).flip(0)
    size = torch.tensor(frame.shape[::-1], dtype=torch.float32, device=device)
    scale = 2.0 / (size - 1).clamp(min=1)
    grid = (grid.reshape(3, 1, 1, -1).permute(1, 2, 3, 0) * scale - 1)[None]
    if fill != 0.0:
        values = values - fill
    out = torch.nn.functional.grid_sample(
        values[None, None], grid, mode="bilinear", padding_mode="zeros", align_corners=True
    )
    return (out.reshape(coords.shape[1:]) + fill).cpu().numpy()


def _resample_labels(labels: np.ndarray, coords: np.ndarray, fill: int) -> np.ndarray:
    out = np.empty(coords[0].size, np.int64)
    points = np.ascontiguousarray(coords.reshape(3, -1), dtype=np.float32)
    numbers = np.rint(labels) if np.issubdtype(labels.dtype, np.floating) else labels
    vote(np.ascontiguousarray(numbers, dtype=np.int64), points, fill, out)
    return out.reshape(coords.shape[1:]).astype(labels.dtype)
