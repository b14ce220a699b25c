"""Where a point lies on a sphere of triangles, and values carried from one sphere to another.

A point belongs to the triangle that the ray from the centre through it meets, and its weights are
the barycentric coordinates of where. The search walks from the nearest vertex through neighbouring
triangles, which ends at the right one on any sphere without folds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh

INSIDE = 1e-9
"""How far outside, as a barycentric weight, still counts as inside: points on an edge."""
LONGEST_WALK = 2000
"""Triangles a walk may visit before every triangle is tried."""


@dataclass(frozen=True)
class Locations:
    """Points on a sphere of triangles.

    Parameters
    ----------
    corners : (N, 3) int32 array
        Vertices of the triangle of each point.
    weights : (N, 3) float64 array
        Barycentric weights, not negative, sum 1.
    faces : (N,) int32 array
        Number of the triangle.
    n_vertices : int
        Of the sphere.
    """

    corners: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    n_vertices: int

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """(N, V) weights as a sparse matrix."""
        rows = np.repeat(np.arange(len(self.corners)), 3)
        return sparse.csr_matrix(
            (self.weights.ravel(), (rows, self.corners.ravel())),
            shape=(len(self.corners), self.n_vertices),
        )

    def interpolate(self, values: np.ndarray) -> np.ndarray:
        """Values of vertices, (V,) or (V, C), at the points.

        Raises
        ------
        ValueError
            Where the number of values is not that of vertices.
        """
        values = np.asarray(values, dtype=np.float64)
        if len(values) != self.n_vertices:
            raise ValueError(f"{len(values)} values for a sphere of {self.n_vertices} vertices")
        corners = values[self.corners]
        return np.einsum("nk,nk...->n...", self.weights, corners)

    @property
    def nearest(self) -> np.ndarray:
        """(N,) the corner with the largest weight."""
        return self.corners[np.arange(len(self.corners)), self.weights.argmax(axis=1)]


def locate(sphere: Mesh, points: np.ndarray, first_faces: np.ndarray | None = None) -> Locations:
    """Triangle and barycentric weights of points on a sphere.

    Parameters
    ----------
    sphere : Mesh
        Closed sphere about the origin, triangles outward, no folds (where there are folds, one of
        the triangles that cover a point is found).
    points : (N, 3) array
        Directions; their length does not matter.
    first_faces : (N,) int array, optional
        A triangle near each point, where known.

    Raises
    ------
    ValueError
        Where a point is the centre or not finite.
    """
    points = np.ascontiguousarray(points, dtype=np.float64)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if not np.isfinite(length).all() or (length <= 0).any():
        raise ValueError("points on a sphere need a direction; some are the centre or not finite")
    unit = points / length
    radii = np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    vertices = np.ascontiguousarray(sphere.vertices / np.maximum(radii, 1e-300))
    if first_faces is None:
        nearest = cKDTree(vertices).query(unit)[1]
        some_face = np.zeros(sphere.n_vertices, dtype=np.int32)
        some_face[sphere.faces.ravel()] = np.repeat(np.arange(sphere.n_faces, dtype=np.int32), 3)
        first_faces = some_face[nearest]
    found = np.ascontiguousarray(first_faces, dtype=np.int32).copy()
    weights = np.empty((len(unit), 3))
    walk_all(vertices, sphere.faces, face_neighbours(sphere.faces), unit, found, weights)
    return Locations(sphere.faces[found], weights, found, sphere.n_vertices)


def face_neighbours(faces: np.ndarray) -> np.ndarray:
    """(F, 3) int32: the triangle across the edge opposite each corner; -1 at a border."""
    n = int(faces.max()) + 1 if len(faces) else 0
    first = np.concatenate([faces[:, 1], faces[:, 2], faces[:, 0]]).astype(np.int64)
    second = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]]).astype(np.int64)
    there, back = first * n + second, second * n + first
    order = np.argsort(there)
    at = np.minimum(np.searchsorted(there[order], back), len(there) - 1)
    match = order[at]
    out = np.where(there[match] == back, match % len(faces), -1)
    return np.ascontiguousarray(out.reshape(3, -1).T.astype(np.int32))


def resample(
    values: np.ndarray, source: Mesh, target: Mesh, *, mask: np.ndarray | None = None
) -> np.ndarray:
    """Barycentric interpolation of values from one sphere at the vertices of another.

    Parameters
    ----------
    values : (V,) or (V, C) array
        On ``source``.
    source, target : Mesh
        Spheres in one space.
    mask : (V,) bool array, optional
        Vertices whose values count; where none does the result is NaN.
    """
    location = locate(source, target.vertices)
    if mask is None:
        return location.interpolate(values)
    return masked_product(location.matrix, values, mask)


def resample_labels(labels: np.ndarray, source: Mesh, target: Mesh) -> np.ndarray:
    """The label with the largest barycentric weight at each vertex of ``target``."""
    location = locate(source, target.vertices)
    corners = np.asarray(labels)[location.corners]
    votes = (location.weights[:, None, :] * (corners[:, :, None] == corners[:, None, :])).sum(2)
    return corners[np.arange(len(corners)), votes.argmax(axis=1)]


def masked_product(matrix: sparse.csr_matrix, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Weighted means over the vertices of a mask only; NaN where it has no weight."""
    values = np.asarray(values, dtype=np.float64)
    kept = np.where(mask if values.ndim == 1 else np.asarray(mask)[:, None], values, 0.0)
    total = matrix @ np.asarray(mask, dtype=np.float64)
    out = matrix @ kept
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = out / (total if out.ndim == 1 else total[:, None])
    scaled[total <= 1e-6] = np.nan
    return scaled


