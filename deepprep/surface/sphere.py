"""A hemisphere's surface on a sphere: no folded triangle, areas and angles changed little.

The mesh is taken apart vertex by vertex to a tetrahedron, the tetrahedron laid on the sphere, and
the vertices put back, each inside the polygon of its neighbours; between the passes every vertex
moves to where its triangles are distorted least, and no move may fold one. Coarse stages settle
the large shape in a few thousand cheap moves, fine ones only add detail (Praun & Hoppe 2003, with
the energy of :mod:`deepprep.surface.distortion`).
"""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.distortion import AREA_WEIGHT, relax, rest_shape
from deepprep.surface.mesh import Mesh
from deepprep.surface.vertex_hierarchy import build_hierarchy, restore

RADIUS_MM = 100.0
"""Radius of the spheres FreeSurfer and everything after it expects."""
COARSE_SWEEPS = 40
"""Sweeps over a stage of few vertices."""
COARSE_WORK = 400_000
"""Moves a coarse stage may cost; a stage of more vertices gets fewer sweeps."""
FINE_SWEEPS = 3
"""Least number of sweeps over a stage."""
LAST_SWEEPS = 12
"""Sweeps over the whole mesh at the end."""
SMOOTH_ABOVE = 20_000
"""Stages of fewer vertices take the shape of their triangles from the inflated surface: across a
sulcus the folded one has short cuts."""


def map_to_sphere(white: Mesh, inflated: Mesh | None = None) -> Mesh:
    """Map a closed surface without handles to a sphere of 100 mm radius.

    Parameters
    ----------
    white : Mesh
        The surface whose areas and angles the sphere should keep.
    inflated : Mesh, optional
        The same triangles on a smooth surface, used for the large shape; default ``white``.

    Returns
    -------
    Mesh
        The same triangles, vertices 100 mm from the origin, every triangle facing outwards. The
        sphere is turned so that directions on it agree with those of the head (x right, y front,
        z up) as well as a rotation can.

    Raises
    ------
    ValueError
        Where the surface has a border or a handle, or two meshes have different triangles.
    """
    inflated = white if inflated is None else inflated
    if not np.array_equal(white.faces, inflated.faces):
        raise ValueError("the inflated surface must have the triangles of the white surface")
    unit = _unfolded(white, inflated)
    turned = unit @ anatomical_rotation(unit, inflated).T
    return white.moved(RADIUS_MM * turned)


def anatomical_rotation(unit: np.ndarray, surface: Mesh) -> np.ndarray:
    """Rotation of a sphere that brings its points nearest to the directions of the surface.

    Parameters
    ----------
    unit : (V, 3) array
        Points on the unit sphere.
    surface : Mesh
        Where they are in the head, RAS+ mm.

    Returns
    -------
    (3, 3) array
        Proper rotation R for ``unit @ R.T``.
    """
    weights = surface.vertex_areas[:, None]
    centred = surface.vertices - (weights * surface.vertices).sum(axis=0) / weights.sum()
    # Directions, not positions: a hemisphere is longer than wide.
    centred = centred / np.sqrt((weights * centred**2).sum(axis=0) / weights.sum())
    u, _, vt = np.linalg.svd((weights * centred).T @ unit)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def _unfolded(white: Mesh, inflated: Mesh) -> np.ndarray:
    n = white.n_vertices
    areas = np.maximum(white.vertex_areas, 1e-6 * white.face_areas.mean())
    hierarchy = build_hierarchy(white, areas)
    ring, size = hierarchy.ring, hierarchy.size
    sphere = np.zeros((n, 3))
    sphere[hierarchy.last] = _tetrahedron(ring[hierarchy.last], hierarchy.last)
    alive = np.zeros(n, dtype=bool)
    alive[hierarchy.last] = True
    starts = np.concatenate([[0], hierarchy.level_ends[:-1]])
    for level in range(len(starts) - 1, -1, -1):
        back = hierarchy.removed[starts[level] : hierarchy.level_ends[level]][::-1]
        _put_back(back, ring, size, sphere)
        alive[back] = True
        n_alive = int(alive.sum())
        fine = n_alive > SMOOTH_ABOVE or n_alive == n
        _improve(
            alive,
            ring,
            size,
            sphere,
            (white if fine else inflated).vertices,
            hierarchy.areas[level] if n_alive < n else None,
            _sweeps(n_alive, n),
        )
    if len(starts) == 0:
        return sphere
    return sphere


