"""Inflation of a cortical surface, and the depth of its sulci that it yields."""

from __future__ import annotations

import numpy as np

from deepprep.surface.mesh import Mesh
from deepprep.surface.vertex_smoothing import neighbour_mean, smooth_positions

SMOOTH_ROUNDS = 10
"""Position filters from white to smoothwm."""

AVERAGES = (32, 24, 16, 12, 8, 6, 4, 3, 2, 2)
"""Neighbour means of the forces in each group of steps: large folds open first."""

STEPS_A_GROUP = 6
"""Steps with the same reach of the forces."""

STEP = 0.9
"""Part of the way towards the mean of the neighbours in a step."""


def smoothwm(white: Mesh) -> Mesh:
    """The white surface without the steps of the image's lattice."""
    return smooth_positions(white, neighbour_mean(white), SMOOTH_ROUNDS)


def inflate(smooth: Mesh) -> tuple[Mesh, np.ndarray]:
    """Inflate a surface, as Fischl et al. do, and measure how far each place moves out.

    Each step moves vertices towards the mean of their neighbours, with displacements averaged
    over a neighbourhood that shrinks, and scales the surface back to its area. What vertices move
    along their normals adds up to the sulcal depth.

    Parameters
    ----------
    smooth : Mesh
        Of :func:`smoothwm`.

    Returns
    -------
    inflated : Mesh
        Same triangles and area, about the same centre.
    sulc : (V,) array
        mm, positive in the depth of sulci, mean zero.

    References
    ----------
    Fischl B, Sereno MI, Dale AM. NeuroImage 9:195-207, 1999.
    """
    mean = neighbour_mean(smooth)
    area = float(smooth.face_areas.sum())
    centre = smooth.vertices.mean(axis=0)
    mesh = smooth.moved(smooth.vertices - centre)
    sulc = np.zeros(mesh.n_vertices)
    for reach in AVERAGES:
        for _ in range(STEPS_A_GROUP):
            move = mean @ mesh.vertices - mesh.vertices
            vertices = mesh.vertices + STEP * move
            for _ in range(reach // 8):
                move = mean @ vertices - vertices
                vertices = vertices + STEP * move
            moved = mesh.moved(vertices - vertices.mean(axis=0))
            moved = moved.moved(moved.vertices * np.sqrt(area / moved.face_areas.sum()))
            sulc += ((moved.vertices - mesh.vertices) * mesh.vertex_normals).sum(axis=1)
            mesh = moved
    return mesh.moved(mesh.vertices + centre), sulc - sulc.mean()


def midthickness(white: Mesh, pial: Mesh) -> Mesh:
    """Half-way between white and pial."""
    return white.moved(0.5 * (white.vertices + pial.vertices))
