"""The way out of a white surface, for all banks at once.

Two banks of a sulcus grow towards each other at equal speed, slower where it is dark, and come to
rest where they meet: at the dark line between them, or half-way where the image shows none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.image.volume import Grid
from deepprep.surface.front import march_front
from deepprep.surface.mesh import Mesh
from deepprep.surface.mesh_distance import distance_near, grid_around
from deepprep.surface.scan_conversion import fill_mesh

SPACING_MM = 0.5
"""Lattice of the front."""

REACH_MM = 6.0
"""No cortex is thicker."""

LEAST_MEAN_SPEED = 0.8
"""Grey matter has at least this speed on average: fronts later than ``REACH_MM`` at it are not
followed."""

NEAR_MM = 1.01
"""Exact distances this near to the surface."""

BURIED_MM = 0.3
"""Lattice points deeper inside say nothing about the way out."""


@dataclass(frozen=True)
class OutwardField:
    """Direction of growth around a white surface.

    Attributes
    ----------
    direction : (X, Y, Z, 3) float32 array
        Gradient of the arrival time times speed.
    grid : Grid
        Isotropic, along the axes of the world.
    """

    direction: np.ndarray
    grid: Grid


def outward_grid(white: Mesh) -> Grid:
    """Lattice for :func:`outward_field`."""
    return grid_around(white, SPACING_MM, REACH_MM + 1.0)


def outward_field(white: Mesh, grid: Grid, speed: np.ndarray) -> OutwardField:
    """Let a front grow from a white surface.

    Parameters
    ----------
    white : Mesh
        Closed, without self-intersections.
    grid : Grid
        Of :func:`outward_grid`.
    speed : (X, Y, Z) array
        Of the front, 0.1 to 1.

    Returns
    -------
    OutwardField
    """
    inside = fill_mesh(white, grid)
    near = distance_near(white, grid, NEAR_MM)
    start = np.where(inside & ~np.isfinite(near), -np.inf, near)
    start = np.where(inside & np.isfinite(near), -near, start).astype(np.float32)
    times = march_front(start, speed, SPACING_MM, REACH_MM / LEAST_MEAN_SPEED)
    return OutwardField(_gradient(times, np.where(np.isfinite(near), 1.0, speed).astype(np.float32),
                                  np.float32(SPACING_MM), np.float32(-BURIED_MM)), grid)  # fmt: skip


@compiled()
def _gradient(times: np.ndarray, speed: np.ndarray, spacing: float, buried: float) -> np.ndarray:
    nx, ny, nz = times.shape
    out = np.zeros((nx, ny, nz, 3), dtype=np.float32)
    for i in range(1, nx - 1):
        for j in range(1, ny - 1):
            for k in range(1, nz - 1):
                t = times[i, j, k]
                if t < buried:
                    # beyond the middle of a thin blade the gradient points to the other bank
                    out[i, j, k, 0] = np.nan
                    continue
                if not np.isfinite(t):
                    continue
                for axis in range(3):
                    a = times[i - (axis == 0), j - (axis == 1), k - (axis == 2)]
                    b = times[i + (axis == 0), j + (axis == 1), k + (axis == 2)]
                    if np.isfinite(a) and np.isfinite(b):
                        d = 0.5 * (b - a)
                    elif np.isfinite(b):
                        d = b - t
                    elif np.isfinite(a):
                        d = t - a
                    else:
                        d = 0.0
                    out[i, j, k, axis] = d * speed[i, j, k] / spacing
    return out


def outward_velocity(field: OutwardField, points_ras: np.ndarray) -> np.ndarray:
    """(V, 3) velocity of the front at points: length 1 in free cortex, small where fronts meet."""
    at = (points_ras - field.grid.affine[:3, 3]) / SPACING_MM
    return _velocity(field.direction, at)


@compiled(nogil=True)
def _velocity(g: np.ndarray, points: np.ndarray) -> np.ndarray:
    out = np.zeros((len(points), 3))
    d = np.empty(3)
    for v in range(len(points)):
        length = min(_direction(g, points[v], d), 1.2)
        for k in range(3):
            out[v, k] = length * d[k]
    return out


@compiled(nogil=True)
def _direction(g: np.ndarray, p: np.ndarray, d: np.ndarray) -> float:
    """Unit direction at a point, trilinear; returns the length before scaling (0 outside)."""
    d[:] = 0.0
    for k in range(3):
        if not (0 <= p[k] < g.shape[k] - 1):
            return 0.0
    i, j, k = int(p[0]), int(p[1]), int(p[2])
    total = 0.0
    x, y, z = p[0] - i, p[1] - j, p[2] - k
    for a in range(2):
        for b in range(2):
            for c in range(2):
                if np.isnan(g[i + a, j + b, k + c, 0]):
                    continue
                w = (x if a else 1 - x) * (y if b else 1 - y) * (z if c else 1 - z)
                total += w
                for m in range(3):
                    d[m] += w * g[i + a, j + b, k + c, m]
    if total > 0:
        for m in range(3):
            d[m] /= total
    length = np.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
    if length > 0:
        for m in range(3):
            d[m] /= length
    return length
