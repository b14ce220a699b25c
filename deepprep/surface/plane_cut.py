"""Where a plane cuts a mesh: the lines that are drawn over slices of an image."""

from __future__ import annotations

import numpy as np

from deepprep.surface.mesh import Mesh


def cut_by_plane(mesh: Mesh, axis: int, position_mm: float) -> np.ndarray:
    """Line segments in which the plane ``x[axis] = position_mm`` cuts the triangles.

    Parameters
    ----------
    mesh : Mesh
        Any mesh, RAS mm.
    axis : int
        0, 1 or 2: the world axis that the plane is perpendicular to.
    position_mm : float
        Where along that axis.

    Returns
    -------
    (S, 2, 3) float64 array
        End points of a segment for each triangle that is cut, RAS mm.
    """
    height = mesh.vertices[:, axis] - position_mm
    # A vertex exactly in the plane counts as above: a triangle is cut in two edges or not at all.
    above = height >= 0
    sides = above[mesh.faces]
    faces = mesh.faces[(sides.any(axis=1)) & (~sides.all(axis=1))]
    sides = above[faces]
    # The vertex that is alone on its side; its two edges are cut.
    alone = np.argmax(sides != (sides.sum(axis=1) == 2)[:, None], axis=1)
    rows = np.arange(len(faces))
    apex = faces[rows, alone]
    ends = []
    for step in (1, 2):
        other = faces[rows, (alone + step) % 3]
        part = height[apex] / (height[apex] - height[other])
        ends.append(
            mesh.vertices[apex] + part[:, None] * (mesh.vertices[other] - mesh.vertices[apex])
        )
    return np.stack(ends, axis=1)
