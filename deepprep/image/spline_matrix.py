"""Interpolation along one axis as a matrix."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import BSpline

NOTHING = 1e-12
"""Weights below it, far less than float32 resolves beside the others, are left out."""


def interpolation_matrix(n: int, at: np.ndarray, degree: int = 3) -> np.ndarray:
    """(M, n) float32 weights that interpolate n values at positions, which are held at the ends.

    Parameters
    ----------
    n : int
    at : (M,) array
        Between 0 and n - 1.
    degree : {1, 3}
        Linear, or cubic interpolating spline (linear where there are too few values).
    """
    at = np.clip(at, 0, n - 1)
    if n <= degree:
        degree = 1
    if n == 1:
        return np.ones((len(at), 1), dtype=np.float32)
    inner = np.arange(1, n - 1) if degree == 1 else np.arange(2, n - 2)
    knots = np.concatenate([np.zeros(degree + 1), inner, np.full(degree + 1, n - 1)])
    own = BSpline.design_matrix(np.arange(n, dtype=float), knots, degree).toarray()
    wanted = BSpline.design_matrix(at, knots, degree).toarray()
    weights = np.linalg.solve(own.T, wanted.T).T
    # far from a position they die away to numbers that float32 holds as denormals, which are slow
    weights[np.abs(weights) < NOTHING] = 0.0
    return weights.astype(np.float32)