def _sweeps(n_alive: int, n: int) -> int:
    if n_alive == n:
        return max(LAST_SWEEPS, min(COARSE_SWEEPS, COARSE_WORK // n))
    return max(FINE_SWEEPS, min(COARSE_SWEEPS, COARSE_WORK // n_alive))


def _tetrahedron(rings: np.ndarray, names: np.ndarray) -> np.ndarray:
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3.0)
    place = {int(name): k for k, name in enumerate(names)}
    first, second, third = (place[int(name)] for name in rings[0][:3])
    # Neighbours of the first corner counter-clockwise from outside.
    out = np.empty((4, 3))
    out[0] = corners[0]
    for k, at in enumerate((first, second, third)):
        out[at] = corners[1 + k]
    if np.linalg.det(out[[0, first, second]]) < 0:
        out[[second, third]] = out[[third, second]]
    return out


def _improve(
    alive: np.ndarray,
    ring: np.ndarray,
    size: np.ndarray,
    sphere: np.ndarray,
    points: np.ndarray,
    vertex_area: np.ndarray | None,
    n_sweeps: int,
) -> None:
    here = np.flatnonzero(alive)
    number = np.full(len(alive), -1, dtype=np.int32)
    number[here] = np.arange(len(here))
    start = np.concatenate([[0], np.cumsum(size[here])]).astype(np.int64)
    held = np.arange(ring.shape[1])[None, :] < size[here][:, None]
    neighbour = number[ring[here][held]]
    cotangents, area = rest_shape(points[here], start, neighbour)
    if vertex_area is not None:
        share = vertex_area[here] / size[here]
        owner = np.repeat(np.arange(len(here)), size[here])
        after = np.arange(len(neighbour)) + 1
        after[start[1:] - 1] = start[:-1]
        area = share[owner] + share[neighbour] + share[neighbour[after]]
    # Each triangle is listed at its three corners.
    area *= 3 * 4 * np.pi / area.sum()
    local = np.ascontiguousarray(sphere[here])
    relax(local, start, neighbour, cotangents, area, AREA_WEIGHT, n_sweeps)
    sphere[here] = local


@compiled()
def _least(sphere: np.ndarray, ring: np.ndarray, v: int, k: int, point: np.ndarray) -> float:
    # How far inside its polygon a point is: sine of the angle to the nearest side.
    least = 2.0
    for i in range(k):
        p, q = ring[v, i], ring[v, (i + 1) % k]
        nx = sphere[p, 1] * sphere[q, 2] - sphere[p, 2] * sphere[q, 1]
        ny = sphere[p, 2] * sphere[q, 0] - sphere[p, 0] * sphere[q, 2]
        nz = sphere[p, 0] * sphere[q, 1] - sphere[p, 1] * sphere[q, 0]
        norm = np.sqrt(nx * nx + ny * ny + nz * nz)
        inside = (point[0] * nx + point[1] * ny + point[2] * nz) / max(norm, 1e-300)
        least = min(least, inside)
    return least


@compiled()
def _put_back(back: np.ndarray, ring: np.ndarray, size: np.ndarray, sphere: np.ndarray) -> None:
    best, trial, wedge = np.empty(3), np.empty(3), np.empty(3)
    for v in back:
        k = size[v]
        restore(ring, size, v)
        u = ring[v, 0]
        # The middle of the polygon where that sees every side, else nearer to the vertex it
        # once went into, which does.
        middle = np.zeros(3)
        for i in range(k):
            for axis in range(3):
                middle[axis] += sphere[ring[v, i], axis]
        norm = np.sqrt((middle**2).sum())
        best_least = -2.0
        t = 1.0
        for attempt in range(60):
            for axis in range(3):
                trial[axis] = (
                    t * middle[axis] / max(norm, 1e-300) + (1 - t) * sphere[u, axis]
                )
            trial /= max(np.sqrt((trial**2).sum()), 1e-300)
            least = _least(sphere, ring, v, k, trial)
            if least > best_least:
                best_least = least
                best[:] = trial
            if best_least > 0 and attempt > 3:
                break
            t *= 0.7
        if best_least <= 0:
            # Into the wedge between the two sides that meet in u, for ever smaller steps.
            a, b = ring[v, 1], ring[v, k - 1]
            for axis in range(3):
                i, j = (axis + 1) % 3, (axis + 2) % 3
                wedge[axis] = (
                    sphere[u, i] * sphere[a, j]
                    - sphere[u, j] * sphere[a, i]
                    + sphere[b, i] * sphere[u, j]
                    - sphere[b, j] * sphere[u, i]
                )
            wedge /= max(np.sqrt((wedge**2).sum()), 1e-300)
            t = 0.5
            for _ in range(60):
                for axis in range(3):
                    trial[axis] = sphere[u, axis] + t * wedge[axis]
                trial /= np.sqrt((trial**2).sum())
                least = _least(sphere, ring, v, k, trial)
                if least > best_least:
                    best_least = least
                    best[:] = trial
                t *= 0.6
        # Climb to the middle of the kernel.
        step = 0.5
        for _ in range(24):
            worst, side = 2.0, 0
            for i in range(k):
                p, q = ring[v, i], ring[v, (i + 1) % k]
                for axis in range(3):
                    c, d = (axis + 1) % 3, (axis + 2) % 3
                    wedge[axis] = sphere[p, c] * sphere[q, d] - sphere[p, d] * sphere[q, c]
                wedge /= max(np.sqrt((wedge**2).sum()), 1e-300)
                inside = (wedge * best).sum()
                if inside < worst:
                    worst, side = inside, i
            p, q = ring[v, side], ring[v, (side + 1) % k]
            for axis in range(3):
                c, d = (axis + 1) % 3, (axis + 2) % 3
                wedge[axis] = sphere[p, c] * sphere[q, d] - sphere[p, d] * sphere[q, c]
            wedge /= max(np.sqrt((wedge**2).sum()), 1e-300)
            for axis in range(3):
                trial[axis] = best[axis] + step * max(abs(worst), 1e-9) * wedge[axis]
            trial /= np.sqrt((trial**2).sum())
            least = _least(sphere, ring, v, k, trial)
            if least > best_least:
                best_least = least
                best[:] = trial
            else:
                step *= 0.5
        sphere[v] = best