def adaptive_area_weights(
    source: Mesh, target: Mesh, source_areas: np.ndarray, target_areas: np.ndarray
) -> sparse.csr_matrix:
    """Weights of adaptive barycentric area resampling, as Connectome Workbench's ADAP_BARY_AREA.

    Where the target is coarser than the source every source vertex takes part: a target vertex
    uses the source vertices whose own triangle on the target has it as a corner, unless these are
    all among the corners of the triangle of the source that the target vertex lies in, which it uses
    then (plain barycentric interpolation). Weights are then scaled so that each source vertex gives
    away its whole area once.

    Parameters
    ----------
    source, target : Mesh
        Spheres in one space.
    source_areas, target_areas : (V,) arrays
        Areas of the vertices on the anatomical surfaces (mm^2), not on the spheres.

    Returns
    -------
    (target vertices, source vertices) sparse matrix
        Rows sum to 1.
    """
    forward = locate(source, target.vertices).matrix
    reverse = locate(target, source.vertices).matrix.T.tocsr()
    forward.eliminate_zeros()
    reverse.eliminate_zeros()
    used, had = forward.astype(bool).astype(np.int32), reverse.astype(bool).astype(np.int32)
    common = np.asarray(used.multiply(had).sum(axis=1)).ravel()
    take_forward = (common == np.asarray(had.sum(axis=1)).ravel()).astype(np.float64)
    chosen = sparse.diags(take_forward) @ forward + sparse.diags(1 - take_forward) @ reverse
    given = sparse.diags(np.asarray(target_areas, dtype=np.float64)) @ chosen
    total = np.asarray(given.sum(axis=0)).ravel()
    scale = np.divide(source_areas, total, out=np.zeros_like(total), where=total > 0)
    weighted = (given @ sparse.diags(scale)).tocsr()
    rows = np.asarray(weighted.sum(axis=1)).ravel()
    scale = np.divide(1.0, rows, out=np.zeros_like(rows), where=rows > 0)
    return (sparse.diags(scale) @ weighted).tocsr()


def resample_adaptive(
    values: np.ndarray, weights: sparse.csr_matrix, *, mask: np.ndarray | None = None
) -> np.ndarray:
    """Apply :func:`adaptive_area_weights` to values, within a mask of source vertices if given."""
    if mask is None:
        return weights @ np.asarray(values, dtype=np.float64)
    return masked_product(weights, values, mask)


def resample_areas(areas: np.ndarray, source: Mesh, target: Mesh) -> np.ndarray:
    """Carry areas (or any amount per vertex) to another sphere so that the total is kept.

    Each source vertex shares its amount among the corners of the target triangle it lies in.
    """
    return locate(target, source.vertices).matrix.T @ np.asarray(areas, dtype=np.float64)


@compiled()
def walk(
    vertices: np.ndarray,
    faces: np.ndarray,
    neighbours: np.ndarray,
    x: float,
    y: float,
    z: float,
    face: int,
    weights: np.ndarray,
) -> int:
    """Walk to the triangle of one point; fills its weights (3,) and returns its number."""
    best_face, best_least = face, -1e300
    for _ in range(LONGEST_WALK):
        least, corner, total = _coordinates(vertices, faces, face, x, y, z, weights)
        if least > best_least and total > 0:
            best_face, best_least = face, least
        if least >= -INSIDE and total > 0:
            return _finish(weights, face)
        following = neighbours[face, corner]
        if following < 0:
            break
        face = following
    for face in range(len(faces)):
        least, corner, total = _coordinates(vertices, faces, face, x, y, z, weights)
        if total > 0 and least > best_least:
            best_face, best_least = face, least
            if least >= -INSIDE:
                break
    _coordinates(vertices, faces, best_face, x, y, z, weights)
    return _finish(weights, best_face)


@compiled()
def _finish(weights: np.ndarray, face: int) -> int:
    total = 0.0
    for k in range(3):
        weights[k] = max(weights[k], 0.0)
        total += weights[k]
    for k in range(3):
        weights[k] /= total
    return face


@compiled()
def _coordinates(
    vertices: np.ndarray,
    faces: np.ndarray,
    face: int,
    x: float,
    y: float,
    z: float,
    weights: np.ndarray,
) -> tuple[float, int, float]:
    # The ray through the point: determinants of the point with each edge, opposite its corner.
    total = 0.0
    for k in range(3):
        p, q = faces[face, (k + 1) % 3], faces[face, (k + 2) % 3]
        px, py, pz = vertices[p, 0], vertices[p, 1], vertices[p, 2]
        qx, qy, qz = vertices[q, 0], vertices[q, 1], vertices[q, 2]
        weights[k] = x * (py * qz - pz * qy) + y * (pz * qx - px * qz) + z * (px * qy - py * qx)
        total += weights[k]
    size = abs(total)
    least, corner = 1e300, 0
    for k in range(3):
        if weights[k] < least:
            least, corner = weights[k], k
    scale = size if size > 1e-300 else 1e-300
    for k in range(3):
        weights[k] /= scale
    # Behind the centre the sum is negative: not this side of the sphere.
    return least / scale, corner, total


@compiled()
def walk_all(
    vertices: np.ndarray,
    faces: np.ndarray,
    neighbours: np.ndarray,
    points: np.ndarray,
    found: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Walk for every point from the triangles in ``found``, which is overwritten."""
    for i in range(len(points)):
        found[i] = walk(
            vertices,
            faces,
            neighbours,
            points[i, 0],
            points[i, 1],
            points[i, 2],
            found[i],
            weights[i],
        )
