"""Nested spheres of triangles: the regular ones, numbered as fsaverage is."""

from __future__ import annotations

import numpy as np

from deepprep.surface.mesh import Mesh

LEVELS = {3: 642, 4: 2562, 5: 10242, 6: 40962, 7: 163842}
"""Vertices of fsaverage3 ... fsaverage6 and fsaverage (level 7)."""


def vertices_of(level: int) -> int:
    """Number of vertices of the sphere of a level: 12, 42, 162 ..."""
    return 10 * 4**level + 2


def level_of(n_vertices: int) -> int:
    """Level of the sphere with so many vertices.

    Raises
    ------
    ValueError
        Where no sphere of this family has so many.
    """
    for level in range(9):
        if vertices_of(level) == n_vertices:
            return level
    raise ValueError(f"{n_vertices} is not the number of vertices of a subdivided icosahedron")


def subdivided(corners: Mesh, parents: np.ndarray, level: int) -> Mesh:
    """Sphere of a level from the icosahedron and the parents of every later vertex.

    Parameters
    ----------
    corners : Mesh
        The 12 vertices and 20 triangles of the icosahedron; its radius is kept.
    parents : (P, 2) int array
        Row k: the two vertices between which vertex 12 + k lies. Rows of every level up to the
        wanted one are needed.
    level : int
        0 is the icosahedron.

    Returns
    -------
    Mesh
        Vertices numbered so that each level begins with the vertices of the one before.

    Raises
    ------
    ValueError
        Where ``parents`` has no rows for the level.
    """
    n = vertices_of(level)
    if level < 0 or n - 12 > len(parents):
        raise ValueError(f"no vertices are stored for level {level}")
    radius = np.linalg.norm(corners.vertices[0])
    points = np.zeros((n, 3))
    points[:12] = corners.vertices
    faces = corners.faces.astype(np.int64)
    for step in range(1, level + 1):
        old, new = vertices_of(step - 1), vertices_of(step)
        pairs = np.sort(parents[old - 12 : new - 12].astype(np.int64), axis=1)
        middle = points[pairs[:, 0]] + points[pairs[:, 1]]
        points[old:new] = radius * middle / np.linalg.norm(middle, axis=1, keepdims=True)
        keys = pairs @ np.array([n, 1])
        order = np.argsort(keys)

        def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
            wanted = np.minimum(first, second) * n + np.maximum(first, second)
            at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)  # noqa: B023
            found = order[at]  # noqa: B023
            if not np.array_equal(keys[found], wanted):  # noqa: B023
                raise ValueError("the parents do not belong to these triangles")
            return found + old  # noqa: B023

        a, b, c = faces.T
        ab, bc, ca = between(a, b), between(b, c), between(c, a)
        faces = np.concatenate(
            [
                np.stack(corner, axis=1)
                for corner in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
            ]
        )
    return Mesh(points, faces.astype(np.int32))


def icosahedron(corners: np.ndarray) -> Mesh:
    """The 20 outward triangles on 12 given corners of a regular icosahedron."""
    # Corners one edge apart: the least distance, five for each.
    distance = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    edge = np.sort(distance, axis=1)[:, 1:6].mean()
    near = np.abs(distance - edge) < 0.1 * edge
    faces = []
    for i in range(12):
        for j in range(i + 1, 12):
            for k in range(j + 1, 12):
                if near[i, j] and near[j, k] and near[i, k]:
                    out = np.linalg.det(corners[[i, j, k]]) > 0
                    faces.append((i, j, k) if out else (i, k, j))
    if len(faces) != 20:
        raise ValueError("these are not the corners of a regular icosahedron")
    return Mesh(corners, np.array(faces, dtype=np.int32))
