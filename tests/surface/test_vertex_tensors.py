"""Samplers and normals as tensors, against scipy and the compiled loops; placement by either."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from deepprep.image.volume import Grid, Volume
from deepprep.surface import vertex_tensors
from deepprep.surface.mesh import Mesh
from deepprep.surface.outward_field import OutwardField, OutwardVelocity
from deepprep.surface.pial_placement import PialLimits, place_pial
from deepprep.surface.profiles import falling_crossing, sample_profiles, spline_image
from deepprep.surface.vertex_tensors import (
    LinearSampler,
    SplineSampler,
    SurfaceTensors,
    spline_values,
)
from deepprep.surface.white_placement import place_white
from tests.surface.test_placement import _ball_in_fluid, ball

OBLIQUE = np.array([[-0.9, 0.2, 0, 12], [0.2, 1.1, 0.1, -9], [0, 0.1, 1.4, -11], [0, 0, 0, 1.0]])


@pytest.fixture
def by_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does, on the CPU: torch's operations in float32."""
    monkeypatch.setattr(vertex_tensors, "compiled_on", lambda device: False)


def image() -> Volume:
    data = np.random.default_rng(0).normal(size=(21, 18, 16)).astype(np.float32)
    return Volume(ndimage.gaussian_filter(data, 1.5), OBLIQUE)


def points_of(volume: Volume, n: int = 500, beyond: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    vox = rng.uniform(-beyond, np.array(volume.shape) - 1 + beyond, (n, 3))
    return vox @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def test_linear_values_are_scipys_also_beyond_the_border() -> None:
    volume = image()
    points = points_of(volume)
    vox = points @ volume.grid.ras2vox[:3, :3].T + volume.grid.ras2vox[:3, 3]
    known = ndimage.map_coordinates(volume.data, vox.T, order=1, mode="nearest")
    found = LinearSampler.of(volume)(torch.from_numpy(points))
    np.testing.assert_allclose(found, known, atol=1e-5)
    both = LinearSampler(np.stack([volume.data, -volume.data]), volume.grid.ras2vox)
    np.testing.assert_allclose(both(torch.from_numpy(points))[:, 1], -known, atol=1e-5)


def test_a_single_slice_is_sampled() -> None:
    flat = Volume(np.arange(12, dtype=np.float32).reshape(3, 4, 1), np.eye(4))
    found = LinearSampler.of(flat)(torch.tensor([[1.0, 2.0, 0.0], [0.5, 0.0, 5.0]]))
    np.testing.assert_allclose(found, [6, 2], atol=1e-5)


def test_spline_values_are_those_of_the_compiled_loop() -> None:
    spline = spline_image(image(), points_of(image()), 0.0)
    rng = np.random.default_rng(2)
    vox = rng.uniform(-3, np.array(spline.coefficients.shape) + 2, (400, 3))
    to_ras = np.linalg.inv(spline.ras2vox)
    known = sample_profiles(
        spline, vox @ to_ras[:3, :3].T + to_ras[:3, 3], np.zeros_like(vox), np.zeros(1)
    )[:, 0]
    found = spline_values(torch.from_numpy(spline.coefficients), torch.from_numpy(vox))
    np.testing.assert_allclose(found, known, atol=1e-5)


def test_profiles_by_tensors_are_those_of_the_compiled_loop(by_tensors: None) -> None:
    points = points_of(image(), beyond=-3.0)
    spline = spline_image(image(), points)
    directions = np.random.default_rng(3).normal(size=points.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    at = np.linspace(-2, 1, 7)
    found = SplineSampler(spline).profiles(
        torch.from_numpy(points), torch.from_numpy(directions), at
    )
    np.testing.assert_allclose(found, sample_profiles(spline, points, directions, at), atol=1e-5)


def test_normals_by_tensors_are_those_of_the_mesh(by_tensors: None) -> None:
    mesh = ball(3, 20.0)
    bent = mesh.moved(mesh.vertices * [1.0, 0.7, 1.3])
    found = SurfaceTensors(mesh).normals(torch.from_numpy(bent.vertices).float())
    np.testing.assert_allclose(found, bent.vertex_normals, atol=1e-5)


def test_velocity_is_the_mean_of_what_is_known_and_nothing_outside() -> None:
    direction = np.zeros((6, 6, 6, 3), np.float32)
    direction[..., 0] = 3.0
    direction[:3] = np.nan
    direction[5] = (0.0, 0.4, 0.0)
    grid = Grid((6, 6, 6), np.diag([0.5, 0.5, 0.5, 1.0]))
    velocity = OutwardVelocity(OutwardField(direction, grid))
    at = torch.tensor([[1.25, 1.0, 1.0], [2.49, 1.0, 1.0], [0.2, 1, 1], [1.75, 1, 2.6], [-1, 1, 1]])
    found = velocity(at).numpy()
    np.testing.assert_allclose(found[0], [1.2, 0, 0], atol=1e-5)  # beside buried points
    np.testing.assert_allclose(found[1], [0.06, 0.392, 0], atol=1e-3)
    np.testing.assert_array_equal(found[2:], 0)


def test_the_fall_nearest_to_the_surface_is_found() -> None:
    at = np.arange(-2.0, 3.0)
    profiles = torch.tensor([
        [9.0, 5, 1, 1, 1], [9, 1, 9, 1, 1], [1, 1, 1, 1, 1], [1, 3, 5, 7, 9],
    ])  # fmt: skip
    place, slope, found = falling_crossing(profiles, at, torch.full((4,), 4.0))
    np.testing.assert_allclose(place, [-0.75, 0.625, 0, 0])
    np.testing.assert_allclose(slope, [-4, -8, 0, 0])
    assert found.tolist() == [True, True, False, False]


def test_placement_by_tensors_is_that_of_the_compiled_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = _ball_in_fluid(8.0)
    limits = PialLimits(
        volume.like(np.full(volume.shape, 30.0)), volume.like(np.full(volume.shape, 3.0))
    )
    first = ball(4, 20.4)
    free = first.vertices[:, 2] > -15
    results: list[list[Mesh]] = []
    for compiled in (True, False):
        monkeypatch.setattr(vertex_tensors, "compiled_on", lambda device, c=compiled: c)
        white = place_white(first, volume, free)
        results.append([white, place_pial(white, volume, limits, free)])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours.vertices, theirs.vertices, atol=2e-3)
        np.testing.assert_array_equal(ours.vertices[~free], theirs.vertices[~free])
    radius = np.linalg.norm(results[1][1].vertices[free & (first.vertices[:, 2] > -10)], axis=1)
    assert abs(radius.mean() - 22.5) < 0.1
