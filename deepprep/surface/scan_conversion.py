"""Which voxels lie inside a closed mesh, exactly."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.image.volume import Grid
from deepprep.surface.mesh import Mesh


def fill_mesh(mesh: Mesh, grid: Grid) -> np.ndarray:
    """Voxels whose centres lie inside a closed mesh.

    Rays along the last axis of the lattice count the triangles they cross; each edge is decided
    once for both of its triangles, so that no ray slips between them. Exact for any orientation.

    Parameters
    ----------
    mesh : Mesh
        Closed, RAS mm. It may leave the lattice.
    grid : Grid

    Returns
    -------
    (X, Y, Z) bool array

    Raises
    ------
    ValueError
        If a vertex is not finite.
    """
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("the mesh has vertices that are not finite")
    points = mesh.vertices @ grid.ras2vox[:3, :3].T + grid.ras2vox[:3, 3]
    return _fill(points, mesh.faces, np.array(grid.shape))


def fill_fraction(mesh: Mesh, grid: Grid, parts: int = 3) -> np.ndarray:
    """Part of each voxel that lies inside a closed mesh.

    Parameters
    ----------
    mesh, grid
        As in :func:`fill_mesh`.
    parts : int
        Points along each axis of a voxel.

    Returns
    -------
    (X, Y, Z) float32 array
    """
    points = mesh.vertices @ grid.ras2vox[:3, :3].T + grid.ras2vox[:3, 3]
    out = np.zeros(grid.shape, dtype=np.float32)
    offsets = (np.arange(parts) + 0.5) / parts - 0.5
    shape = np.array(grid.shape)
    for x in offsets:
        for y in offsets:
            for z in offsets:
                out += _fill(points - np.array([x, y, z]), mesh.faces, shape)
    return out / np.float32(parts**3)


@compiled()
def _crosses(p: np.ndarray, a: int, b: int, x: float, y: float) -> bool:
    """Whether the edge passes on the high-x side of (x, y); same answer for both directions."""
    if a > b:
        a, b = b, a
    ay, by = p[a, 1], p[b, 1]
    if (ay > y) == (by > y):
        return False
    return x < p[a, 0] + (y - ay) / (by - ay) * (p[b, 0] - p[a, 0])


@compiled()
def _fill(p: np.ndarray, faces: np.ndarray, shape: np.ndarray) -> np.ndarray:
    out = np.zeros((shape[0], shape[1], shape[2]), dtype=np.bool_)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x_low = min(p[a, 0], p[b, 0], p[c, 0])
        x_high = max(p[a, 0], p[b, 0], p[c, 0])
        y_low = min(p[a, 1], p[b, 1], p[c, 1])
        y_high = max(p[a, 1], p[b, 1], p[c, 1])
        ux, uy = p[b, 0] - p[a, 0], p[b, 1] - p[a, 1]
        vx, vy = p[c, 0] - p[a, 0], p[c, 1] - p[a, 1]
        area = ux * vy - uy * vx
        for i in range(max(0, int(np.ceil(x_low))), min(shape[0] - 1, int(np.floor(x_high))) + 1):
            for j in range(
                max(0, int(np.ceil(y_low))), min(shape[1] - 1, int(np.floor(y_high))) + 1
            ):
                odd = _crosses(p, a, b, i, j) != _crosses(p, b, c, i, j)
                odd = odd != _crosses(p, c, a, i, j)
                if not odd:
                    continue
                z = p[a, 2]
                if area != 0.0:
                    s = ((i - p[a, 0]) * vy - (j - p[a, 1]) * vx) / area
                    t = (ux * (j - p[a, 1]) - uy * (i - p[a, 0])) / area
                    z += s * (p[b, 2] - p[a, 2]) + t * (p[c, 2] - p[a, 2])
                k = max(0, int(np.ceil(z)))
                if k < shape[2]:
                    out[i, j, k] = not out[i, j, k]
    for i in range(shape[0]):
        for j in range(shape[1]):
            inside = False
            for k in range(shape[2]):
                inside = inside != out[i, j, k]
                out[i, j, k] = inside
    return out
