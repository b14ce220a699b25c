"""A smooth head-like object known everywhere, and frames of it in known positions."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from deepprep.image.volume import Grid, Volume

CENTRE = np.array([4.0, -10.0, 20.0])
"""RAS mm: centre of the object, away from the origin on purpose."""

_random = np.random.default_rng(7)
_BLOBS = [
    (CENTRE + _random.uniform(-40, 40, 3), _random.uniform(7, 14), _random.uniform(-250, 350))
    for _ in range(40)
]


def brightness(points: np.ndarray) -> np.ndarray:
    """Intensity at (N, 3) RAS mm: a soft ellipsoid with blobs inside."""
    scaled = (points - CENTRE) / np.array([62.0, 78.0, 55.0])
    shell = 1 / (1 + np.exp((np.linalg.norm(scaled, axis=1) - 1) * 12))
    inside = np.full(len(points), 800.0)
    for centre, width, height in _BLOBS:
        inside += height * np.exp(-((points - centre) ** 2).sum(axis=1) / (2 * width**2))
    return shell * inside


def rigid(trans_mm: np.ndarray, rot_rad: np.ndarray, centre: np.ndarray = CENTRE) -> np.ndarray:
    """(4, 4) rotation about ``centre`` followed by a translation, RAS mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rot_rad).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + trans_mm
    return matrix


def grid(
    zooms: tuple[float, float, float] = (4.0, 4.0, 5.0),
    shape: tuple[int, int, int] = (44, 52, 30),
    flip_x: bool = False,
    oblique_rad: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """A lattice centred on the object."""
    affine = np.eye(4)
    scale = np.diag([-zooms[0] if flip_x else zooms[0], zooms[1], zooms[2]])
    affine[:3, :3] = Rotation.from_rotvec(oblique_rad).as_matrix() @ scale
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def frame(lattice: Grid, motion: np.ndarray | None = None) -> np.ndarray:
    """The object after it moved: the point that was at x is at ``motion`` @ x.

    A frame so made is aligned by the affine ``motion`` (reference point -> frame point).
    """
    points = lattice.points_ras().reshape(-1, 3)
    if motion is not None:
        back = np.linalg.inv(motion)
        points = points @ back[:3, :3].T + back[:3, 3]
    return brightness(points).reshape(lattice.shape).astype(np.float32)


def series(lattice: Grid, motions: np.ndarray) -> Volume:
    """(X, Y, Z, T) frames of the moving object."""
    return Volume(np.stack([frame(lattice, m) for m in motions], axis=-1), lattice.affine)


def errors(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Error per frame: mm at the object's centre, and degrees."""
    difference = np.linalg.inv(truth) @ found
    at_centre = difference[:, :3, :3] @ CENTRE + difference[:, :3, 3] - CENTRE
    angle = Rotation.from_matrix(difference[:, :3, :3]).magnitude()
    return np.linalg.norm(at_centre, axis=1), np.rad2deg(angle)
