import numpy as np
import pytest

from deepprep.image.volume import Grid, Volume
from deepprep.surface.curvature import mean_and_gaussian_curvature, smoothed
from deepprep.surface.inflate import inflate, midthickness, smoothwm, without_hairs
from deepprep.surface.marching_cubes import marching_cubes
from deepprep.surface.measures import (
    distance_to_surface,
    grey_white_contrast,
    thickness,
    vertex_volumes,
    white_pial_crossings,
)
from deepprep.surface.mesh import Mesh
from deepprep.surface.scan_conversion import fill_fraction, fill_mesh


def _from_level(level, radius_mm: float = 30.0) -> Mesh:
    n = int(2 * radius_mm + 10)
    affine = np.eye(4)
    affine[:3, 3] = -n / 2 + 0.31
    points = Grid((n, n, n), affine).points_ras()
    return marching_cubes(Volume(level(points).astype(np.float32), affine))


def _sphere(radius_mm: float) -> Mesh:
    return _from_level(lambda p: np.linalg.norm(p, axis=-1) - radius_mm, radius_mm)


def _on_sphere(mesh: Mesh, radius_mm: float) -> Mesh:
    length = np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    return mesh.moved(mesh.vertices / length * radius_mm)


@pytest.fixture(scope="module")
def ball() -> Mesh:
    mesh = _on_sphere(_sphere(20.0), 20.0)
    for _ in range(5):
        # marching cubes leave slivers
        mesh = _on_sphere(smoothwm(mesh), 20.0)
    return mesh


def test_thickness_between_spheres_is_the_difference_of_radii(ball: Mesh) -> None:
    found = thickness(ball, _on_sphere(ball, 22.5))
    np.testing.assert_allclose(found, 2.5, atol=0.02)


def test_thickness_stops_at_five_mm(ball: Mesh) -> None:
    assert thickness(ball, _on_sphere(ball, 29.0)).max() == 5.0


def test_thickness_is_the_nearest_point_not_the_partner(ball: Mesh) -> None:
    turned = _on_sphere(ball, 22.0)
    a = 0.1
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turned = turned.moved(turned.vertices @ turn.T)
    np.testing.assert_allclose(thickness(ball, turned), 2.0, atol=0.03)


def test_distance_of_a_point_over_a_triangle() -> None:
    mesh = Mesh(np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]]), np.array([[0, 1, 2]]))
    points = np.array([[1.0, 1, 3], [-3, 0, 4], [2, 2, 0]])
    np.testing.assert_allclose(distance_to_surface(points, mesh, 3), [3, 5, 0], atol=1e-12)


def test_volume_between_spheres(ball: Mesh) -> None:
    outer = _on_sphere(ball, 22.5)
    exact = outer.enclosed_volume_mm3 - ball.enclosed_volume_mm3
    np.testing.assert_allclose(vertex_volumes(ball, outer).sum(), exact, rtol=1e-3)


def test_volume_of_a_slanted_prism_is_exact() -> None:
    faces = np.array([[0, 1, 2]])
    white = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), faces)
    pial = white.moved(white.vertices + [0.7, -0.2, 3.0])
    # base 0.5 mm^2, height 3 mm, a third to each corner
    np.testing.assert_allclose(vertex_volumes(white, pial), 0.5, atol=1e-12)


def test_curvature_of_a_sphere(ball: Mesh) -> None:
    mean, gaussian = mean_and_gaussian_curvature(ball)
    # convex is negative, as on FreeSurfer's gyri
    np.testing.assert_allclose(np.median(mean), -1 / 20, rtol=0.02)
    np.testing.assert_allclose(np.median(gaussian), 1 / 400, rtol=0.04)
    np.testing.assert_allclose(smoothed(ball, np.ones(ball.n_vertices)), 1.0)


def test_curvature_of_a_saddle_is_negative() -> None:
    x, y = np.meshgrid(np.arange(-5, 6.0), np.arange(-5, 6.0), indexing="ij")
    points = np.stack([x, y, 0.05 * (x**2 - y**2)], axis=-1).reshape(-1, 3)
    index = np.arange(121).reshape(11, 11)
    a, b, c, d = (q.ravel() for q in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))  # fmt: skip
    mesh = Mesh(points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))
    mean, gaussian = mean_and_gaussian_curvature(mesh)
    np.testing.assert_allclose(mean[60], 0.0, atol=1e-3)
    np.testing.assert_allclose(gaussian[60], -0.01, rtol=0.05)


