"""Echo-planar acquisition of a moving head, slice by slice, with distortion."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from deepprep.image.volume import Grid

MIN_STRETCH = 0.4
"""Signal piles up at most 1 / this high; beyond it real signal would dephase."""


@dataclass(frozen=True)
class Source:
    """What is sampled: maps of the head at rest on a fine lattice, blurred to the voxel's size.

    Parameters
    ----------
    grid : Grid
        Lattice of the maps.
    maps : (C, X, Y, Z) float32 array
        Signal maps, B-spline coefficients (``spline_maps``).
    field_hz : (X, Y, Z) float32 array
        B0 offset.
    """

    grid: Grid
    maps: np.ndarray
    field_hz: np.ndarray


@dataclass(frozen=True)
class Scanner:
    """Geometry and timing of the EPI.

    Parameters
    ----------
    grid : Grid
        BOLD lattice.
    slice_times_s : (Z,) array
        Acquisition time of each slice after the start of the frame.
    pe_sign : int
        +1 for PhaseEncodingDirection ``j``, -1 for ``j-``.
    readout_s : float
        TotalReadoutTime; a field of B Hz moves signal by ``pe_sign * B * readout_s`` voxels.
    """

    grid: Grid
    slice_times_s: np.ndarray
    pe_sign: int
    readout_s: float


def spline_maps(maps: np.ndarray) -> np.ndarray:
    """Cubic B-spline coefficients of (C, X, Y, Z) maps."""
    return np.stack([ndimage.spline_filter(m, 3, np.float32, mode="mirror") for m in maps])


def acquire_frame(source: Source, scanner: Scanner, slice_poses: np.ndarray) -> np.ndarray:
    """One frame, every slice with the pose the head has at that moment.

    Parameters
    ----------
    source : Source
    scanner : Scanner
    slice_poses : (Z, 4, 4) array
        Maps head points at rest to points at the time of the slice.

    Returns
    -------
    (C, X, Y, Z) float32 array
        Each signal map as this frame shows it, distorted, with Jacobian modulation.

    Notes
    -----
    Signal of a point at voxel ``j`` appears at ``j + s(j)``, ``s = pe_sign * readout_s * B``. The
    point that appears at ``y`` solves ``j + s(j) = y``; its signal is divided by ``1 + ds/dj``.
    The field moves with the head.
    """
    to_fine = np.stack(
        [source.grid.ras2vox @ np.linalg.inv(pose) @ scanner.grid.affine for pose in slice_poses]
    )
    return _acquire(
        source.maps, source.field_hz, to_fine, scanner.pe_sign * scanner.readout_s,
        scanner.grid.shape[0], scanner.grid.shape[1],
    )  # fmt: skip


@numba.njit(cache=True, fastmath=True, inline="always")
def _weights(t: float, w: np.ndarray) -> None:
    w[0] = (1 - t) ** 3 / 6
    w[1] = (4 - 6 * t * t + 3 * t**3) / 6
    w[2] = (1 + 3 * t + 3 * t * t - 3 * t**3) / 6
    w[3] = t**3 / 6


@numba.njit(cache=True, fastmath=True)
def _linear(volume: np.ndarray, x: float, y: float, z: float) -> float:
    nx, ny, nz = volume.shape
    x = min(max(x, 0.0), nx - 1.001)
    y = min(max(y, 0.0), ny - 1.001)
    z = min(max(z, 0.0), nz - 1.001)
    i, j, k = int(x), int(y), int(z)
    u, v, w = x - i, y - j, z - k
    total = 0.0
    for a in range(2):
        for b in range(2):
            weight = (u if a else 1 - u) * (v if b else 1 - v)
            total += weight * ((1 - w) * volume[i + a, j + b, k] + w * volume[i + a, j + b, k + 1])
    return total


@numba.njit(cache=True, fastmath=True, parallel=True)
def _acquire(
    maps: np.ndarray, field: np.ndarray, to_fine: np.ndarray, gain: float, nx: int, ny: int
) -> np.ndarray:
    n_maps, sx, sy, sz = maps.shape
    nz = to_fine.shape[0]
    out = np.zeros((n_maps, nx, ny, nz), dtype=np.float32)
    for k in numba.prange(nz):
        m = to_fine[k]
        wx, wy, wz = np.empty(4), np.empty(4), np.empty(4)
        for i in range(nx):
            for y in range(ny):
                j = float(y)
                for _ in range(12):
                    f = _linear(
                        field,
                        m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3],
                        m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3],
                        m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3],
                    )
                    new = y - gain * f
                    if abs(new - j) < 1e-4:
                        j = new
                        break
                    j = 0.5 * (j + new)
                slope = 0.0
                for side in range(2):
                    q = j + (0.25 if side else -0.25)
                    f = _linear(
                        field,
                        m[0, 0] * i + m[0, 1] * q + m[0, 2] * k + m[0, 3],
                        m[1, 0] * i + m[1, 1] * q + m[1, 2] * k + m[1, 3],
                        m[2, 0] * i + m[2, 1] * q + m[2, 2] * k + m[2, 3],
                    )
                    slope += (2.0 if side else -2.0) * gain * f
                density = 1.0 / max(1.0 + slope, MIN_STRETCH)
                px = m[0, 0] * i + m[0, 1] * j + m[0, 2] * k + m[0, 3]
                py = m[1, 0] * i + m[1, 1] * j + m[1, 2] * k + m[1, 3]
                pz = m[2, 0] * i + m[2, 1] * j + m[2, 2] * k + m[2, 3]
                if px < 1 or py < 1 or pz < 1 or px >= sx - 2 or py >= sy - 2 or pz >= sz - 2:
                    continue
                a, b, c = int(px), int(py), int(pz)
                _weights(px - a, wx)
                _weights(py - b, wy)
                _weights(pz - c, wz)
                for channel in range(n_maps):
                    total = 0.0
                    for u in range(4):
                        for v in range(4):
                            row = wx[u] * wy[v]
                            for w in range(4):
                                total += (
                                    row * wz[w] * maps[channel, a + u - 1, b + v - 1, c + w - 1]
                                )
                    out[channel, i, y, k] = total * density
    return out
