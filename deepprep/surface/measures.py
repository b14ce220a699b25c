"""Thickness, area, volume and grey/white contrast of cortex, at each vertex."""

from __future__ import annotations

import numpy as np
from scipy import spatial

from deepprep.image.compiled import compiled
from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.mesh_distance import squared_distance_to_triangle
from deepprep.surface.profiles import sample_points, spline_image
from deepprep.surface.self_intersection import find_crossings

MOST_THICKNESS_MM = 5.0
"""FreeSurfer's upper limit."""

APART_MM = 0.05
"""White and pial vertices nearer than this are one surface."""

CONTRAST_WHITE_MM = 1.0
"""White matter is sampled so far below the white surface."""

CONTRAST_GREY_FRACTION = 0.3
"""Grey matter is sampled at this part of the thickness."""


def thickness(white: Mesh, pial: Mesh) -> np.ndarray:
    """Thickness by closest points, both ways (Fischl & Dale, PNAS 97:11050, 2000).

    Parameters
    ----------
    white, pial : Mesh
        Same triangles.

    Returns
    -------
    (V,) array
        Mean of the distances from each white vertex to the pial surface and from its pial vertex
        to the white surface; mm, 0 to ``MOST_THICKNESS_MM``.
    """
    forth = distance_to_surface(white.vertices, pial)
    back = distance_to_surface(pial.vertices, white)
    return np.minimum(0.5 * (forth + back), MOST_THICKNESS_MM)


def distance_to_surface(points_ras: np.ndarray, mesh: Mesh, n_nearest: int = 6) -> np.ndarray:
    """(N,) distance of points to the triangles around their nearest vertices, mm."""
    _, nearest = spatial.cKDTree(mesh.vertices).query(points_ras, k=n_nearest)
    order = np.argsort(mesh.faces.ravel(), kind="stable")
    starts = np.searchsorted(mesh.faces.ravel()[order], np.arange(mesh.n_vertices + 1))
    return _to_triangles(
        points_ras, mesh.vertices, mesh.faces, nearest.reshape(len(points_ras), -1), order // 3,
        starts,
    )  # fmt: skip


@compiled(nogil=True)
def _to_triangles(points, vertices, faces, nearest, face_list, starts):  # type: ignore[no-untyped-def]
    out = np.empty(len(points))
    for n in range(len(points)):
        best = np.inf
        for m in range(nearest.shape[1]):
            v = nearest[n, m]
            for e in range(starts[v], starts[v + 1]):
                f = faces[face_list[e]]
                d = squared_distance_to_triangle(
                    points[n], vertices[f[0]], vertices[f[1]], vertices[f[2]]
                )
                best = min(best, d)
        out[n] = np.sqrt(best)
    return out


def vertex_volumes(white: Mesh, pial: Mesh) -> np.ndarray:
    """Volume of cortex at each vertex.

    The prism between a white triangle and its pial triangle is divided into three tetrahedra
    (Winkler et al., Cerebral Cortex 28:738, 2018); a third of it goes to each corner.

    Returns
    -------
    (V,) array
        mm^3.
    """
    a, b, c = (white.vertices[white.faces[:, k]] for k in range(3))
    d, e, f = (pial.vertices[pial.faces[:, k]] for k in range(3))
    total = _tetrahedron(a, b, c, d) + _tetrahedron(b, c, d, e) + _tetrahedron(c, d, e, f)
    out = np.zeros(white.n_vertices)
    for k in range(3):
        out += np.bincount(white.faces[:, k], total / 3.0, white.n_vertices)
    return out


def _tetrahedron(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    return (np.cross(b - a, c - a) * (d - a)).sum(axis=1) / 6.0


def white_pial_crossings(white: Mesh, pial: Mesh) -> int:
    """Number of white triangles that meet pial ones where the two surfaces are apart.

    Parameters
    ----------
    white, pial : Mesh
        Same triangles. On the medial wall and at its border they are one surface.
    """
    return len(np.unique(crossing_triangles(white, pial)[:, 0]))


def crossing_triangles(white: Mesh, pial: Mesh) -> np.ndarray:
    """(P, 2) white and pial triangle of each pair that meets where the two surfaces are apart."""
    apart = np.linalg.norm(pial.vertices - white.vertices, axis=1) > APART_MM
    kept = np.flatnonzero(apart[white.faces].all(axis=1))
    faces = white.faces[kept]
    return kept[find_crossings(Mesh(white.vertices, faces), Mesh(pial.vertices, faces))]


def grey_white_contrast(image: Volume, white: Mesh, pial: Mesh) -> np.ndarray:
    """Contrast of grey and white matter across the white surface.

    Returns
    -------
    (V,) array
        Percent: 100 (white - grey) / mean of both, as FreeSurfer's ``w-g.pct``; 0 where both are
        dark.
    """
    spline = spline_image(image, white.vertices)
    inner = sample_points(spline, white.vertices - CONTRAST_WHITE_MM * white.vertex_normals)
    outward = CONTRAST_GREY_FRACTION * (pial.vertices - white.vertices)
    outer = sample_points(spline, white.vertices + outward)
    total = 0.5 * (inner.astype(np.float64) + outer)
    return np.where(total > 0, 100.0 * (inner - outer) / np.where(total > 0, total, 1.0), 0.0)
