"""Mean and Gaussian curvature of a mesh from paraboloids fitted to each vertex' neighbours."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh

MOST_CURVED = 10.0
"""Curvatures are cut off here, 1/mm: needles and spikes of a mesh."""


def principal_curvatures(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Principal curvatures of each vertex, 1/mm, the one larger in size first.

    A paraboloid over the tangent plane is fitted to the neighbours and their neighbours.

    Parameters
    ----------
    mesh : Mesh
        Outward normals.

    Returns
    -------
    k1, k2 : (V,) float64 arrays
        abs(k1) >= abs(k2); negative where the surface is convex, as FreeSurfer's ``curv`` has it
        (positive in sulci).
    """
    adjacency = mesh.adjacency
    k1, k2 = np.zeros(mesh.n_vertices), np.zeros(mesh.n_vertices)
    _fit(mesh.vertices, mesh.vertex_normals, adjacency.indptr, adjacency.indices, k1, k2)
    return np.clip(k1, -MOST_CURVED, MOST_CURVED), np.clip(k2, -MOST_CURVED, MOST_CURVED)


@compiled()
def _solve(m: np.ndarray, r: np.ndarray) -> tuple[float, float, float]:
    # Cramer's rule for a symmetric 3 x 3 matrix: numba compiles LAPACK calls for half a minute.
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2]
    c01 = m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    c02 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    c11 = m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
    c12 = m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
    c22 = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1]
    det = m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02
    return (
        (c00 * r[0] + c01 * r[1] + c02 * r[2]) / det,
        (c01 * r[0] + c11 * r[1] + c12 * r[2]) / det,
        (c02 * r[0] + c12 * r[1] + c22 * r[2]) / det,
    )


@compiled()
def _fit(
    points: np.ndarray,
    normals: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    k1: np.ndarray,
    k2: np.ndarray,
) -> None:
    normal_matrix, right = np.empty((3, 3)), np.empty(3)
    e, f = np.empty(3), np.empty(3)
    for v in range(len(points)):
        n = normals[v]
        axis = np.argmin(np.abs(n))
        e[:] = 0.0
        e[axis] = 1.0
        e -= n[axis] * n
        e /= np.sqrt((e * e).sum())
        f[0] = n[1] * e[2] - n[2] * e[1]
        f[1] = n[2] * e[0] - n[0] * e[2]
        f[2] = n[0] * e[1] - n[1] * e[0]
        normal_matrix[:] = 0.0
        right[:] = 0.0
        for s in range(start[v], start[v + 1]):
            u = neighbour[s]
            for t in range(start[u] - 1, start[u + 1]):
                # The neighbour itself first, then those around it.
                w = u if t < start[u] else neighbour[t]
                if w == v:
                    continue
                x, y, z = 0.0, 0.0, 0.0
                for k in range(3):
                    offset = points[w, k] - points[v, k]
                    x += offset * e[k]
                    y += offset * f[k]
                    z += offset * n[k]
                a, b, c = 0.5 * x * x, x * y, 0.5 * y * y
                normal_matrix[0, 0] += a * a
                normal_matrix[0, 1] += a * b
                normal_matrix[0, 2] += a * c
                normal_matrix[1, 1] += b * b
                normal_matrix[1, 2] += b * c
                normal_matrix[2, 2] += c * c
                right[0] += a * z
                right[1] += b * z
                right[2] += c * z
        normal_matrix[1, 0] = normal_matrix[0, 1]
        normal_matrix[2, 0] = normal_matrix[0, 2]
        normal_matrix[2, 1] = normal_matrix[1, 2]
        trace = normal_matrix[0, 0] + normal_matrix[1, 1] + normal_matrix[2, 2]
        if trace <= 0:
            continue
        for k in range(3):
            normal_matrix[k, k] += 1e-9 * trace
        a, b, c = _solve(normal_matrix, right)
        half = 0.5 * (a + c)
        root = np.sqrt(0.25 * (a - c) ** 2 + b * b)
        first, second = half + root, half - root
        if abs(first) >= abs(second):
            k1[v], k2[v] = first, second
        else:
            k1[v], k2[v] = second, first
