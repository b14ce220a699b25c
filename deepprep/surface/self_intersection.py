"""Triangles of a mesh that run through each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh
from deepprep.surface.triangle_contact import (
    COORDINATE_BITS,
    segment_touches_triangle,
    triangles_touch,
)

CELL_EDGES = 1.5
"""Edge of a search cell, in mean sizes of a triangle's bounding box."""

MOST_CELLS = 1 << 24
"""Search cells at most; beyond, cells become larger."""

ENTRIES_A_TRIANGLE = 64
"""Cells that a triangle lies in, on average, at most; beyond, cells become larger."""


@dataclass(frozen=True)
class SelfIntersections:
    """Pairs of triangles that meet though the mesh does not join them there.

    Attributes
    ----------
    pairs : (P, 2) int32 array
        Face indices, lower first, sorted.
    n_faces : int
        Number of faces of the mesh.
    """

    pairs: np.ndarray
    n_faces: int

    @property
    def faces(self) -> np.ndarray:
        """(K,) int32: each face involved, once."""
        return np.unique(self.pairs)

    @property
    def n_intersecting_faces(self) -> int:
        """How many faces meet another one (what FreeSurfer reports)."""
        return len(self.faces)


def find_self_intersections(mesh: Mesh) -> SelfIntersections:
    """All pairs of triangles that touch or cross where the mesh does not join them.

    Triangles without a common corner must not meet at all; those with one common corner must
    meet nowhere else. Neighbours across an edge count only when they are folded flat onto each
    other. Candidates come from a grid of cells, the decision is exact on coordinates rounded to
    a millionth of the largest triangle (:mod:`deepprep.surface.triangle_contact`).

    Parameters
    ----------
    mesh : Mesh

    Returns
    -------
    SelfIntersections

    Raises
    ------
    ValueError
        If a vertex is not finite.
    """
    return SelfIntersections(_pairs(mesh, len(mesh.faces)), mesh.n_faces)


def count_self_intersections(mesh: Mesh) -> int:
    """Number of triangles of ``mesh`` that meet another one; 0 for a sound surface."""
    return find_self_intersections(mesh).n_intersecting_faces


def find_crossings(first: Mesh, second: Mesh) -> np.ndarray:
    """Pairs of a triangle of one mesh and a triangle of another that meet.

    Parameters
    ----------
    first, second : Mesh
        Such as white and pial; they share no vertices.

    Returns
    -------
    (P, 2) int32 array
        Face of ``first``, face of ``second``; sorted.
    """
    both = Mesh(
        np.concatenate([first.vertices, second.vertices]),
        np.concatenate([first.faces, second.faces + first.n_vertices]),
    )
    pairs = _pairs(both, first.n_faces, between=True)
    return pairs - np.array([0, first.n_faces], dtype=np.int32)


