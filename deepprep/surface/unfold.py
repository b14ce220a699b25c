"""Unfold the few triangles of a sphere that an interpolated map has turned over."""

from __future__ import annotations

import numpy as np

from deepprep.surface.distortion import signed_volumes
from deepprep.surface.mesh import Mesh
from deepprep.surface.sphere import deepest_point
from deepprep.surface.vertex_hierarchy import neighbour_rings

THINNEST = 1e-3
"""A triangle thinner than this share of the mean is opened too: single precision keeps it so."""
MOST_ROUNDS = 300
"""Rounds before the sphere is given up."""
WIDEN_EVERY = 10
"""Rounds after which the vertices one ring farther away move too."""


def remove_folds(sphere: Mesh) -> tuple[Mesh, int]:
    """Move the vertices of folded triangles until every triangle faces outwards.

    Each such vertex goes to the point of its ring that is deepest inside it, and where no point
    sees the whole ring, to the mean of its neighbours; what stays folded takes its surroundings
    along.

    Parameters
    ----------
    sphere : Mesh
        Vertices on a sphere about the origin, most triangles outward.

    Returns
    -------
    sphere : Mesh
        The same radius, no folds.
    count : int
        Triangles that were folded, or too thin for single precision.

    Raises
    ------
    ValueError
        Where folds remain.
    """
    radius = np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    points = sphere.vertices / radius
    limit = THINNEST * 2 * 4 * np.pi / sphere.n_faces
    bad = signed_volumes(sphere.moved(points)) <= limit
    count = int(bad.sum())
    if not count:
        return sphere, 0
    ring, size = neighbour_rings(sphere)
    normals, point = np.empty((ring.shape[1], 3)), np.empty(3)
    for step in range(MOST_ROUNDS):
        movable = np.unique(sphere.faces[bad])
        for _ in range(step // WIDEN_EVERY):
            movable = np.unique(np.concatenate([movable, ring[movable][ring[movable] >= 0]]))
        for v in movable:
            k = int(size[v])
            depth = deepest_point(points, ring, int(v), k, normals, point)
            if depth <= 0 or step % 4 == 3:
                point[:] = points[ring[v, :k]].mean(axis=0)
                point /= np.linalg.norm(point)
            points[v] = point
        bad = signed_volumes(sphere.moved(points)) <= limit
        if not bad.any():
            return sphere.moved(points * radius), count
    if (signed_volumes(sphere.moved(points)) > 0).all():
        return sphere.moved(points * radius), count
    raise ValueError(f"{int(bad.sum())} triangles of the sphere stay folded")
