"""Exact distance to a mesh at the lattice points near it."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.image.volume import Grid
from deepprep.surface.mesh import Mesh


def grid_around(mesh: Mesh, spacing_mm: float, margin_mm: float) -> Grid:
    """Isotropic lattice along the axes of the world that holds a mesh and a margin."""
    low = mesh.vertices.min(axis=0) - margin_mm
    n = np.ceil((mesh.vertices.max(axis=0) + margin_mm - low) / spacing_mm).astype(int) + 1
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return Grid((int(n[0]), int(n[1]), int(n[2])), affine)


def distance_near(mesh: Mesh, grid: Grid, reach_mm: float) -> np.ndarray:
    """Distance to the nearest triangle, where that is less than ``reach_mm``.

    Parameters
    ----------
    mesh : Mesh
        RAS mm.
    grid : Grid
        Of :func:`grid_around`: isotropic, along the axes of the world.
    reach_mm : float

    Returns
    -------
    (X, Y, Z) float32 array
        mm, without sign; infinity farther away.
    """
    spacing = float(grid.affine[0, 0])
    points = (mesh.vertices - grid.affine[:3, 3]) / spacing
    out = np.full(grid.shape, np.inf, dtype=np.float32)
    _stamp(points, mesh.faces, float(reach_mm / spacing), out)
    return out * np.float32(spacing)


@compiled()
def squared_distance_to_triangle(
    q: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> float:
    """Squared distance of a point to a triangle (Ericson, Real-Time Collision Detection, 5.1.5)."""
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for k in range(3):
        ab, ac = b[k] - a[k], c[k] - a[k]
        d1 += ab * (q[k] - a[k])
        d2 += ac * (q[k] - a[k])
        d3 += ab * (q[k] - b[k])
        d4 += ac * (q[k] - b[k])
        d5 += ab * (q[k] - c[k])
        d6 += ac * (q[k] - c[k])
    s = t = 0.0
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    if d1 <= 0 and d2 <= 0:
        pass
    elif d3 >= 0 and d4 <= d3:
        s = 1.0
    elif d6 >= 0 and d5 <= d6:
        t = 1.0
    elif vc <= 0 and d1 >= 0 and d3 <= 0:
        s = d1 / (d1 - d3) if d1 != d3 else 0.0
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        t = d2 / (d2 - d6) if d2 != d6 else 0.0
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        both = (d4 - d3) + (d5 - d6)
        t = (d4 - d3) / both if both > 0 else 0.0
        s = 1.0 - t
    else:
        total = va + vb + vc
        if total > 0:
            s, t = vb / total, vc / total
    out = 0.0
    for k in range(3):
        d = q[k] - a[k] - s * (b[k] - a[k]) - t * (c[k] - a[k])
        out += d * d
    return out


@compiled()
def _stamp(p: np.ndarray, faces: np.ndarray, reach: float, out: np.ndarray) -> None:
    q = np.empty(3)
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    for f in range(len(faces)):
        a, b, c = p[faces[f, 0]], p[faces[f, 1]], p[faces[f, 2]]
        for k in range(3):
            low[k] = max(0, int(np.ceil(min(a[k], b[k], c[k]) - reach)))
            high[k] = min(out.shape[k] - 1, int(np.floor(max(a[k], b[k], c[k]) + reach)))
        for i in range(low[0], high[0] + 1):
            for j in range(low[1], high[1] + 1):
                for k in range(low[2], high[2] + 1):
                    q[0], q[1], q[2] = i, j, k
                    d = np.sqrt(squared_distance_to_triangle(q, a, b, c))
                    if d <= reach and d < out[i, j, k]:
                        out[i, j, k] = d
