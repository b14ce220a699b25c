"""Plane cuts of meshes."""

import numpy as np
import pytest

from deepprep.surface.mesh import Mesh
from deepprep.surface.plane_cut import cut_by_plane

TETRAHEDRON = Mesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
)


def test_half_way_up_a_tetrahedron_the_cut_is_a_triangle_of_half_the_size():
    lines = cut_by_plane(TETRAHEDRON, 2, 0.5)
    assert len(lines) == 3
    assert lines[..., 2] == pytest.approx(0.5)
    lengths = sorted(np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1))
    assert lengths == pytest.approx([0.5, 0.5, np.sqrt(0.5)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_cut_is_closed_also_through_vertices(axis):
    lines = cut_by_plane(TETRAHEDRON, axis, 0.0)
    ends = np.round(lines.reshape(-1, 3), 9)
    _, counts = np.unique(ends, axis=0, return_counts=True)
    assert (counts % 2 == 0).all()


def test_a_plane_beside_the_mesh_cuts_nothing():
    assert cut_by_plane(TETRAHEDRON, 0, 2.0).shape == (0, 2, 3)
    assert cut_by_plane(TETRAHEDRON, 0, -0.1).shape == (0, 2, 3)
