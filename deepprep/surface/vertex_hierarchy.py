"""A triangulated sphere taken apart vertex by vertex, down to a tetrahedron, and put back.

Removing a vertex by collapsing it into a neighbour keeps a closed mesh without handles what it
is, as long as the two share exactly two neighbours; a vertex with at most five neighbours always
has such a neighbour, and every such mesh has a vertex with at most five neighbours. So the way
down never ends before the tetrahedron, and the way back gives every vertex a place inside the
polygon of its neighbours: the start of a map to the sphere without folds (Praun & Hoppe,
Spherical parametrization and remeshing, ACM Trans. Graph. 2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh

MOST_NEIGHBOURS = 64
"""Neighbours a vertex may have in the hierarchy; cortical meshes have at most about 20."""
EASY_NEIGHBOURS = 12
"""Neighbours that a collapse may leave while fewer than this are possible elsewhere."""


@dataclass(frozen=True)
class Hierarchy:
    """How a mesh is taken apart.

    Parameters
    ----------
    ring : (V, MOST_NEIGHBOURS) int32 array
        Neighbours counter-clockwise: of a removed vertex at its removal (the vertex it went into
        first), of the last four in the tetrahedron.
    size : (V,) int32 array
        How many of them.
    removed : (V - 4,) int32 array
        Vertices in the order of removal.
    level_ends : (L,) int64 array
        Number of vertices removed at the end of each pass; within one pass no two removed
        vertices were neighbours.
    areas : list of (V,) float64 arrays
        The area each vertex stands for before the first pass and after each pass.
    last : (4,) int32 array
        The vertices of the tetrahedron.
    """

    ring: np.ndarray
    size: np.ndarray
    removed: np.ndarray
    level_ends: np.ndarray
    areas: list[np.ndarray]
    last: np.ndarray


def neighbour_rings(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of each vertex in counter-clockwise order.

    Parameters
    ----------
    mesh : Mesh
        A closed surface in one piece without handles.

    Returns
    -------
    ring : (V, MOST_NEIGHBOURS) int32 array
    size : (V,) int32 array

    Raises
    ------
    ValueError
        Where the mesh has a border, a handle, several pieces, a vertex in two fans or one with
        more than ``MOST_NEIGHBOURS`` neighbours.
    """
    if mesh.n_vertices < 4 or not mesh.is_closed or mesh.euler_number != 2:
        raise ValueError(
            "a sphere can only be made of a closed surface without handles; this one has Euler "
            f"number {mesh.euler_number} and {'no border' if mesh.is_closed else 'a border'}: "
            "correct its topology first"
        )
    ring = np.full((mesh.n_vertices, MOST_NEIGHBOURS), -1, dtype=np.int32)
    size = np.zeros(mesh.n_vertices, dtype=np.int32)
    bad = _fill_rings(mesh.faces, ring, size)
    if bad >= 0:
        raise ValueError(
            f"vertex {bad} is not surrounded by one ring of at most {MOST_NEIGHBOURS} triangles: "
            "correct the topology of the surface first"
        )
    return ring, size


def build_hierarchy(mesh: Mesh, areas: np.ndarray) -> Hierarchy:
    """Take a mesh apart down to a tetrahedron, vertices standing for little area first.

    Parameters
    ----------
    mesh : Mesh
        A closed surface in one piece without handles.
    areas : (V,) float64 array
        Area of each vertex, mm^2; the removed vertex leaves its area to its neighbours, so that
        every stage has triangles of about one area.

    Raises
    ------
    ValueError
        As :func:`neighbour_rings`.
    """
    ring, size = neighbour_rings(mesh)
    n = mesh.n_vertices
    alive = np.ones(n, dtype=np.bool_)
    area = np.ascontiguousarray(areas, dtype=np.float64).copy()
    removed = np.zeros(n - 4, dtype=np.int32)
    ends: list[int] = []
    snapshots = [area.copy()]
    count, most, share = 0, EASY_NEIGHBOURS, 0.5
    while count < n - 4:
        candidates = np.flatnonzero(alive)
        # Area times neighbours: a vertex that many triangles share stays for later.
        cost = area[candidates] * np.maximum(size[candidates], 5)
        order = candidates[np.argsort(cost, kind="stable")].astype(np.int32)
        # Half of them at most, the small ones, so that the next pass sees the new areas.
        order = order[: max(int(share * len(order)), 64)]
        now = _collapse_pass(order, ring, size, alive, area, removed, count, n - 4, most)
        if now == count and share < 1.0:
            share = 1.0
            continue
        if now == count:
            if most >= MOST_NEIGHBOURS - 4:
                raise ValueError(
                    "the surface cannot be simplified: a vertex has too many triangles"
                )
            most = min(2 * most, MOST_NEIGHBOURS - 4)
            continue
        count, share = now, 0.5
        ends.append(count)
        snapshots.append(area.copy())
    last = np.flatnonzero(alive).astype(np.int32)
    return Hierarchy(ring, size, removed, np.array(ends, dtype=np.int64), snapshots, last)


