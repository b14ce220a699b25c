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


def map_to_sphere(white: Mesh) -> Mesh:
    """Map a closed surface without handles to a sphere of 100 mm radius.

    Parameters
    ----------
    white : Mesh
        The surface whose areas and angles the sphere should keep.

    Returns
    -------
    Mesh
        The same triangles, vertices 100 mm from the origin, every triangle facing outwards. The
        sphere is turned so that directions on it agree with those of the head (x right, y front,
        z up) as well as a rotation can.

    Raises
    ------
    ValueError
        Where the surface has a border or a handle.
    """
    unit = _unfolded(white)
    return white.moved(RADIUS_MM * (unit @ anatomical_rotation(unit, white).T))


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
    return nearest_rotation(unit, weights * centred)


def nearest_rotation(points: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """(3, 3) rotation R for which ``points @ R.T`` is nearest to ``goal``, both (N, 3)."""
    u, _, vt = np.linalg.svd(goal.T @ points)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt


def _unfolded(white: Mesh) -> np.ndarray:
    n = white.n_vertices
    areas = np.maximum(white.vertex_areas, 1e-6 * white.face_areas.mean())
    hierarchy = build_hierarchy(white, areas)
    ring, size = hierarchy.ring, hierarchy.size
    sphere = np.zeros((n, 3))
    sphere[hierarchy.last] = _tetrahedron(ring[hierarchy.last], hierarchy.last)
    alive = np.zeros(n, dtype=bool)
    alive[hierarchy.last] = True
    starts = np.concatenate([[0], hierarchy.level_ends[:-1]])
    for level in range(len(hierarchy.level_ends) - 1, -1, -1):
        back = hierarchy.removed[starts[level] : hierarchy.level_ends[level]][::-1]
        _put_back(back, ring, size, sphere)
        alive[back] = True
        n_alive = int(alive.sum())
        _improve(
            alive,
            ring,
            size,
            sphere,
            white.vertices,
            hierarchy.areas[level] if n_alive < n else None,
            _sweeps(n_alive, n),
        )
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
def deepest_point(
    sphere: np.ndarray, ring: np.ndarray, v: int, k: int, normals: np.ndarray, out: np.ndarray
) -> float:
    """Point inside a spherical polygon that is farthest from its sides' great circles.

    The point at equal distance from three sides is known in closed form; the best such point that
    no other side cuts off is the answer, exactly, whenever a point sees all sides.

    Parameters
    ----------
    sphere : (V, 3) array
    ring : (V, n) array
        The first ``k`` entries of row ``v`` are the polygon, counter-clockwise.
    normals : (n, 3) array
        Work space.
    out : (3,) array
        Receives the point.

    Returns
    -------
    float
        Sine of its distance to the nearest side; not positive where no point sees all sides.
    """
    for i in range(k):
        p, q = ring[v, i], ring[v, (i + 1) % k]
        for axis in range(3):
            c, d = (axis + 1) % 3, (axis + 2) % 3
            normals[i, axis] = sphere[p, c] * sphere[q, d] - sphere[p, d] * sphere[q, c]
        norm = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        for axis in range(3):
            normals[i, axis] /= max(norm, 1e-300)
    best = -2.0
    for i in range(k - 2):
        for j in range(i + 1, k - 1):
            ax, ay, az = (
                normals[i, 0] - normals[j, 0],
                normals[i, 1] - normals[j, 1],
                normals[i, 2] - normals[j, 2],
            )
            for m in range(j + 1, k):
                bx, by, bz = (
                    normals[i, 0] - normals[m, 0],
                    normals[i, 1] - normals[m, 1],
                    normals[i, 2] - normals[m, 2],
                )
                x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
                norm = np.sqrt(x * x + y * y + z * z)
                if norm < 1e-300:
                    continue
                if x * normals[i, 0] + y * normals[i, 1] + z * normals[i, 2] < 0:
                    norm = -norm
                x, y, z = x / norm, y / norm, z / norm
                least = 2.0
                for n in range(k):
                    inside = x * normals[n, 0] + y * normals[n, 1] + z * normals[n, 2]
                    if inside < least:
                        least = inside
                        if least <= best:
                            break
                if least > best:
                    best = least
                    out[0], out[1], out[2] = x, y, z
    return best


@compiled()
def _put_back(back: np.ndarray, ring: np.ndarray, size: np.ndarray, sphere: np.ndarray) -> None:
    point, normals = np.empty(3), np.empty((ring.shape[1], 3))
    for v in back:
        restore(ring, size, v)
        deepest_point(sphere, ring, v, size[v], normals, point)
        sphere[v] = point
