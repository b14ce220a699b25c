"""Triangle meshes of a hemisphere and what follows from their triangles alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from deepprep.image.compiled import compiled


@dataclass(frozen=True)
class Mesh:
    """Triangles in the world.

    Parameters
    ----------
    vertices : (V, 3) float64 array
        Positions, scanner RAS+ mm (spheres: mm about the centre of the sphere).
    faces : (F, 3) int32 array
        Vertex indices, counter-clockwise seen from outside: normals point out.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        vertices = np.ascontiguousarray(self.vertices, dtype=np.float64)
        faces = np.ascontiguousarray(self.faces, dtype=np.int32)
        if vertices.ndim != 2 or vertices.shape[1] != 3:
            raise ValueError(f"vertices are (V, 3), this array is {vertices.shape}")
        if faces.ndim != 2 or faces.shape[1] != 3:
            raise ValueError(f"faces are (F, 3), this array is {faces.shape}")
        if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise ValueError("a face names a vertex that does not exist")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces)

    @property
    def n_vertices(self) -> int:
        """Number of vertices."""
        return len(self.vertices)

    @property
    def n_faces(self) -> int:
        """Number of triangles."""
        return len(self.faces)

    def moved(self, vertices: np.ndarray) -> Mesh:
        """The same triangles at other positions."""
        return Mesh(vertices, self.faces)

    @cached_property
    def edges(self) -> np.ndarray:
        """(E, 2) int32: each edge once, lower vertex index first, sorted."""
        pairs = np.concatenate(
            [self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]
        )
        keys = np.sort(pairs, axis=1).astype(np.int64)
        unique = np.unique(keys[:, 0] * max(self.n_vertices, 1) + keys[:, 1])
        return np.stack(np.divmod(unique, max(self.n_vertices, 1)), axis=1).astype(np.int32)

    @cached_property
    def adjacency(self) -> sparse.csr_matrix:
        """(V, V) symmetric matrix with 1 where two vertices share an edge."""
        first, second = self.edges.T
        rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
        ones = np.ones(len(rows), dtype=np.float64)
        return sparse.csr_matrix((ones, (rows, columns)), shape=(self.n_vertices,) * 2)

    @property
    def euler_number(self) -> int:
        """V - E + F: 2 for one closed surface without handles."""
        return self.n_vertices - len(self.edges) + self.n_faces

    @property
    def is_closed(self) -> bool:
        """Whether every edge has exactly two triangles, in opposite directions."""
        pairs = np.concatenate(
            [self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]
        )
        keys = pairs.astype(np.int64) @ np.array([self.n_vertices, 1])
        back = pairs[:, ::-1].astype(np.int64) @ np.array([self.n_vertices, 1])
        forward = np.sort(keys)
        once = len(forward) == 0 or bool((np.diff(forward) > 0).all())
        return once and bool(np.array_equal(forward, np.sort(back)))

    @cached_property
    def face_vectors(self) -> np.ndarray:
        """(F, 3) outward normals, as long as twice the area of the triangle (mm^2)."""
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        return np.cross(b - a, c - a)

    @cached_property
    def face_areas(self) -> np.ndarray:
        """(F,) areas, mm^2."""
        return 0.5 * np.linalg.norm(self.face_vectors, axis=1)

    @cached_property
    def vertex_areas(self) -> np.ndarray:
        """(V,) a third of the area of the triangles around each vertex, mm^2."""
        out = np.zeros(self.n_vertices)
        for k in range(3):
            out += np.bincount(self.faces[:, k], self.face_areas, self.n_vertices)
        return out / 3.0

    @cached_property
    def vertex_normals(self) -> np.ndarray:
        """(V, 3) outward unit normals, weighted by area."""
        return vertex_normals(self.vertices, self.faces)

    @property
    def area_mm2(self) -> float:
        """Area of all triangles, mm^2."""
        return float(_area(self.vertices, self.faces))

    @property
    def enclosed_volume_mm3(self) -> float:
        """Volume inside a closed mesh, mm^3; positive where normals point out."""
        return float((self.vertices[self.faces[:, 0]] * self.face_vectors).sum() / 6.0)


@compiled(nogil=True)
def _doubled_area(vertices: np.ndarray, face: np.ndarray) -> tuple[float, float, float]:
    """Normal of a triangle, twice as long as its area."""
    i, j, k = face[0], face[1], face[2]
    ux = vertices[j, 0] - vertices[i, 0]
    uy = vertices[j, 1] - vertices[i, 1]
    uz = vertices[j, 2] - vertices[i, 2]
    vx = vertices[k, 0] - vertices[i, 0]
    vy = vertices[k, 1] - vertices[i, 1]
    vz = vertices[k, 2] - vertices[i, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@compiled(nogil=True)
def _area(vertices: np.ndarray, faces: np.ndarray) -> float:
    total = 0.0
    for f in range(len(faces)):
        x, y, z = _doubled_area(vertices, faces[f])
        total += 0.5 * np.sqrt(x * x + y * y + z * z)
    return total


@compiled(nogil=True)
def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals of (V, 3) vertices, weighted by the area of the (F, 3) faces around them."""
    out = np.zeros((len(vertices), 3))
    for f in range(len(faces)):
        x, y, z = _doubled_area(vertices, faces[f])
        for v in faces[f]:
            out[v, 0] += x
            out[v, 1] += y
            out[v, 2] += z
    for v in range(len(out)):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if length > 0:
            for a in range(3):
                out[v, a] /= length
    return out


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles of several meshes in one, vertices in the order of the meshes."""
    if not meshes:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32))
    first = np.cumsum([0, *(m.n_vertices for m in meshes[:-1])])
    faces = [m.faces + start for m, start in zip(meshes, first)]
    return Mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces))