@compiled()
def _fill_rings(faces: np.ndarray, ring: np.ndarray, size: np.ndarray) -> int:
    n = len(size)
    start = np.zeros(n + 1, np.int64)
    for f in range(len(faces)):
        for k in range(3):
            start[faces[f, k] + 1] += 1
    for v in range(n):
        start[v + 1] += start[v]
    fill = start[:-1].copy()
    first = np.empty(start[n], np.int32)
    second = np.empty(start[n], np.int32)
    for f in range(len(faces)):
        for k in range(3):
            v = faces[f, k]
            first[fill[v]] = faces[f, (k + 1) % 3]
            second[fill[v]] = faces[f, (k + 2) % 3]
            fill[v] += 1
    for v in range(n):
        count = start[v + 1] - start[v]
        if count < 3 or count > ring.shape[1]:
            return v
        at = first[start[v]]
        for i in range(count):
            ring[v, i] = at
            found = -1
            for j in range(start[v], start[v + 1]):
                if first[j] == at:
                    found = second[j]
                    break
            if found < 0 or (i < count - 1 and found == first[start[v]]):
                return v
            at = found
        if at != first[start[v]]:
            return v
        size[v] = count
    return -1


@compiled()
def _position(ring: np.ndarray, size: np.ndarray, v: int, wanted: int) -> int:
    for i in range(size[v]):
        if ring[v, i] == wanted:
            return i
    return -1


@compiled()
def _collapse_pass(
    order: np.ndarray,
    ring: np.ndarray,
    size: np.ndarray,
    alive: np.ndarray,
    area: np.ndarray,
    removed: np.ndarray,
    count: int,
    wanted: int,
    most: int,
) -> int:
    locked = np.zeros(len(alive), np.bool_)
    old = np.empty(ring.shape[1], np.int32)
    for v in order:
        if count == wanted:
            break
        k = size[v]
        if locked[v] or k > most:
            continue
        best, best_score = -1, 1 << 30
        for i in range(k):
            u = ring[v, i]
            after = size[u] + k - 4
            if after > most:
                continue
            # The ends of the collapsed edge lose a triangle each: 3 is the least.
            if k > 3 and (size[ring[v, (i + 1) % k]] <= 3 or size[ring[v, (i - 1) % k]] <= 3):
                continue
            shared = 0
            for j in range(k):
                if j != i and _position(ring, size, u, ring[v, j]) >= 0:
                    shared += 1
            if shared == 2 and after < best_score:
                best, best_score = i, after
        if best < 0:
            continue
        for i in range(k):
            old[i] = ring[v, (best + i) % k]
        for i in range(k):
            ring[v, i] = old[i]
            locked[old[i]] = True
            area[old[i]] += area[v] / k
        u = old[0]
        at = _position(ring, size, u, v)
        _splice(ring, size, u, at, old[2 : k - 1])
        _drop(ring, size, old[1], v)
        if k > 2:
            _drop(ring, size, old[k - 1], v)
        for i in range(2, k - 1):
            ring[old[i], _position(ring, size, old[i], v)] = u
        alive[v] = False
        removed[count] = v
        count += 1
    return count


@compiled()
def _splice(ring: np.ndarray, size: np.ndarray, u: int, at: int, new: np.ndarray) -> None:
    # Entry `at` makes room for the entries of `new`, of which there may be none.
    shift = len(new) - 1
    if shift >= 0:
        for i in range(size[u] - 1, at, -1):
            ring[u, i + shift] = ring[u, i]
    else:
        for i in range(at, size[u] - 1):
            ring[u, i] = ring[u, i + 1]
    for i in range(len(new)):
        ring[u, at + i] = new[i]
    size[u] += shift


@compiled()
def _drop(ring: np.ndarray, size: np.ndarray, v: int, gone: int) -> None:
    at = _position(ring, size, v, gone)
    for i in range(at, size[v] - 1):
        ring[v, i] = ring[v, i + 1]
    size[v] -= 1


@compiled()
def _insert_after(ring: np.ndarray, size: np.ndarray, v: int, before: int, new: int) -> None:
    at = _position(ring, size, v, before) + 1
    for i in range(size[v], at, -1):
        ring[v, i] = ring[v, i - 1]
    ring[v, at] = new
    size[v] += 1


@compiled()
def restore(ring: np.ndarray, size: np.ndarray, v: int) -> None:
    """Undo the removal of the vertex removed last (``ring`` and ``size`` change)."""
    k = size[v]
    u, first, last = ring[v, 0], ring[v, 1], ring[v, k - 1]
    at = _position(ring, size, u, first)
    # Around u: first, 2 ... k-2, last, possibly across the end of the list.
    gone = k - 3
    if gone == 0:
        _insert_after(ring, size, u, first, v)
    else:
        n = size[u]
        turned = np.empty(n, np.int32)
        for i in range(n):
            turned[i] = ring[u, (at + i) % n]
        ring[u, 0] = first
        ring[u, 1] = v
        for i in range(gone + 1, n):
            ring[u, i - gone + 1] = turned[i]
        size[u] = n - gone + 1
    for i in range(2, k - 1):
        p = ring[v, i]
        ring[p, _position(ring, size, p, u)] = v
    _insert_after(ring, size, first, ring[v, 2] if k > 3 else last, v)
    _insert_after(ring, size, last, u, v)