def _pairs(mesh: Mesh, n_first: int, between: bool = False) -> np.ndarray:
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("the mesh has vertices that are not finite")
    if mesh.n_faces < 2:
        return np.zeros((0, 2), dtype=np.int32)
    corners = mesh.vertices[mesh.faces]
    low, high = corners.min(axis=1), corners.max(axis=1)
    extent = float((high - low).max())
    # the boxes of a pair overlap, so that no coordinate of it exceeds twice the largest box
    unit = max(2.0 * extent, 1e-300) / (1 << COORDINATE_BITS) * 1.001
    points = np.rint((mesh.vertices - mesh.vertices.mean(axis=0)) / unit).astype(np.int64)
    boxes = points[mesh.faces]
    low, high = boxes.min(axis=1), boxes.max(axis=1)
    origin, cell, shape = _cells(low, high)
    first_cell = ((low - origin) // cell).astype(np.int32)
    last_cell = ((high - origin) // cell).astype(np.int32)
    starts, entries = _fill_cells(first_cell, last_cell, shape)
    found = _search(points, mesh.faces, first_cell, low, high, starts, entries, shape, n_first,
                    between)  # fmt: skip
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _cells(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, int, np.ndarray]:
    origin = low.min(axis=0)
    size = high.max(axis=0) - origin
    cell = max(1, int(CELL_EDGES * float((high - low).max(axis=1).mean())))
    while True:
        shape = size // cell + 1
        spans = (high - origin) // cell - (low - origin) // cell + 1
        entries = float(spans.astype(np.float64).prod(axis=1).sum())
        if float(shape.astype(np.float64).prod()) <= MOST_CELLS and (
            entries <= ENTRIES_A_TRIANGLE * len(low)
        ):
            return origin, cell, shape.astype(np.int64)
        cell *= 2


@compiled()
def _fill_cells(
    first_cell: np.ndarray, last_cell: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of the triangles whose box lies in each cell (compressed rows)."""
    starts = np.zeros(shape[0] * shape[1] * shape[2] + 1, dtype=np.int64)
    for f in range(len(first_cell)):
        for i in range(first_cell[f, 0], last_cell[f, 0] + 1):
            for j in range(first_cell[f, 1], last_cell[f, 1] + 1):
                for k in range(first_cell[f, 2], last_cell[f, 2] + 1):
                    starts[(i * shape[1] + j) * shape[2] + k + 1] += 1
    for c in range(1, len(starts)):
        starts[c] += starts[c - 1]
    place = starts[:-1].copy()
    entries = np.empty(starts[-1], dtype=np.int32)
    for f in range(len(first_cell)):
        for i in range(first_cell[f, 0], last_cell[f, 0] + 1):
            for j in range(first_cell[f, 1], last_cell[f, 1] + 1):
                for k in range(first_cell[f, 2], last_cell[f, 2] + 1):
                    c = (i * shape[1] + j) * shape[2] + k
                    entries[place[c]] = f
                    place[c] += 1
    return starts, entries


@compiled()
def _search(
    points: np.ndarray,
    faces: np.ndarray,
    first_cell: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    starts: np.ndarray,
    entries: np.ndarray,
    shape: np.ndarray,
    n_first: int,
    between: bool,
) -> np.ndarray:
    capacity = 1024
    out = np.empty((capacity, 2), dtype=np.int32)
    n = 0
    corners = np.empty((6, 3), dtype=np.int64)
    for i in range(shape[0]):
        for j in range(shape[1]):
            for k in range(shape[2]):
                c = (i * shape[1] + j) * shape[2] + k
                for one in range(starts[c], starts[c + 1]):
                    f = entries[one]
                    for two in range(one + 1, starts[c + 1]):
                        g = entries[two]
                        if between and (f < n_first) == (g < n_first):
                            continue
                        if (
                            low[f, 0] > high[g, 0] or low[g, 0] > high[f, 0]
                            or low[f, 1] > high[g, 1] or low[g, 1] > high[f, 1]
                            or low[f, 2] > high[g, 2] or low[g, 2] > high[f, 2]
                        ):  # fmt: skip
                            continue
                        # a pair that shares several cells is looked at in the first of them
                        if (
                            max(first_cell[f, 0], first_cell[g, 0]) != i
                            or max(first_cell[f, 1], first_cell[g, 1]) != j
                            or max(first_cell[f, 2], first_cell[g, 2]) != k
                        ):
                            continue
                        if _meet(points, faces, f, g, corners):
                            if n == capacity:
                                larger = np.empty((2 * capacity, 2), dtype=np.int32)
                                larger[:capacity] = out
                                out = larger
                                capacity *= 2
                            out[n, 0] = min(f, g)
                            out[n, 1] = max(f, g)
                            n += 1
    return out[:n].copy()


@compiled()
def _meet(points: np.ndarray, faces: np.ndarray, f: int, g: int, p: np.ndarray) -> bool:
    """Whether two faces meet elsewhere than in the corners they share."""
    shared = 0
    at_f, at_g, last_f, last_g = 0, 0, 0, 0
    for i in range(3):
        for j in range(3):
            if faces[f, i] == faces[g, j]:
                shared += 1
                at_f += i
                at_g += j
                last_f, last_g = i, j
    for i in range(3):
        for axis in range(3):
            p[i, axis] = points[faces[f, i], axis]
            p[3 + i, axis] = points[faces[g, i], axis]
    if shared == 0:
        return triangles_touch(p)
    if shared == 1:
        i, j = last_f, last_g
        # beyond the common corner they meet only if the far edge of one reaches the other
        return segment_touches_triangle(
            p, 3, 4, 5, (i + 1) % 3, (i + 2) % 3
        ) or segment_touches_triangle(p, 0, 1, 2, 3 + (j + 1) % 3, 3 + (j + 2) % 3)
    if shared == 2:
        # indices add up to 3: what is left is the corner opposite the common edge
        return _folded(p, 3 - at_f, 3 + 3 - at_g)
    return True


@compiled()
def _folded(p: np.ndarray, i: int, g: int) -> bool:
    """Whether corner g lies in the plane of triangle 012, on the same side of the edge as i."""
    a, b = (i + 1) % 3, (i + 2) % 3
    # normal of the triangle, then exact coplanarity and side of the common edge, in integers
    ux, uy, uz = p[b, 0] - p[a, 0], p[b, 1] - p[a, 1], p[b, 2] - p[a, 2]
    vx, vy, vz = p[i, 0] - p[a, 0], p[i, 1] - p[a, 1], p[i, 2] - p[a, 2]
    wx, wy, wz = p[g, 0] - p[a, 0], p[g, 1] - p[a, 1], p[g, 2] - p[a, 2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    if nx * wx + ny * wy + nz * wz != 0:
        return False
    mx, my, mz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
    # parallel vectors: the sign of one product that is not zero says same or opposite
    if nx != 0:
        return (nx > 0) == (mx > 0) and mx != 0
    if ny != 0:
        return (ny > 0) == (my > 0) and my != 0
    if nz != 0:
        return (nz > 0) == (mz > 0) and mz != 0
    return False
