"""Mean and Gaussian curvature of a mesh."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh
from deepprep.surface.vertex_smoothing import neighbour_mean

MOST_CURVED = 10.0
"""Principal curvatures are cut off here, 1/mm: needles and spikes of a mesh."""

SMOOTHING_ROUNDS = 10
"""Neighbour means of the curvature of the white surface, as FreeSurfer's -a 10."""


def mean_and_gaussian_curvature(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Curvatures from a quadratic patch through the neighbourhood of each vertex.

    Parameters
    ----------
    mesh : Mesh

    Returns
    -------
    mean : (V,) array
        1/mm, FreeSurfer's sign: negative on gyri (convex), positive in sulci.
    gaussian : (V,) array
        1/mm^2, positive on bowls and domes.
    """
    # two rings: one alone leaves the patch at the mercy of a single vertex
    reach = (mesh.adjacency @ mesh.adjacency + mesh.adjacency).tocsr()
    reach.setdiag(0)
    reach.eliminate_zeros()
    return _patches(mesh.vertices, mesh.vertex_normals, reach.indptr, reach.indices)


def principal_curvatures(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Principal curvatures of each vertex, the one larger in size first.

    Parameters
    ----------
    mesh : Mesh

    Returns
    -------
    k1, k2 : (V,) arrays
        1/mm, abs(k1) >= abs(k2), cut off at ``MOST_CURVED``; negative where the surface is convex.
    """
    mean, gaussian = mean_and_gaussian_curvature(mesh)
    root = np.sqrt(np.maximum(mean**2 - gaussian, 0.0))
    larger = mean + np.where(mean >= 0, root, -root)
    smaller = mean - np.where(mean >= 0, root, -root)
    return np.clip(larger, -MOST_CURVED, MOST_CURVED), np.clip(smaller, -MOST_CURVED, MOST_CURVED)


def smoothed(mesh: Mesh, values: np.ndarray, rounds: int = SMOOTHING_ROUNDS) -> np.ndarray:
    """Mean over each vertex and its neighbours, repeated."""
    count = np.maximum(np.asarray(mesh.adjacency.sum(axis=1)).ravel(), 1.0)
    mean = neighbour_mean(mesh)
    for _ in range(rounds):
        values = (values + count * (mean @ values)) / (1.0 + count)
    return values


@compiled(nogil=True)
def _patches(p: np.ndarray, normals: np.ndarray, starts: np.ndarray, near: np.ndarray):  # type: ignore[no-untyped-def]
    n = len(p)
    mean, gauss = np.zeros(n), np.zeros(n)
    u, w = np.empty(3), np.empty(3)
    a, row = np.empty((5, 5)), np.empty(5)
    b = np.empty(5)
    for v in range(n):
        m = normals[v]
        # any tangent direction that is not close to the normal
        k = 0
        for i in range(3):
            if abs(m[i]) < abs(m[k]):
                k = i
        for i in range(3):
            u[i] = (1.0 if i == k else 0.0) - m[k] * m[i]
        size = np.sqrt((u * u).sum())
        if size == 0.0:
            continue
        u /= size
        w[0] = m[1] * u[2] - m[2] * u[1]
        w[1] = m[2] * u[0] - m[0] * u[2]
        w[2] = m[0] * u[1] - m[1] * u[0]
        a[:] = 0.0
        b[:] = 0.0
        scale = 0.0
        for e in range(starts[v], starts[v + 1]):
            q = near[e]
            x = y = z = 0.0
            for i in range(3):
                d = p[q, i] - p[v, i]
                x += d * u[i]
                y += d * w[i]
                z += d * m[i]
            # height = s x + t y + (l x^2 + 2 k x y + r y^2) / 2
            row[0], row[1], row[2], row[3], row[4] = x, y, 0.5 * x * x, x * y, 0.5 * y * y
            scale += x * x + y * y
            for i in range(5):
                b[i] += row[i] * z
                for j in range(5):
                    a[i, j] += row[i] * row[j]
        if starts[v + 1] - starts[v] < 5 or scale == 0.0:
            continue
        scale /= starts[v + 1] - starts[v]
        for i in range(5):
            a[i, i] += 1e-6 * scale * (1.0 if i < 2 else scale)
        c = np.linalg.solve(a, b)
        s, t = c[0], c[1]
        g = 1.0 + s * s + t * t
        h = (1 + t * t) * c[2] - 2 * s * t * c[3] + (1 + s * s) * c[4]
        # convex with an outward normal bends away from it: negative
        mean[v] = 0.5 * h / g**1.5
        gauss[v] = (c[2] * c[4] - c[3] * c[3]) / (g * g)
    return mean, gauss
