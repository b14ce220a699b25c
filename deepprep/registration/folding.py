"""Compiled search for the smallest Jacobians of a trilinear map."""

from __future__ import annotations

import numba
import numpy as np

from deepprep.image.compiled import compiled


@compiled(parallel=True)
def smallest_corner_determinant(field, to_vox):  # type: ignore[no-untyped-def]
    """Smallest determinant of ``I + du/dx`` over the eight corners of every cell.

    Parameters
    ----------
    field : (X, Y, Z, 3) float32 array
        Displacement in RAS mm.
    to_vox : (3, 3) float64 array
        RAS mm to voxel axes.

    Returns
    -------
    (X - 1, Y - 1, Z - 1) float32 array
        Smallest value in each cell.
    """
    nx, ny, nz, _ = field.shape
    worst = np.empty((nx - 1, ny - 1, nz - 1), np.float32)
    for x in numba.prange(nx - 1):
        slope = np.empty((3, 3))
        m = np.empty((3, 3))
        for y in range(ny - 1):
            for z in range(nz - 1):
                low = np.inf
                for corner in range(8):
                    a, b, c = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1
                    for i in range(3):
                        slope[0, i] = field[x + 1, y + b, z + c, i] - field[x, y + b, z + c, i]
                        slope[1, i] = field[x + a, y + 1, z + c, i] - field[x + a, y, z + c, i]
                        slope[2, i] = field[x + a, y + b, z + 1, i] - field[x + a, y + b, z, i]
                    for i in range(3):
                        for j in range(3):
                            total = 1.0 if i == j else 0.0
                            for k in range(3):
                                total += slope[k, i] * to_vox[k, j]
                            m[i, j] = total
                    det = (
                        m[0, 0] * (m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1])
                        - m[0, 1] * (m[1, 0] * m[2, 2] - m[1, 2] * m[2, 0])
                        + m[0, 2] * (m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0])
                    )
                    low = min(low, det)
                worst[x, y, z] = low
    return worst
