"""Made-up heads for the registration tests: known anatomy, known motion."""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Affine

EXTENT_MM = 150.0


def grid(spacing_mm=3.0, zooms=(1.0, 1.0, 1.0), flip=(1, 1, 1), turn_deg=0.0) -> Grid:
    """A lattice of 150 mm about the origin, with voxels ``spacing_mm * zooms``."""
    steps = spacing_mm * np.array(zooms)
    shape = np.round(EXTENT_MM / steps).astype(int)
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [turn_deg, 0, turn_deg / 2], degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(steps * np.array(flip))
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2.0)
    return Grid(tuple(shape), affine)


def motion(degrees=(0, 0, 0), mm=(0, 0, 0), scales=(1, 1, 1)) -> Affine:
    """Rotation and scales about the origin, then translation."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(scales)
    matrix[:3, 3] = mm
    return Affine(matrix)


@functools.cache
def _fine_labels(seed: int) -> Volume:
    fine = grid(1.5)
    points = fine.points_ras()
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=fine.shape), 4.0)
    noise /= noise.std()
    radius = np.sqrt((((points + [4.0, 0, 0]) / [46.0, 60.0, 50.0]) ** 2).sum(-1))
    radius += 0.0008 * points[..., 2]
    labels = np.zeros(fine.shape, np.uint8)
    labels[radius + 0.01 * noise < 1.0] = 1
    labels[radius + 0.02 * noise < 0.94] = 2
    labels[radius + 0.13 * noise < 0.75] = 3
    labels[np.linalg.norm((points - [6, 8, 4]) / [7.0, 18.0, 10.0], axis=-1) < 1] = 1
    return Volume(labels, fine.affine)


def tissue(where: Grid, transform: Affine | None = None, seed: int = 0) -> Volume:
    """Labels 0 air, 1 CSF, 2 grey, 3 white of a folded egg; ``transform`` maps grid to egg."""
    return resample(_fine_labels(seed), where, transform, "label")


def paint(
    where: Grid,
    values: tuple[float, float, float],
    transform: Affine | None = None,
    *,
    noise: float = 0.0,
    seed: int = 0,
    noise_seed: int = 1,
) -> Volume:
    """An image of the egg with one value each for CSF, grey and white, blurred to the lattice."""
    fine = _fine_labels(seed)
    data = np.choose(fine.data, [0.0, *values]).astype(np.float32)
    data = ndimage.gaussian_filter(data, 0.45 * where.zooms_mm.mean() / 1.5)
    image = resample(fine.like(data), where, transform, "linear").data
    rng = np.random.default_rng(noise_seed)
    return Volume(
        (image + rng.normal(scale=noise, size=where.shape)).astype(np.float32), where.affine
    )


T1W = (30.0, 70.0, 100.0)
BOLD = (130.0, 100.0, 85.0)


def brain_points(n: int = 500) -> np.ndarray:
    """(n, 3) RAS mm within the egg."""
    rng = np.random.default_rng(2)
    direction = rng.normal(size=(n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * [42, 56, 46] * rng.uniform(0, 1, (n, 1)) ** (1 / 3)


def error_mm(found, truth) -> np.ndarray:
    """Distance between two maps at points of the brain."""
    points = brain_points()
    return np.linalg.norm(found.map_points(points) - truth.map_points(points), axis=1)
