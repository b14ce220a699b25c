"""Triangle meshes: topology, areas, normals."""

import numpy as np
import pytest

from deepprep.surface.mesh import Mesh, joined
from tests.surface.shapes import folded

TETRAHEDRON = Mesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def test_tetrahedron_has_six_edges_and_euler_number_two() -> None:
    assert len(TETRAHEDRON.edges) == 6
    assert TETRAHEDRON.euler_number == 2
    assert TETRAHEDRON.is_closed


def test_volume_is_positive_where_normals_point_out() -> None:
    assert TETRAHEDRON.enclosed_volume_mm3 == pytest.approx(1 / 6)
    inverted = Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:, ::-1])
    assert inverted.enclosed_volume_mm3 == pytest.approx(-1 / 6)


def test_areas_add_up() -> None:
    assert TETRAHEDRON.face_areas.sum() == pytest.approx(1.5 + np.sqrt(3) / 2)
    assert TETRAHEDRON.vertex_areas.sum() == pytest.approx(TETRAHEDRON.face_areas.sum())


def test_normals_point_away_from_the_middle() -> None:
    outward = TETRAHEDRON.vertices - TETRAHEDRON.vertices.mean(axis=0)
    assert ((TETRAHEDRON.vertex_normals * outward).sum(axis=1) > 0).all()


def test_open_or_inconsistently_oriented_mesh_is_not_closed() -> None:
    assert not Mesh(TETRAHEDRON.vertices, TETRAHEDRON.faces[:3]).is_closed
    faces = TETRAHEDRON.faces.copy()
    faces[0] = faces[0, ::-1]
    assert not Mesh(TETRAHEDRON.vertices, faces).is_closed


def test_adjacency_is_symmetric() -> None:
    assert (TETRAHEDRON.adjacency.toarray() == 1 - np.eye(4)).all()


def test_wrong_shapes_and_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="vertices are"):
        Mesh(np.zeros((4, 2)), TETRAHEDRON.faces)
    with pytest.raises(ValueError, match="does not exist"):
        Mesh(TETRAHEDRON.vertices[:3], TETRAHEDRON.faces)


def test_joined_meshes_keep_their_triangles() -> None:
    both = joined([TETRAHEDRON, TETRAHEDRON.moved(TETRAHEDRON.vertices + 5)])
    assert both.euler_number == 4
    assert both.enclosed_volume_mm3 == pytest.approx(2 / 6)
    assert joined([]).n_faces == 0


def test_area_and_normals_are_those_of_the_triangles() -> None:
    mesh = folded(3, seed=5)
    assert mesh.area_mm2 == pytest.approx(mesh.face_areas.sum(), rel=1e-12)
    total = np.zeros((mesh.n_vertices, 3))
    for k in range(3):
        np.add.at(total, mesh.faces[:, k], mesh.face_vectors)
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.vertex_normals, total, atol=1e-12)
