"""Compiled interpolation of labels: the label with the largest trilinear weight."""

from __future__ import annotations

import numba
import numpy as np

from deepprep.image.compiled import compiled

LEAST_WEIGHT = 1e-6
"""Weight that a label must exceed; where none does, the point is outside the image."""


@compiled(parallel=True)
def vote(labels, coords, fill, out):  # type: ignore[no-untyped-def]
    """Label with the largest sum of trilinear weights at each point; the smallest of equals.

    The same as the arg-max of the linearly interpolated one-hot maps of all labels, in the time
    of one of them: at most eight labels meet at a point.

    Parameters
    ----------
    labels : (X, Y, Z) int64 array
        Labels.
    coords : (3, N) float32 array
        Voxel coordinates of the points; corners outside the image have no label.
    fill : int
        Label of points outside.
    out : (N,) int64 array
        Result.
    """
    nx, ny, nz = labels.shape
    for p in numba.prange(coords.shape[1]):
        x, y, z = coords[0, p], coords[1, p], coords[2, p]
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        out[p] = fill
        if i < -1 or j < -1 or k < -1 or i >= nx or j >= ny or k >= nz:
            continue
        fx, fy, fz = x - i, y - j, z - k
        names = np.empty(8, np.int64)
        weights = np.zeros(8, np.float32)
        n = 0
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1
            if not (0 <= i + a < nx and 0 <= j + b < ny and 0 <= k + c < nz):
                continue
            w = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
            label = labels[i + a, j + b, k + c]
            m = 0
            while m < n and names[m] != label:
                m += 1
            if m == n:
                names[m] = label
                n += 1
            weights[m] += w
        best = np.float32(LEAST_WEIGHT)
        for m in range(n):
            if weights[m] > best or (weights[m] == best and names[m] < out[p]):
                best = weights[m]
                out[p] = names[m]
