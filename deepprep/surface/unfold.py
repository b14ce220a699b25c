"""Unfold the few triangles of a sphere that an interpolated map has turned over.

A patch of the mesh around each fold is laid out anew, every vertex at the mean of its neighbours with
the rim of the patch fixed (Tutte, How to draw a graph, Proc. London Math. Soc. 1963), with ever wider
patches until no triangle of one is folded. Where that does not help, vertices around the folds move one after the other to where an energy of the triangles is least that
is finite for folded triangles too and grows the more, the further they are folded: in place of a
triangle's area A stands (A + sqrt(e^2 + A^2)) / 2 with e shrinking from round to round (Garanzha,
Kaporin, Kudryavtseva, Protais, Ray & Sokolov, Foldover-free maps in 50 lines of code, ACM Trans.
Graph. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from deepprep.image.compiled import compiled
from deepprep.surface.distortion import count_folds, signed_volumes, tangent_step
from deepprep.surface.mesh import Mesh
from deepprep.surface.vertex_hierarchy import neighbour_rings

THINNEST = 1e-4
"""Share of the mean area that a repaired triangle has at least: single precision keeps it so."""
FIRST_RINGS = 2
"""Rings of vertices around a folded triangle that move from the beginning."""
MOST_ROUNDS = 20
"""Rounds before the sphere is given up."""
SWEEPS = 4
"""Sweeps in a round."""
WIDEST_PATCH = 12
"""Rings around a fold that are laid out anew at most."""
FOLLOW_STEPS = 6
"""Parts of the way to a goal that has folds."""
FOLLOW_SWEEPS = 3
"""Sweeps over the vertices in each part."""
WIDEN_EVERY = 3
"""Rounds after which one more ring moves."""


def remove_folds(sphere: Mesh) -> tuple[Mesh, int]:
    """Move vertices of folded triangles and around them until every triangle faces outwards.

    Parameters
    ----------
    sphere : Mesh
        Closed, without handles, vertices on a sphere about the origin, most triangles outward.

    Returns
    -------
    sphere : Mesh
        The same radius, no folds; vertices away from folds have not moved.
    count : int
        Triangles that were folded.

    Raises
    ------
    ValueError
        Where folds remain.
    """
    count = count_folds(sphere)
    if not count:
        return sphere, 0
    radius = np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    points = np.ascontiguousarray(sphere.vertices / radius)
    ring, size = neighbour_rings(sphere)
    mean = 4 * np.pi / sphere.n_faces
    limit = 2 * THINNEST * mean
    points = _lay_out_patches(sphere, points)
    movable = np.zeros(sphere.n_vertices, dtype=bool)
    for step in range(MOST_ROUNDS):
        areas = signed_volumes(sphere.moved(points)) / 2
        bad = areas <= 0
        if not bad.any():
            return sphere.moved(points * radius), count
        bad = 2 * areas <= limit
        seeds = np.zeros(sphere.n_vertices, dtype=bool)
        seeds[sphere.faces[bad].ravel()] = True
        for _ in range(FIRST_RINGS + step // WIDEN_EVERY):
            seeds[sphere.faces[seeds[sphere.faces].any(axis=1)].ravel()] = True
        movable |= seeds
        worst = max(-float(areas.min()), 0.0)
        softness = max(worst, 0.05 * mean * 0.7**step)
        _soften(points, ring, size, np.flatnonzero(movable), mean, softness, SWEEPS)
    out = sphere.moved(_lay_out_patches(sphere, points) * radius)
    remaining = count_folds(out)
    if remaining:
        raise ValueError(f"{remaining} triangles of the sphere stay folded")
    return out, count


def follow(start: Mesh, goal: np.ndarray) -> tuple[Mesh, int]:
    """Move the vertices of a sphere without folds towards a goal and never fold a triangle.

    The way is cut into steps; in each, vertices go one after the other as far as the triangles
    around them allow, in several sweeps, so that those in front make room.

    Parameters
    ----------
    start : Mesh
        Vertices on a sphere about the origin, no folds.
    goal : (V, 3) array
        Where they should go, at the same radius; some triangles may be folded there.

    Returns
    -------
    sphere : Mesh
        No folds.
    count : int
        Vertices that did not reach their goal: around the folds it has.

    Raises
    ------
    ValueError
        Where ``start`` has folds.
    """
    if count_folds(start):
        raise ValueError("the sphere to start from has folds")
    radius = np.linalg.norm(start.vertices, axis=1, keepdims=True)
    points = np.ascontiguousarray(start.vertices / radius)
    target = goal / np.linalg.norm(goal, axis=1, keepdims=True)
    if not count_folds(start.moved(target)):
        return start.moved(target * radius), 0
    ring, size = neighbour_rings(start)
    limit = 2 * THINNEST * 4 * np.pi / start.n_faces
    begin = points.copy()
    for step in range(1, FOLLOW_STEPS + 1):
        part = step / FOLLOW_STEPS
        here = (1 - part) * begin + part * target
        here /= np.linalg.norm(here, axis=1, keepdims=True)
        for _ in range(FOLLOW_SWEEPS if step < FOLLOW_STEPS else 4 * FOLLOW_SWEEPS):
            if not _advance(points, here, ring, size, limit):
                break
    missed = int((np.abs(points - target).max(axis=1) > 1e-6).sum())
    return start.moved(points * radius), missed


def reach(start: Mesh, goals: Sequence[np.ndarray]) -> tuple[Mesh, int]:
    """Bring a sphere to the last of its goals and leave no fold.

    Parameters
    ----------
    start : Mesh
        Vertices on a sphere about the origin, no folds.
    goals : sequence of (V, 3) array
        Stations on the way at the same radius, at least the last one. The others are asked only
        when folds of the last one cannot be removed there (:func:`remove_folds`): then vertices
        :func:`follow` them in turn.

    Returns
    -------
    sphere : Mesh
    count : int
        Of :func:`remove_folds` or, where that failed, of :func:`follow`.
    """
    try:
        return remove_folds(start.moved(goals[-1]))
    except ValueError:
        sphere, count = start, 0
        for goal in goals:
            sphere, count = follow(sphere, goal)
        return sphere, count


def _lay_out_patches(sphere: Mesh, points: np.ndarray) -> np.ndarray:
    """Positions after each cluster of folds has been laid out, where that unfolded it."""
    out = points.copy()
    adjacency = sphere.adjacency
    bad = signed_volumes(sphere.moved(out)) <= 0
    seeds = np.zeros(sphere.n_vertices, dtype=bool)
    seeds[sphere.faces[bad].ravel()] = True
    near = np.flatnonzero(seeds | (adjacency @ seeds.astype(float) > 0))
    n_clusters, cluster = connected_components(adjacency[near][:, near], directed=False)
    order = np.argsort(sphere.faces, axis=None, kind="stable")
    owners = (order // 3).astype(np.int64)
    first = np.searchsorted(sphere.faces.ravel()[order], np.arange(sphere.n_vertices + 1))
    for number in range(n_clusters):
        inner = near[cluster == number]
        inner = inner[seeds[inner]]
        for _ in range(WIDEST_PATCH):
            faces = np.unique(np.concatenate([owners[first[v] : first[v + 1]] for v in inner]))
            patch = np.unique(sphere.faces[faces])
            rim = np.setdiff1d(patch, inner, assume_unique=True)
            if not len(rim) or len(patch) > sphere.n_vertices // 4:
                break
            links = adjacency[inner]
            count = np.asarray(links.sum(axis=1)).ravel()
            matrix = sparse.diags(count) - links[:, inner]
            place = spsolve(matrix.tocsc(), links[:, rim] @ out[rim]).reshape(len(inner), 3)
            length = np.linalg.norm(place, axis=1, keepdims=True)
            if (length > 0).all():
                before = out[inner].copy()
                out[inner] = place / length
                a, b, c = (out[sphere.faces[faces, k]] for k in range(3))
                if (np.einsum("ij,ij->i", a, np.cross(b, c)) > 0).all():
                    break
                out[inner] = before
            inner = patch
    return out


@compiled()
def _advance(
    points: np.ndarray, goal: np.ndarray, ring: np.ndarray, size: np.ndarray, limit: float
) -> int:
    # Number of vertices that moved and are not yet where they should be, or were held.
    left = 0
    trial = np.empty(3)
    for v in range(len(points)):
        away = 0.0
        for i in range(3):
            away = max(away, abs(goal[v, i] - points[v, i]))
        if away < 1e-9:
            continue
        now = _least_volume(points, ring, v, size[v], points[v])
        least = min(now, limit)
        t = 1.0
        for _ in range(5):
            for i in range(3):
                trial[i] = points[v, i] + t * (goal[v, i] - points[v, i])
            trial /= np.sqrt(trial[0] ** 2 + trial[1] ** 2 + trial[2] ** 2)
            if _least_volume(points, ring, v, size[v], trial) >= least:
                points[v] = trial
                break
            t *= 0.5
        left += t < 1.0
    return left


@compiled()
def _least_volume(points: np.ndarray, ring: np.ndarray, v: int, k: int, at: np.ndarray) -> float:
    least = 1e300
    for i in range(k):
        p, q = ring[v, i], ring[v, (i + 1) % k]
        volume = (
            at[0] * (points[p, 1] * points[q, 2] - points[p, 2] * points[q, 1])
            + at[1] * (points[p, 2] * points[q, 0] - points[p, 0] * points[q, 2])
            + at[2] * (points[p, 0] * points[q, 1] - points[p, 1] * points[q, 0])
        )
        least = min(least, volume)
    return least


@compiled()
def _soft_energy(
    points: np.ndarray,
    ring: np.ndarray,
    v: int,
    k: int,
    x: float,
    y: float,
    z: float,
    mean: float,
    softness: float,
) -> float:
    total = 0.0
    for i in range(k):
        p, q = ring[v, i], ring[v, (i + 1) % k]
        px, py, pz = points[p, 0], points[p, 1], points[p, 2]
        qx, qy, qz = points[q, 0], points[q, 1], points[q, 2]
        area = 0.5 * (x * (py * qz - pz * qy) + y * (pz * qx - px * qz) + z * (px * qy - py * qx))
        soft = 0.5 * (area + np.sqrt(softness * softness + area * area))
        edges = (
            (px - qx) ** 2
            + (py - qy) ** 2
            + (pz - qz) ** 2
            + (x - qx) ** 2
            + (y - qy) ** 2
            + (z - qz) ** 2
            + (x - px) ** 2
            + (y - py) ** 2
            + (z - pz) ** 2
        )
        total += edges / soft + (area * area / mean + mean) / soft
    return total


@compiled()
def _soften(
    points: np.ndarray,
    ring: np.ndarray,
    size: np.ndarray,
    movable: np.ndarray,
    mean: float,
    softness: float,
    n_sweeps: int,
) -> None:
    gradient, hessian, step = np.empty(3), np.empty((3, 3)), np.empty(3)
    n, d = np.empty(3), np.empty(3)
    for _ in range(n_sweeps):
        for v in movable:
            k = size[v]
            x, y, z = points[v, 0], points[v, 1], points[v, 2]
            gradient[:] = 0.0
            hessian[:] = 0.0
            longest = 0.0
            for i in range(k):
                p, q = ring[v, i], ring[v, (i + 1) % k]
                px, py, pz = points[p, 0], points[p, 1], points[p, 2]
                qx, qy, qz = points[q, 0], points[q, 1], points[q, 2]
                n[0] = 0.5 * (py * qz - pz * qy)
                n[1] = 0.5 * (pz * qx - px * qz)
                n[2] = 0.5 * (px * qy - py * qx)
                area = x * n[0] + y * n[1] + z * n[2]
                root = np.sqrt(softness * softness + area * area)
                soft = 0.5 * (area + root)
                slope = 0.5 * (1 + area / root)
                side = (x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
                longest = max(longest, side)
                top = (
                    side
                    + (px - qx) ** 2
                    + (py - qy) ** 2
                    + (pz - qz) ** 2
                    + (x - qx) ** 2
                    + (y - qy) ** 2
                    + (z - qz) ** 2
                    + area * area / mean
                    + mean
                )
                d[0] = 2 * (2 * x - px - qx)
                d[1] = 2 * (2 * y - py - qy)
                d[2] = 2 * (2 * z - pz - qz)
                for a in range(3):
                    # Slope of the numerator and of the softened area.
                    d[a] += 2 * area / mean * n[a]
                    gradient[a] += d[a] / soft - top * slope * n[a] / (soft * soft)
                    hessian[a, a] += 4 / soft
                for a in range(3):
                    for b in range(3):
                        hessian[a, b] += (
                            -(d[a] * n[b] + n[a] * d[b]) * slope / (soft * soft)
                            + 2 * top * slope * slope * n[a] * n[b] / (soft * soft * soft)
                            + 2 / mean * n[a] * n[b] / soft
                        )
            tangent_step(points[v], gradient, hessian, np.sqrt(longest), step)
            before = _soft_energy(points, ring, v, k, x, y, z, mean, softness)
            t = 1.0
            for _ in range(8):
                nx, ny, nz = x + t * step[0], y + t * step[1], z + t * step[2]
                norm = np.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / norm, ny / norm, nz / norm
                if _soft_energy(points, ring, v, k, nx, ny, nz, mean, softness) < before:
                    points[v, 0], points[v, 1], points[v, 2] = nx, ny, nz
                    break
                t *= 0.4
