"""Inflation of a cortical surface, and the depth of its sulci that it yields."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from deepprep.surface.mesh import Mesh
from deepprep.surface.vertex_smoothing import filter_positions, neighbour_mean

SMOOTH_ROUNDS = 10
"""Position filters from white to smoothwm."""

AVERAGES = (16, 8, 4, 2, 1)
"""Rounds over which movements are averaged among neighbours, from broad to fine."""

STEPS = 10
"""Steps at each of them; sulcal depth then spreads as in FreeSurfer's files (5.7 mm)."""

STEP, MOMENTUM = 0.9, 0.9
"""Part of the movement taken, and of the last one kept."""

COLLAPSED = 0.05
"""Part of its white area at which a vertex of the inflated surface counts as collapsed."""

STRETCHED = 2.0
"""An edge that grew by this factor leads on along a hair."""

LONGEST_HAIR = 20
"""Edges from a collapsed vertex to the foot of its hair, at most."""

COLLAR = 3
"""Rings of vertices around hairs that give way with them."""


def smoothwm(white: Mesh) -> Mesh:
    """The white surface without the steps of the image's lattice."""
    return white.moved(filter_positions(white.vertices, neighbour_mean(white), SMOOTH_ROUNDS))


def inflate(smooth: Mesh) -> tuple[Mesh, np.ndarray]:
    """Inflate a surface, after Fischl et al., and measure how far each place moves out.

    Each step moves vertices with momentum towards the mean of their neighbours, this movement
    averaged over a neighbourhood that shrinks from stage to stage, and scales the surface back to
    its area (their metric term is left out). What vertices move along their normals before scaling
    adds up to the sulcal depth. Fingers with a narrow neck shrink to hairs on the way, which
    :func:`without_hairs` takes in.

    Parameters
    ----------
    smooth : Mesh
        Of :func:`smoothwm`.

    Returns
    -------
    inflated : Mesh
        Same triangles and, but for hairs, area, about the same centre.
    sulc : (V,) array
        mm, positive in the depth of sulci, mean zero.

    References
    ----------
    Fischl B, Sereno MI, Dale AM. NeuroImage 9:195-207, 1999.
    """
    mean = neighbour_mean(smooth)
    area = smooth.area_mm2
    centre = smooth.vertices.mean(axis=0)
    mesh = smooth.moved(smooth.vertices - centre)
    sulc = np.zeros(mesh.n_vertices)
    velocity = np.zeros_like(mesh.vertices)
    for rounds in AVERAGES:
        for _ in range(STEPS):
            move = mean @ mesh.vertices - mesh.vertices
            for _ in range(rounds):
                move = 0.5 * (move + mean @ move)
            velocity = MOMENTUM * velocity + STEP * move
            # before scaling, which moves all places out as their distance from the centre
            sulc += (velocity * mesh.vertex_normals).sum(axis=1)
            vertices = mesh.vertices + velocity
            moved = mesh.moved(vertices - vertices.mean(axis=0))
            mesh = moved.moved(moved.vertices * np.sqrt(area / moved.area_mm2))
    mesh = without_hairs(mesh, smooth)
    return mesh.moved(mesh.vertices + centre), sulc - sulc.mean()


def without_hairs(inflated: Mesh, smooth: Mesh) -> Mesh:
    """Take in what collapsed to hairs: these vertices are laid flat between those around them.

    Parameters
    ----------
    inflated, smooth : Mesh
        After and before inflation, same triangles.

    Returns
    -------
    Mesh
        Each vertex of a hair, and of :data:`COLLAR` rings around, at the mean of its neighbours (a
        harmonic map of the graph); the others where they were.
    """
    mean = neighbour_mean(inflated)
    loose = inflated.vertex_areas < COLLAPSED * smooth.vertex_areas
    edges = inflated.edges
    after, before = (
        np.linalg.norm(mesh.vertices[edges[:, 0]] - mesh.vertices[edges[:, 1]], axis=1)
        for mesh in (inflated, smooth)
    )
    drawn = edges[after > STRETCHED * before]
    for _ in range(LONGEST_HAIR):
        loose[drawn[loose[drawn].any(axis=1)]] = True
    for _ in range(COLLAR):
        loose = loose | (mean @ loose.astype(np.float64) > 0)
    if loose.all() or not loose.any():
        return inflated
    rows = mean[np.flatnonzero(loose)]
    vertices = inflated.vertices.copy()
    vertices[loose] = spsolve(
        (sparse.identity(rows.shape[0]) - rows[:, loose]).tocsc(),
        rows[:, ~loose] @ vertices[~loose],
    )
    return inflated.moved(vertices)


def midthickness(white: Mesh, pial: Mesh) -> Mesh:
    """Half-way between white and pial."""
    return white.moved(0.5 * (white.vertices + pial.vertices))
