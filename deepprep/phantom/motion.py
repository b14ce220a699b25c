"""Head motion as a continuous trajectory of rigid poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline


@dataclass(frozen=True)
class Trajectory:
    """Pose of the head at any time.

    Parameters
    ----------
    knots_s : (K,) array
        Times of the control points.
    parameters : (K, 6) array
        Translations in mm, then rotations in rad about RAS x, y, z.
    step_times_s : (S,) array
        Moments of sudden moves.
    steps : (S, 6) array
        Change of the parameters at each sudden move, over ``ramp_s``.
    centre : (3,) array
        RAS mm about which the head turns.
    ramp_s : float
        How long a sudden move takes.
    """

    knots_s: np.ndarray
    parameters: np.ndarray
    step_times_s: np.ndarray
    steps: np.ndarray
    centre: np.ndarray
    ramp_s: float = 0.2

    def at(self, times_s: np.ndarray) -> np.ndarray:
        """(N,) seconds -> (N, 6) parameters."""
        times_s = np.asarray(times_s, dtype=np.float64)
        values = CubicSpline(self.knots_s, self.parameters)(times_s)
        for when, step in zip(self.step_times_s, self.steps, strict=True):
            done = np.clip((times_s - when) / self.ramp_s + 0.5, 0, 1)
            values = values + done[:, None] * step
        return values

    def poses(self, times_s: np.ndarray) -> np.ndarray:
        """(N,) seconds -> (N, 4, 4) maps of head points at rest to points at that time."""
        return np.stack([pose_matrix(p, self.centre) for p in self.at(times_s)])


def random_trajectory(
    rng: np.random.Generator,
    duration_s: float,
    tr_s: float,
    centre: np.ndarray,
    drift_mm: float = 0.8,
    step_mm: float = 0.7,
    n_steps: int = 2,
) -> Trajectory:
    """A cooperative volunteer: slow drift, small wobble, a few sudden moves.

    Rotations in degrees are as large as translations in mm. Sudden moves happen between frames,
    so that every frame has one pose to be compared with.
    """
    knots = np.arange(-10.0, duration_s + 30.0, 10.0)
    walk = np.cumsum(rng.normal(size=(len(knots), 6)), axis=0)
    walk -= walk.mean(axis=0)
    walk *= drift_mm / np.abs(walk).max(axis=0).clip(min=1e-9)
    walk *= rng.uniform(0.5, 1.0, size=6)
    n_frames = round(duration_s / tr_s)
    frames = np.sort(rng.choice(np.arange(n_frames // 5, n_frames - 5), n_steps, replace=False))
    steps = rng.normal(size=(n_steps, 6))
    steps *= step_mm / np.abs(steps).max(axis=1, keepdims=True)
    to_rad = np.r_[np.ones(3), np.full(3, np.pi / 180)]
    return Trajectory(knots, walk * to_rad, frames * tr_s, steps * to_rad, np.asarray(centre))


def still_trajectory(duration_s: float, centre: np.ndarray) -> Trajectory:
    """A head that does not move."""
    knots = np.linspace(-10.0, duration_s + 30.0, 5)
    return Trajectory(
        knots, np.zeros((5, 6)), np.zeros(0), np.zeros((0, 6)), np.asarray(centre, dtype=float)
    )


def pose_matrix(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(6,) mm and rad -> (4, 4): turn about ``centre`` (x, then y, then z), then shift."""
    tx, ty, tz, rx, ry, rz = parameters
    cx, sx, cy, sy, cz, sz = np.cos(rx), np.sin(rx), np.cos(ry), np.sin(ry), np.cos(rz), np.sin(rz)
    turn_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = turn_z @ turn_y @ turn_x
    pose[:3, 3] = np.asarray(centre) - pose[:3, :3] @ centre + [tx, ty, tz]
    return pose
