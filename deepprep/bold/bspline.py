"""Cubic B-spline interpolation of volumes: prefilter once, sample many times.

Unser M, Aldroubi A, Eden M. B-spline signal processing. IEEE Trans Signal Process 41, 1993.

Coefficients are padded by their mirror image (one voxel before, two after), so that the
sampling loop needs no test at the border.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.bold.compiled import compiled

PAD = ((1, 2), (1, 2), (1, 2))
"""Voxels added before and after each axis of the coefficients."""

BORDER_VOX = 0.5
"""A voxel reaches half its width beyond its centre: as far as this the edge value holds."""


def spline_coefficients(frame: np.ndarray) -> np.ndarray:
    """Padded cubic B-spline coefficients of a volume.

    Parameters
    ----------
    frame : (X, Y, Z) array
        Values; NaN and infinities count as 0, else one of them would spread over the volume.

    Returns
    -------
    (X + 3, Y + 3, Z + 3) float32 array, C order.
    """
    values = np.array(frame, dtype=np.float32, order="C")
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    for axis in range(3):
        if values.shape[axis] > 1:
            values = ndimage.spline_filter1d(values, 3, axis, output=np.float32, mode="mirror")
    return np.ascontiguousarray(np.pad(values, PAD, mode="reflect"))


@compiled(fastmath=True, inline="always")
def spline_value(coefs, x, y, z):  # type: ignore[no-untyped-def]
    """Value at voxel coordinates, which must lie in [0, n - 1] along each axis."""
    i, j, k = int(x), int(y), int(z)
    x, y, z = np.float32(x - i), np.float32(y - j), np.float32(z - k)
    one, two, four, six = np.float32(1), np.float32(2), np.float32(4), np.float32(6)
    sixth = one / six
    half = np.float32(0.5)
    u = one - z
    c0 = u * u * u * sixth
    c1 = (four - six * z * z) * sixth + half * z * z * z
    c2 = (four - six * u * u) * sixth + half * u * u * u
    c3 = z * z * z * sixth
    u = one - y
    b0 = u * u * u * sixth
    b1 = (four - six * y * y) * sixth + half * y * y * y
    b2 = (four - six * u * u) * sixth + half * u * u * u
    b3 = y * y * y * sixth
    u = one - x
    a0 = u * u * u * sixth
    a1 = (four - six * x * x) * sixth + half * x * x * x
    a2 = (four - six * u * u) * sixth + half * u * u * u
    a3 = x * x * x * sixth
    total = np.float32(0)
    for di in range(4):
        if di == 0:
            a = a0
        elif di == 1:
            a = a1
        elif di == 2:
            a = a2
        else:
            a = a3
        plane = np.float32(0)
        for dj in range(4):
            if dj == 0:
                b = b0
            elif dj == 1:
                b = b1
            elif dj == 2:
                b = b2
            else:
                b = b3
            row = coefs[i + di, j + dj]
            plane += b * (c0 * row[k] + c1 * row[k + 1] + c2 * row[k + 2] + c3 * row[k + 3])
        total += a * plane
    return total
