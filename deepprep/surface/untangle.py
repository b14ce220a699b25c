"""Repair of triangles that run through each other, in one surface or between white and pial."""

from __future__ import annotations

import numpy as np

from deepprep.surface.measures import crossing_triangles
from deepprep.surface.mesh import Mesh
from deepprep.surface.self_intersection import find_self_intersections
from deepprep.surface.vertex_smoothing import neighbour_mean

MOST_ROUNDS = 60
"""Attempts; the neighbourhood that moves grows with them."""

BACK = 0.02
"""Part of the way back to the safe surface in the first attempts; more of it opens sulci."""

GROWTH = 6
"""Attempts after which the neighbourhood and the way back become larger."""

RETURN = 0.5
"""Part of the way to its white vertex, each round, of a pial vertex at a crossing of the two surfaces.
They cross where cortex ends: there they become one sooner."""

RETURN_ROUNDS = 20
"""Rounds; after every fifth the neighbourhood grows."""

TURNS = 4
"""One repair may undo the other: both are repeated so often."""


def untangle_pial(pial: Mesh, white: Mesh) -> tuple[Mesh, int]:
    """Make a pial surface meet neither itself nor the white surface.

    Parameters
    ----------
    pial, white : Mesh
        Same triangles; white without self-intersections.

    Returns
    -------
    mesh : Mesh
    left : int
        Triangles that still meet others of the pial surface.
    """
    mesh, left = untangle(pial, white)
    for _ in range(TURNS):
        mesh, clear = _off_white(mesh, white)
        if clear:
            break
        mesh, left = untangle(mesh, white)
    return mesh, left


def _off_white(pial: Mesh, white: Mesh) -> tuple[Mesh, bool]:
    """Pial vertices at crossings with white go back to it; whether there were none."""
    mean = neighbour_mean(white)
    vertices = pial.vertices.copy()
    for attempt in range(RETURN_ROUNDS):
        pairs = crossing_triangles(white, pial.moved(vertices))
        if not len(pairs):
            return pial.moved(vertices), attempt == 0
        near = np.zeros(pial.n_vertices)
        near[white.faces[pairs].ravel()] = 1.0
        for _ in range(1 + attempt // 5):
            near = np.maximum(near, 0.5 * (mean @ near > 0))
        vertices += RETURN * near[:, None] * (white.vertices - vertices)
    return pial.moved(vertices), False


def untangle(mesh: Mesh, safe: Mesh | None = None, rounds: int = MOST_ROUNDS) -> tuple[Mesh, int]:
    """Smooth a mesh where it intersects itself until it no longer does.

    Parameters
    ----------
    mesh : Mesh
    safe : Mesh, optional
        Same triangles, without self-intersections, such as the white surface of a pial one:
        vertices also step back towards it, so that the repair ends.
    rounds : int

    Returns
    -------
    mesh : Mesh
    left : int
        Triangles that still meet others.
    """
    mean = neighbour_mean(mesh)
    vertices = mesh.vertices.copy()
    for attempt in range(rounds + 1):
        found = find_self_intersections(mesh.moved(vertices))
        if found.n_intersecting_faces == 0 or attempt == rounds:
            break
        near = np.zeros(mesh.n_vertices)
        near[mesh.faces[found.faces].ravel()] = 1.0
        for _ in range(1 + attempt // GROWTH):
            near = np.maximum(near, (mean @ near > 0).astype(np.float64))
        moving = near > 0
        weight = near[moving, None]
        rows = mean[moving]
        for _ in range(2):
            vertices[moving] += 0.5 * weight * (rows @ vertices - vertices[moving])
        if safe is not None:
            back = BACK * (1 + attempt // GROWTH)
            vertices[moving] += back * weight * (safe.vertices[moving] - vertices[moving])
    return mesh.moved(vertices), found.n_intersecting_faces
