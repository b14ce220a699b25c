"""Cubic B-spline interpolation of volumes: prefilter once, sample many times.

Unser M, Aldroubi A, Eden M. B-spline signal processing. IEEE Trans Signal Process 41, 1993.

Coefficients are padded by their mirror image (one voxel before, two after), so that the
sampling loop needs no test at the border.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.compiled import compiled

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


@compiled(fastmath=True, forceinline=True)
def spline_value(coefs, stride_x, stride_y, x, y, z):  # type: ignore[no-untyped-def]
    """Value at voxel coordinates, which must lie in [0, n - 1] along each axis.

    ``coefs`` are flat, the strides (in elements) unsigned: numba then emits no test for
    negative indices, which doubles the speed.
    """
    i, j, k = np.uintp(x), np.uintp(y), np.uintp(z)
    a0, a1, a2, a3 = _weights(np.float32(x - np.float64(i)))
    b = _weights(np.float32(y - np.float64(j)))
    c = _weights(np.float32(z - np.float64(k)))
    p = i * stride_x + j * stride_y + k
    total = a0 * _plane(coefs, p, stride_y, b, c)
    p += stride_x
    total += a1 * _plane(coefs, p, stride_y, b, c)
    p += stride_x
    total += a2 * _plane(coefs, p, stride_y, b, c)
    p += stride_x
    return total + a3 * _plane(coefs, p, stride_y, b, c)


@compiled(fastmath=True, forceinline=True)
def _weights(t):  # type: ignore[no-untyped-def]
    """Cubic B-spline at t + 1, t, 1 - t, 2 - t for 0 <= t < 1."""
    one, half = np.float32(1), np.float32(0.5)
    sixth = np.float32(1 / 6)
    u = one - t
    before = u * u * u * sixth
    after = t * t * t * sixth
    here = np.float32(2 / 3) - t * t * (one - half * t)
    return before, here, one - before - here - after, after


@compiled(fastmath=True, forceinline=True)
def _plane(coefs, p, stride, b, c):  # type: ignore[no-untyped-def]
    total = b[0] * _row(coefs, p, c)
    p += stride
    total += b[1] * _row(coefs, p, c)
    p += stride
    total += b[2] * _row(coefs, p, c)
    p += stride
    return total + b[3] * _row(coefs, p, c)


@compiled(fastmath=True, forceinline=True)
def _row(coefs, p, c):  # type: ignore[no-untyped-def]
    q, r, s = p + np.uintp(1), p + np.uintp(2), p + np.uintp(3)
    return c[0] * coefs[p] + c[1] * coefs[q] + c[2] * coefs[r] + c[3] * coefs[s]
