"""The map of a hemisphere to the sphere."""

import numpy as np
import pytest

from deepprep.surface.distortion import areal_expansion, count_folds, measure_distortion
from deepprep.surface.mesh import Mesh
from deepprep.surface.sphere import map_to_sphere
from deepprep.surface.unfold import follow, remove_folds
from deepprep.surface.vertex_hierarchy import build_hierarchy, neighbour_rings, restore
from tests.surface.shapes import ball, folded, rotation


def _random_surface(n_points: int, seed: int) -> Mesh:
    """Hull of random points, stretched and then scrambled: bad triangles, any valence."""
    from scipy.spatial import ConvexHull

    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n_points, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    hull = ConvexHull(points)
    faces = hull.simplices.copy()
    inward = np.linalg.det(points[faces]) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    return Mesh(points * rng.uniform(5, 60, (n_points, 1)) * [0.3, 2.0, 1.0], faces)


@pytest.mark.parametrize("seed", range(12))
def test_random_surfaces_have_no_folded_triangle(seed):
    surface = _random_surface([5, 6, 9, 20, 60, 150, 400, 1000][seed % 8], seed)
    sphere = map_to_sphere(surface)
    assert count_folds(sphere) == 0
    assert np.allclose(np.linalg.norm(sphere.vertices, axis=1), 100.0)
    # every direction is covered once: the areas of spherical triangles make one sphere
    a, b, c = (sphere.vertices[sphere.faces[:, k]] / 100 for k in range(3))
    triple = np.einsum("ij,ij->i", a, np.cross(b, c))
    angle = 2 * np.arctan2(triple, 1 + (a * b).sum(1) + (b * c).sum(1) + (c * a).sum(1))
    assert np.isclose(angle.sum(), 4 * np.pi)


def test_tetrahedron_maps_to_a_sphere_without_folds():
    corners = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    mesh = Mesh(corners, faces)
    mesh = mesh if mesh.enclosed_volume_mm3 > 0 else Mesh(corners, faces[:, [0, 2, 1]])
    assert count_folds(map_to_sphere(mesh)) == 0


def test_folded_surface_keeps_areas_and_angles_about():
    surface = folded(4, 1)
    sphere = map_to_sphere(surface)
    result = measure_distortion(surface, sphere)
    plain = measure_distortion(
        surface,
        surface.moved(100 * surface.vertices / np.linalg.norm(surface.vertices, axis=1)[:, None]),
    )
    assert result.folded == 0
    assert result.mean_areal < 0.5 * plain.mean_areal
    assert result.mean_areal < 0.4
    assert result.mean_angular_deg < 20


def test_sphere_stays_a_sphere():
    surface = ball(4, 40.0)
    result = measure_distortion(surface, map_to_sphere(surface))
    assert result.mean_areal < 0.05
    assert result.mean_angular_deg < 2.0


def test_sphere_lies_as_the_head_does():
    surface = folded(4, 5)
    turned = surface.moved(surface.vertices @ rotation((0.2, 1, 0.3), 20).T + [10, -20, 5])
    sphere = map_to_sphere(turned)
    centred = turned.vertices - turned.vertices.mean(axis=0)
    for axis in range(3):
        assert np.corrcoef(centred[:, axis], sphere.vertices[:, axis])[0, 1] > 0.7


def test_sphere_is_the_same_twice():
    surface = folded(3, 2)
    assert np.array_equal(map_to_sphere(surface).vertices, map_to_sphere(surface).vertices)


def test_hierarchy_is_undone_exactly():
    surface = folded(3, 3)
    ring, size = neighbour_rings(surface)
    hierarchy = build_hierarchy(surface, surface.vertex_areas)
    assert len(hierarchy.removed) == surface.n_vertices - 4
    back_ring, back_size = hierarchy.ring.copy(), hierarchy.size.copy()
    for v in hierarchy.removed[::-1]:
        restore(back_ring, back_size, v)
    assert np.array_equal(back_size, size)
    for v in range(surface.n_vertices):
        before, after = list(ring[v, : size[v]]), list(back_ring[v, : size[v]])
        turn = after.index(before[0])
        assert before == after[turn:] + after[:turn]


