"""Image values along lines that start at the vertices of a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.compiled import compiled
from deepprep.image.volume import Volume

MARGIN_MM = 12.0
"""Image kept around a surface."""


@dataclass(frozen=True)
class SplineImage:
    """Part of an image as coefficients of cubic B-splines.

    Attributes
    ----------
    coefficients : (X, Y, Z) float32 array
    ras2vox : (4, 4) array
        RAS mm to index in ``coefficients``.
    """

    coefficients: np.ndarray
    ras2vox: np.ndarray


def spline_image(
    image: Volume, points_ras: np.ndarray, margin_mm: float = MARGIN_MM
) -> SplineImage:
    """Prepare the part of an image around points for sampling.

    Parameters
    ----------
    image : Volume
        (X, Y, Z), any orientation; what is not finite counts as 0.
    points_ras : (N, 3) array
        RAS mm.
    margin_mm : float
        Image kept beyond the box around the points.

    Returns
    -------
    SplineImage

    Raises
    ------
    ValueError
        If no point lies in the image.
    """
    box, affine = image_box(image, points_ras, margin_mm)
    data = np.nan_to_num(np.asarray(image.data[box], dtype=np.float32))
    coefficients = ndimage.spline_filter(data, order=3, output=np.float32, mode="mirror")
    return SplineImage(np.ascontiguousarray(coefficients), np.linalg.inv(affine))


def image_box(
    image: Volume, points_ras: np.ndarray, margin_mm: float
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Voxels around points: slices, and the affine of the part they cut out.

    Raises
    ------
    ValueError
        If no point lies in the image.
    """
    low, high = points_ras.min(axis=0) - margin_mm, points_ras.max(axis=0) + margin_mm
    corners = np.stack(np.meshgrid(*zip(low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = corners @ image.grid.ras2vox[:3, :3].T + image.grid.ras2vox[:3, 3]
    start = np.maximum(np.floor(voxels.min(axis=0)).astype(int), 0)
    stop = np.minimum(np.ceil(voxels.max(axis=0)).astype(int) + 1, image.shape[:3])
    if (stop <= start).any():
        raise ValueError("the surface lies outside of the image: are they of the same head?")
    x, y, z = (slice(int(a), int(b)) for a, b in zip(start, stop))
    return (x, y, z), image.grid.part((x, y, z)).affine


def sample_profiles(
    image: SplineImage, points_ras: np.ndarray, directions: np.ndarray, distances_mm: np.ndarray
) -> np.ndarray:
    """Values at each distance along the direction of each point.

    Parameters
    ----------
    image : SplineImage
    points_ras, directions : (V, 3) arrays
        RAS mm, and unit vectors.
    distances_mm : (K,) array

    Returns
    -------
    (V, K) float32 array
        The nearest border value outside of the image.
    """
    start = points_ras @ image.ras2vox[:3, :3].T + image.ras2vox[:3, 3]
    step = directions @ image.ras2vox[:3, :3].T
    return _profiles(
        image.coefficients, start, step, np.asarray(distances_mm, dtype=np.float64)
    )  # fmt: skip


def sample_points(image: SplineImage, points_ras: np.ndarray) -> np.ndarray:
    """(N,) float32 values at points, RAS mm."""
    return sample_profiles(image, points_ras, np.zeros_like(points_ras), np.zeros(1))[:, 0]


def falling_crossing(
    profiles: torch.Tensor, distances_mm: np.ndarray, levels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where each profile falls through its level, nearest to distance 0.

    Parameters
    ----------
    profiles : (V, K) tensor
    distances_mm : (K,) array
        Increasing.
    levels : (V,) tensor

    Returns
    -------
    place_mm : (V,) tensor
        Interpolated linearly; 0 where there is none.
    slope : (V,) tensor
        Change of the profile there, in its units per mm; negative, 0 where there is none.
    found : (V,) bool tensor
    """
    at = torch.as_tensor(distances_mm, dtype=profiles.dtype, device=profiles.device)
    step = at.diff()
    above = profiles > levels[:, None]
    falls = above[:, :-1] & ~above[:, 1:]
    before, after = profiles[:, :-1], profiles[:, 1:]
    drop = torch.where(falls, before - after, 1.0)
    place = at[:-1] + step * torch.where(falls, before - levels[:, None], 0.0) / drop
    away = torch.where(falls, place.abs(), torch.inf)
    best = away.argmin(dim=1, keepdim=True)

    def chosen(values: torch.Tensor) -> torch.Tensor:
        return values.gather(1, best)[:, 0]

    found = chosen(falls)
    slope = torch.where(found, -chosen(drop) / step[best[:, 0]], 0.0)
    return torch.where(found, chosen(place), 0.0), slope, found


@compiled()
def _weights(t: float, w: np.ndarray) -> None:
    u = 1.0 - t
    w[0] = u * u * u / 6.0
    w[1] = 2.0 / 3.0 - 0.5 * t * t * (2.0 - t)
    w[2] = 2.0 / 3.0 - 0.5 * u * u * (2.0 - u)
    w[3] = t * t * t / 6.0


@compiled()
def _mirror(i: int, n: int) -> int:
    if i < 0:
        i = -i
    if i >= n:
        i = 2 * n - 2 - i
    return min(max(i, 0), n - 1)


@compiled()
def spline_value(c: np.ndarray, x: float, y: float, z: float, w: np.ndarray) -> float:
    """Cubic B-spline at a voxel position, clamped to the array; ``w`` is (3, 4) scratch."""
    x = min(max(x, 0.0), c.shape[0] - 1.0)
    y = min(max(y, 0.0), c.shape[1] - 1.0)
    z = min(max(z, 0.0), c.shape[2] - 1.0)
    i, j, k = int(x), int(y), int(z)
    _weights(x - i, w[0])
    _weights(y - j, w[1])
    _weights(z - k, w[2])
    total = 0.0
    inner = (
        0 < i < c.shape[0] - 2 and 0 < j < c.shape[1] - 2 and 0 < k < c.shape[2] - 2
    )  # fmt: skip
    for a in range(4):
        ia = i + a - 1 if inner else _mirror(i + a - 1, c.shape[0])
        row = 0.0
        for b in range(4):
            jb = j + b - 1 if inner else _mirror(j + b - 1, c.shape[1])
            line = 0.0
            for e in range(4):
                ke = k + e - 1 if inner else _mirror(k + e - 1, c.shape[2])
                line += w[2, e] * c[ia, jb, ke]
            row += w[1, b] * line
        total += w[0, a] * row
    return total


@compiled(nogil=True)
def _profiles(c: np.ndarray, start: np.ndarray, step: np.ndarray, at: np.ndarray) -> np.ndarray:
    out = np.empty((len(start), len(at)), dtype=np.float32)
    w = np.empty((3, 4))
    for v in range(len(start)):
        for s in range(len(at)):
            d = at[s]
            out[v, s] = spline_value(
                c, start[v, 0] + d * step[v, 0], start[v, 1] + d * step[v, 1],
                start[v, 2] + d * step[v, 2], w,
            )  # fmt: skip
    return out
