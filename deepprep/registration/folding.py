"""Compiled search for the smallest Jacobians of a trilinear map."""

from __future__ import annotations

import numba
import numpy as np

from deepprep.image.compiled import compiled


@compiled()
def _determinant(x, y, z):  # type: ignore[no-untyped-def]
    """Of the identity plus slopes along the three axes, (3,) each."""
    a, b, c = 1.0 + x[0], 1.0 + y[1], 1.0 + z[2]
    return (
        a * (b * c - z[1] * y[2])
        - y[0] * (x[1] * c - z[1] * x[2])
        + z[0] * (x[1] * y[2] - b * x[2])
    )


@compiled(parallel=True)
def smallest_corner_determinant(field, both_ways):  # type: ignore[no-untyped-def]
    """Smallest determinant of the map's derivative over the eight corners of every cell.

    Parameters
    ----------
    field : (3, X, Y, Z) float32 array
        Displacement in voxels along the axes of the lattice.
    both_ways : bool
        Of the derivative of the inverse too, which is one over the largest.

    Returns
    -------
    (X - 1, Y - 1, Z - 1) float32 array
        Smallest value in each cell.
    """
    _, nx, ny, nz = field.shape
    worst = np.empty((nx - 1, ny - 1, nz - 1), np.float32)
    for x in numba.prange(nx - 1):
        # slopes along the four edges of each direction
        ex, ey, ez = np.empty((2, 2, 3)), np.empty((2, 2, 3)), np.empty((2, 2, 3))
        for y in range(ny - 1):
            for z in range(nz - 1):
                for i in range(3):
                    u = field[i, x : x + 2, y : y + 2, z : z + 2]
                    for a in range(2):
                        for b in range(2):
                            ex[a, b, i] = u[1, a, b] - u[0, a, b]
                            ey[a, b, i] = u[a, 1, b] - u[a, 0, b]
                            ez[a, b, i] = u[a, b, 1] - u[a, b, 0]
                low, high = np.inf, 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            det = _determinant(ex[b, c], ey[a, c], ez[a, b])
                            low, high = min(low, det), max(high, det)
                if both_ways and high > 1.0:
                    low = min(low, 1.0 / high)
                worst[x, y, z] = low
    return worst
