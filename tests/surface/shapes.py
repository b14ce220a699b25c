"""Closed surfaces without handles for the tests."""

from __future__ import annotations

import numpy as np

from deepprep.data.surface_atlases import fsaverage_sphere
from deepprep.surface.mesh import Mesh


def ball(level: int = 3, radius: float = 100.0) -> Mesh:
    """A regular sphere of ``10 * 4**level + 2`` vertices."""
    sphere = fsaverage_sphere(level)
    return sphere.moved(sphere.vertices * (radius / 100.0))


def smooth_field(points: np.ndarray, seed: int, frequency: float = 3.0, n: int = 8) -> np.ndarray:
    """(V,) smooth random values at points of the unit sphere, about unit variance."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(n, 3)) * frequency
    phases = rng.uniform(0, 2 * np.pi, n)
    return np.sin(points @ waves.T + phases).sum(axis=1) * np.sqrt(2.0 / n)


def folded(level: int, seed: int, depth: float = 0.35) -> Mesh:
    """A star-shaped, strongly folded surface of about 50 mm."""
    unit = fsaverage_sphere(level).vertices / 100.0
    radius = 50.0 * np.exp(depth * smooth_field(unit, seed, 7.0))
    stretch = np.array([0.7, 1.4, 1.0])
    return Mesh(unit * radius[:, None] * stretch, fsaverage_sphere(level).faces)


def rotation(axis: tuple[float, float, float], angle_deg: float) -> np.ndarray:
    """Rotation about an axis, right-handed."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(angle_deg)
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def warped(sphere: Mesh, seed: int, size_mm: float) -> Mesh:
    """The sphere with vertices moved smoothly along it, ``size_mm`` at most, without folds."""
    unit = sphere.vertices / np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    shift = np.stack([smooth_field(unit, seed + k, 2.0) for k in range(3)], axis=1)
    shift -= (shift * unit).sum(axis=1, keepdims=True) * unit
    shift *= size_mm / 100.0 / np.linalg.norm(shift, axis=1).max()
    moved = unit + shift
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    return sphere.moved(100.0 * moved)
