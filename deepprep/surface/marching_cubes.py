"""Isosurface with the topology of the digital object: closed and oriented for any input.

Object voxels are joined through faces, background voxels through faces and edges. Where two
opposite corners of a cube's face are inside and the other two outside, the inside ones are kept
apart, on both cubes of the face; each closed curve on a cube becomes one disc. So every edge of the
result belongs to exactly two triangles, and the surface of a digital ball
(:func:`deepprep.surface.topology.correct_topology`) is a sphere: Euler number 2.

References
----------
Han X, Xu C, Prince JL. A topology preserving level set method for geometric deformable models.
IEEE TPAMI 25:755-768, 2003 (connectivity-consistent marching cubes).
Lorensen WE, Cline HE. Marching cubes. SIGGRAPH 21:163-169, 1987.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np

from deepprep.image.compiled import compiled
from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh

NEAREST = 0.02
"""A vertex keeps at least this part of a lattice edge's length from both of its ends, so that
different vertices never coincide."""

MOST_TRIANGLES = 5
"""Triangles in one cube at most."""

_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
"""Corner number 4 i + 2 j + k."""


def marching_cubes(level: Volume) -> Mesh:
    """The surface where a level set is 0, between its negative inside and its positive outside.

    Parameters
    ----------
    level : Volume
        (X, Y, Z) floats, negative inside. An inside that reaches the border of the lattice is
        closed just outside of it.

    Returns
    -------
    Mesh
        World mm, normals to the outside also when the affine mirrors. Vertices lie on the edges of
        the lattice where the level, linear between its ends, is 0.

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    data = np.asarray(level.data, dtype=np.float32)
    if not np.isfinite(data).all():
        raise ValueError("the level set has values that are not finite")
    # just beyond the border everything is outside
    padded = np.pad(data, 1, constant_values=max(float(np.abs(data).max(initial=0)), 1.0))
    vertices, faces = _march_cubes(padded, *CUBES)
    mirrored = np.linalg.det(level.affine[:3, :3]) < 0
    if mirrored:
        faces = faces[:, ::-1]
    return Mesh(nib.affines.apply_affine(level.affine, vertices - 1.0), faces)


def _cube_edges() -> np.ndarray:
    """(12, 2): lower and upper corner of each edge; edge 4 a + n runs along axis a."""
    edges = []
    for axis in range(3):
        step = 4 >> axis
        edges += [(c, c + step) for c in range(8) if not c & step]
    return np.array(edges)


def _face_cycles() -> list[list[int]]:
    """Corners around each of the six faces, counter-clockwise seen from outside of the cube."""
    out = []
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):
            square = []
            for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = [0, 0, 0]
                corner[axis], corner[first], corner[second] = side, u, v
                square.append(4 * corner[0] + 2 * corner[1] + corner[2])
            out.append(square if side else square[::-1])
    return out


def _loops(case: int, edges: np.ndarray, cycles: list[list[int]]) -> list[list[int]]:
    """Closed curves of cube edges that the surface makes on a cube's faces.

    Seen from outside of the cube, going around a face counter-clockwise, the surface leaves the
    face where it comes from outside into the object: a segment joins each such edge with the next
    edge where the object ends, which cuts off the object's corners one by one.
    """
    number = {frozenset(pair): n for n, pair in enumerate(map(tuple, edges.tolist()))}
    following = {}
    for cycle in cycles:
        inside = [bool(case >> c & 1) for c in cycle]
        for i in range(4):
            if inside[i] or not inside[(i + 1) % 4]:
                continue
            j = (i + 1) % 4
            while inside[(j + 1) % 4]:
                j = (j + 1) % 4
            enters = number[frozenset((cycle[i], cycle[(i + 1) % 4]))]
            leaves = number[frozenset((cycle[j], cycle[(j + 1) % 4]))]
            following[enters] = leaves
    loops = []
    while following:
        start = min(following)
        loop, at = [start], following.pop(start)
        while at != start:
            loop.append(at)
            at = following.pop(at)
        loops.append(loop)
    return loops