def test_inflation_finds_sulci_and_gyri() -> None:
    def level(p: np.ndarray) -> np.ndarray:
        r = np.linalg.norm(p, axis=-1)
        return (
            r
            - 25.0
            - 2.5
            * np.cos(6 * np.arctan2(p[..., 1], p[..., 0]))
            * (1 - (p[..., 2] / np.maximum(r, 1)) ** 2)
        )

    mesh = _from_level(level)
    inflated, sulc = inflate(smoothwm(mesh))
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.median(sulc[radius < 23.5]) > 1.0
    assert np.median(sulc[radius > 26.5]) < -0.5
    np.testing.assert_allclose(
        inflated.face_areas.sum(), smoothwm(mesh).face_areas.sum(), rtol=1e-6
    )
    rounder = np.linalg.norm(inflated.vertices - inflated.vertices.mean(axis=0), axis=1)
    assert rounder.std() < 0.7 * radius.std()


def test_a_hair_is_taken_in(ball: Mesh) -> None:
    axis = np.array([0.6, 0.0, 0.8])
    radius = np.linalg.norm(ball.vertices, axis=1)
    angle = np.arccos(np.clip(ball.vertices @ axis / radius, -1, 1))
    hair = angle < 0.2
    out = (20.0 + 60.0 * (0.2 - angle[hair]))[:, None] * axis
    vertices = ball.vertices.copy()
    vertices[hair] = out + 0.02 * (vertices[hair] - (vertices[hair] @ axis)[:, None] * axis)
    pulled = ball.moved(vertices)
    assert np.linalg.norm(pulled.vertices, axis=1).max() > 30.0
    found = without_hairs(pulled, ball)
    assert np.linalg.norm(found.vertices, axis=1).max() < 20.2
    assert np.array_equal(found.vertices[angle > 0.7], ball.vertices[angle > 0.7])


def test_without_a_hair_nothing_moves(ball: Mesh) -> None:
    assert np.array_equal(without_hairs(ball, ball).vertices, ball.vertices)
    squeezed = ball.moved(0.1 * ball.vertices)
    assert np.array_equal(without_hairs(squeezed, ball).vertices, squeezed.vertices)


def test_midthickness_is_half_way(ball: Mesh) -> None:
    middle = midthickness(ball, _on_sphere(ball, 22.0))
    np.testing.assert_allclose(np.linalg.norm(middle.vertices, axis=1), 21.0)


def test_contrast_in_percent_of_the_mean(ball: Mesh) -> None:
    affine = np.eye(4)
    affine[:3, 3] = -30
    radius = np.linalg.norm(Grid((61, 61, 61), affine).points_ras(), axis=-1)
    image = Volume(np.where(radius < 20, 110.0, 80.0).astype(np.float32), affine)
    found = grey_white_contrast(image, ball, _on_sphere(ball, 24.0))
    np.testing.assert_allclose(np.median(found), 100 * 30 / 95, rtol=0.15)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        np.diag([-1.0, 1.0, 1.0]),
        np.diag([0.7, 1.0, 1.3]),
        np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0],
    ],
    ids=["RAS", "LAS", "anisotropic", "oblique"],
)
def test_filled_ball_has_the_volume_of_the_mesh(ball: Mesh, matrix: np.ndarray) -> None:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    n = (70, 70, 70)
    affine[:3, 3] = -matrix @ np.array([34.6, 34.2, 35.1])
    grid = Grid(n, affine)
    inside = fill_mesh(ball, grid)
    radius = np.linalg.norm(grid.points_ras(), axis=-1)
    assert inside[radius < 19.9].all() and not inside[radius > 20.0].any()
    volume = fill_fraction(ball, grid).sum() * grid.voxel_volume_mm3
    np.testing.assert_allclose(volume, ball.enclosed_volume_mm3, rtol=2e-3)


def test_vertices_on_lattice_lines_leave_no_leak() -> None:
    corners = np.array([[x, y, z] for x in (1.0, 5) for y in (1.0, 5) for z in (1.0, 5)])
    faces = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
                      [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip
    inside = fill_mesh(Mesh(corners, faces), Grid((8, 8, 8), np.eye(4)))
    assert inside[2:5, 2:5, 2:5].all()
    assert not inside[:1].any() and not inside[6:].any() and not inside[:, :, 6:].any()


def test_white_that_comes_through_pial_is_counted(ball: Mesh) -> None:
    white, pial = ball, _on_sphere(ball, 22.0)
    assert white_pial_crossings(white, pial) == 0
    through = pial.vertices.copy()
    through[0] *= 0.7
    assert 5 <= white_pial_crossings(white, white.moved(through)) <= 40
    # on the medial wall both are one surface
    assert white_pial_crossings(white, white) == 0