def test_area_is_handed_on_without_loss():
    surface = folded(3, 4)
    hierarchy = build_hierarchy(surface, surface.vertex_areas)
    assert np.isclose(hierarchy.areas[-1][hierarchy.last].sum(), surface.vertex_areas.sum())


def test_surface_with_a_border_is_refused():
    mesh = ball(2)
    with pytest.raises(ValueError, match="border"):
        map_to_sphere(Mesh(mesh.vertices, mesh.faces[1:]))


def test_surface_with_a_handle_is_refused():
    n = 12
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    u, v = 2 * np.pi * i / n, 2 * np.pi * j / n
    points = np.stack(
        [(3 + np.cos(v)) * np.cos(u), (3 + np.cos(v)) * np.sin(u), np.sin(v)], axis=-1
    )
    name = lambda a, b: ((a % n) * n + b % n).ravel()  # noqa: E731
    a, b, c, d = name(i, j), name(i + 1, j), name(i + 1, j + 1), name(i, j + 1)
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    with pytest.raises(ValueError, match="handles"):
        map_to_sphere(Mesh(points.reshape(-1, 3), faces))


def test_areal_distortion_of_a_known_stretch():
    sphere = ball(4)
    # twice as long along z: the areas double at the equator and stay at the poles
    result = measure_distortion(sphere.moved(sphere.vertices * [1, 1, 2.0]), sphere)
    centre = sphere.vertices[sphere.faces].mean(axis=1)
    equator, pole = np.abs(centre[:, 2]) < 5, np.abs(centre[:, 2]) > 98
    assert np.isclose(result.areal[pole].mean() - result.areal[equator].mean(), 1.0, atol=0.05)
    assert result.folded == 0


def test_areal_expansion_counts_doublings():
    sphere = ball(3)
    assert np.allclose(areal_expansion(sphere, sphere.moved(2 * sphere.vertices)), 2.0)


def test_a_turned_over_triangle_counts_as_a_fold_and_is_unfolded():
    sphere = ball(4)
    points = sphere.vertices.copy()
    vertex = 700
    neighbours = np.unique(sphere.faces[(sphere.faces == vertex).any(axis=1)])
    away = points[neighbours].mean(axis=0) - 3.0 * (
        points[neighbours[0]] - points[neighbours].mean(axis=0)
    )
    points[vertex] = 100 * away / np.linalg.norm(away)
    broken = sphere.moved(points)
    assert count_folds(broken) > 0
    repaired, count = remove_folds(broken)
    assert count == count_folds(broken)
    assert count_folds(repaired) == 0
    still = sphere.vertices @ sphere.vertices[vertex] < 0
    assert np.allclose(repaired.vertices[still], sphere.vertices[still])


def test_a_crumpled_patch_is_unfolded():
    sphere = ball(4)
    points = sphere.vertices.copy()
    patch = points[:, 2] > 90
    points[patch] += np.random.default_rng(0).normal(size=(patch.sum(), 3)) * 12
    points *= 100 / np.linalg.norm(points, axis=1, keepdims=True)
    broken = sphere.moved(points)
    assert count_folds(broken) > 20
    assert count_folds(remove_folds(broken)[0]) == 0


def test_sphere_without_folds_is_returned_as_it_is():
    sphere = ball(3)
    repaired, count = remove_folds(sphere)
    assert count == 0
    assert repaired is sphere


def test_following_a_folded_goal_goes_as_far_as_it_can():
    sphere = ball(4)
    goal = sphere.vertices @ rotation((0, 0, 1), 10).T
    goal[500] = -goal[500]
    out, held = follow(sphere, goal)
    assert count_folds(out) == 0
    assert 0 < held < 60
    assert (np.linalg.norm(out.vertices - goal, axis=1) < 1e-3).sum() == sphere.n_vertices - held


def test_following_a_goal_without_folds_arrives():
    sphere = ball(4)
    goal = sphere.vertices @ rotation((1, 0, 1), 70).T
    out, held = follow(sphere, goal)
    assert held == 0 and np.allclose(out.vertices, goal)
    with pytest.raises(ValueError, match="start"):
        follow(sphere.moved(-sphere.vertices), goal)