def _triangulate(loop: list[int], edges: np.ndarray) -> list[list[int]]:
    """Triangles of a loop whose new edges are short and never lie on a face of the cube.

    An edge on a face could be made by the cube on its other side too, and four triangles would
    meet there.
    """
    corners = _CORNERS[edges]

    def span(a: int, b: int) -> float:
        ends = np.concatenate([corners[loop[a]], corners[loop[b]]])
        on_face = bool((ends == ends[0]).all(axis=0).any())
        apart = corners[loop[a]].mean(axis=0) - corners[loop[b]].mean(axis=0)
        return float((apart**2).sum()) + (1e3 if on_face else 0.0)

    # the cheapest triangulation of every part of the polygon, from short parts to long ones
    best: dict[tuple[int, int], tuple[float, list[list[int]]]] = {}
    n = len(loop)
    for width in range(1, n):
        for a in range(n - width):
            b = a + width
            if width == 1:
                best[a, b] = (0.0, [])
                continue
            options = []
            for c in range(a + 1, b):
                cost = best[a, c][0] + best[c, b][0]
                cost += (span(a, c) if c > a + 1 else 0.0) + (span(c, b) if b > c + 1 else 0.0)
                triangles = [*best[a, c][1], *best[c, b][1], [loop[a], loop[c], loop[b]]]
                options.append((cost, triangles))
            best[a, b] = min(options)
    return best[0, n - 1][1]


def _build_cubes() -> tuple[np.ndarray, np.ndarray]:
    edges, cycles = _cube_edges(), _face_cycles()
    counts = np.zeros(256, dtype=np.int64)
    triangles = np.zeros((256, MOST_TRIANGLES, 3), dtype=np.int64)
    for case in range(256):
        found = [t for loop in _loops(case, edges, cycles) for t in _triangulate(loop, edges)]
        counts[case] = len(found)
        triangles[case, : len(found)] = np.array(found).reshape(-1, 3)
    return counts, triangles


CUBES = _build_cubes()
"""Number of triangles, and their cube edges, for each set of inside corners (bit = corner)."""


@compiled()
def _march_cubes(
    level: np.ndarray, counts: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    nx, ny, nz = level.shape
    n_vertices, n_faces = 0, 0
    for i in range(nx - 1):
        for j in range(ny - 1):
            for k in range(nz - 1):
                here = level[i, j, k] < 0
                n_vertices += (
                    int(here != (level[i + 1, j, k] < 0))
                    + int(here != (level[i, j + 1, k] < 0))
                    + int(here != (level[i, j, k + 1] < 0))
                )
                n_faces += counts[_case(level, i, j, k)]
    vertices = np.empty((n_vertices, 3), dtype=np.float64)
    faces = np.empty((n_faces, 3), dtype=np.int32)
    # vertex on the edge from (i, j, k) along each axis; two planes of the lattice at a time
    number = np.full((2, ny, nz, 3), -1, dtype=np.int32)
    n_vertices, n_faces = 0, 0
    n_vertices = _vertices_of_plane(level, 0, number[0], vertices, n_vertices)
    for i in range(nx - 1):
        n_vertices = _vertices_of_plane(level, i + 1, number[(i + 1) % 2], vertices, n_vertices)
        for j in range(ny - 1):
            for k in range(nz - 1):
                case = _case(level, i, j, k)
                for t in range(counts[case]):
                    for corner in range(3):
                        edge = triangles[case, t, corner]
                        axis, place = edge // 4, edge % 4
                        # the other two coordinates of the edge, in the order of _cube_edges
                        high, low = place >> 1, place & 1
                        if axis == 0:
                            a, b, c = 0, high, low
                        elif axis == 1:
                            a, b, c = high, 0, low
                        else:
                            a, b, c = high, low, 0
                        faces[n_faces, corner] = number[(i + a) % 2, j + b, k + c, axis]
                    n_faces += 1
    return vertices, faces


@compiled()
def _case(level: np.ndarray, i: int, j: int, k: int) -> int:
    case = 0
    for corner in range(8):
        a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
        case |= int(level[i + a, j + b, k + c] < 0) << corner
    return case


@compiled()
def _vertices_of_plane(
    level: np.ndarray, i: int, number: np.ndarray, vertices: np.ndarray, n: int
) -> int:
    """Make the vertices on the edges that start in plane ``i``; the new number of vertices."""
    nx, ny, nz = level.shape
    for j in range(ny):
        for k in range(nz):
            one = level[i, j, k]
            for axis in range(3):
                a, b, c = i + (axis == 0), j + (axis == 1), k + (axis == 2)
                if a >= nx or b >= ny or c >= nz:
                    continue
                two = level[a, b, c]
                if (one < 0) == (two < 0):
                    continue
                part = float(one) / (float(one) - float(two))
                part = min(max(part, NEAREST), 1.0 - NEAREST)
                vertices[n, 0] = i + (part if axis == 0 else 0.0)
                vertices[n, 1] = j + (part if axis == 1 else 0.0)
                vertices[n, 2] = k + (part if axis == 2 else 0.0)
                number[j, k, axis] = n
                n += 1
    return n
