"""The way out of a white surface, for all banks at once.

Two banks of a sulcus grow towards each other at equal speed, slower where it is dark, and come to
rest where they meet: at the dark line between them, or half-way where the image shows none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deepprep.image.compiled import compiled
from deepprep.image.volume import Grid
from deepprep.surface.front import march_front
from deepprep.surface.mesh import Mesh
from deepprep.surface.mesh_distance import distance_near, grid_around
from deepprep.surface.scan_conversion import fill_mesh
from deepprep.surface.vertex_tensors import LinearSampler

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


class OutwardVelocity:
    """Velocity of the front at points: length 1 in free cortex, small where fronts meet.

    Parameters
    ----------
    field : OutwardField
    device : str
        Torch device.
    """

    def __init__(self, field: OutwardField, device: str = "cpu") -> None:
        known = np.isfinite(field.direction[..., 0])
        channels = np.empty((4, *known.shape), np.float32)
        channels[3] = known
        for axis in range(3):
            channels[axis] = np.where(known, field.direction[..., axis], 0)
        self._sample = LinearSampler(channels, field.grid.ras2vox, device)
        self._low = field.grid.affine[:3, 3]
        self._high = self._low + SPACING_MM * (np.array(known.shape) - 1)

    def __call__(self, points_ras: torch.Tensor) -> torch.Tensor:
        """(V, 3) at (V, 3) points, RAS mm; 0 outside of the field."""
        found = self._sample(points_ras)
        # the mean over those of the eight corners that say something
        velocity = found[:, :3] / found[:, 3:].clamp(min=1e-6)
        low, high = (torch.from_numpy(end).to(points_ras) for end in (self._low, self._high))
        inside = ((points_ras >= low) & (points_ras < high)).all(dim=1, keepdim=True)
        length = velocity.norm(dim=1, keepdim=True)
        return velocity * inside * (1.2 / length.clamp(min=1.2))
