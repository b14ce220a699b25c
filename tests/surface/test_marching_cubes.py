"""Isosurfaces: closed and oriented for anything, spheres for balls, exact for planes."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.surface.marching_cubes import CUBES, marching_cubes
from deepprep.surface.self_intersection import count_self_intersections
from deepprep.surface.topology import correct_topology


def sphere_level(shape: tuple[int, int, int], affine: np.ndarray, radius: float) -> Volume:
    ijk = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    points = nib.affines.apply_affine(affine, ijk)
    centre = nib.affines.apply_affine(affine, (np.array(shape) - 1) / 2)
    return Volume(np.linalg.norm(points - centre, axis=-1) - radius, affine)


OBLIQUE = np.array(
    [[0.8, -0.3, 0.1, -20], [0.25, 1.1, 0.2, 10], [-0.1, -0.2, 1.3, 5], [0, 0, 0, 1]]
)


@pytest.mark.parametrize(
    "affine",
    [np.eye(4), np.diag([-1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1]), OBLIQUE, OBLIQUE * [[-1], [1], [1], [1]]],
)  # fmt: skip
def test_sphere_is_one_closed_outward_surface_where_it_should_be(affine: np.ndarray) -> None:
    level = sphere_level((31, 27, 25), affine, 8.3)
    mesh = marching_cubes(level)
    assert mesh.euler_number == 2
    assert mesh.is_closed
    assert mesh.enclosed_volume_mm3 == pytest.approx(4 / 3 * np.pi * 8.3**3, rel=0.02)
    centre = nib.affines.apply_affine(affine, (np.array(level.shape) - 1) / 2)
    radius = np.linalg.norm(mesh.vertices - centre, axis=1)
    assert radius.min() > 8.25 and radius.max() < 8.33


def test_a_plane_is_met_exactly() -> None:
    data = np.broadcast_to(np.arange(6.0)[:, None, None] - 2.37, (6, 5, 5))
    mesh = marching_cubes(Volume(data, np.eye(4)))
    inner = mesh.vertices[(mesh.vertices[:, 1:] >= 0).all(1) & (mesh.vertices[:, 1:] <= 4).all(1)]
    crossing = inner[inner[:, 0] > 0.5]
    np.testing.assert_allclose(crossing[:, 0], 2.37, atol=1e-6)
    assert mesh.vertices[:, 0].max() == pytest.approx(2.37, abs=1e-6)


def test_every_cube_has_discs_that_use_each_crossed_edge_once_for_two_segments() -> None:
    counts, triangles = CUBES
    assert counts[0] == counts[255] == 0
    assert counts[1] == 1 and counts[0b00001111] == 2
    # opposite corners of the object on a face, and of the cube, stay apart
    assert counts[0b00001001] == 2 and counts[0b10000001] == 2
    assert (counts <= triangles.shape[1]).all()


def test_corners_that_touch_by_an_edge_are_two_surfaces() -> None:
    data = np.ones((4, 4, 4))
    data[1, 1, 1] = data[1, 2, 2] = -1
    assert marching_cubes(Volume(data, np.eye(4))).euler_number == 4
    # the background is joined through edges: the same, inside out, is one surface
    assert marching_cubes(Volume(np.pad(-data, 1, constant_values=1), np.eye(4))).euler_number == 4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1.5), st.floats(-1, 1))
def test_any_noise_gives_a_closed_surface_and_a_sphere_after_correction(
    seed: int, smoothing: float, shift: float
) -> None:
    noise = np.random.default_rng(seed).normal(size=(11, 12, 10))
    noise = ndimage.gaussian_filter(noise, smoothing)
    noise = noise / noise.std() + shift
    raw = marching_cubes(Volume(noise, np.eye(4)))
    assert raw.is_closed
    if noise.min() < 0:
        mesh = marching_cubes(Volume(correct_topology(noise)[0], OBLIQUE))
        assert mesh.is_closed
        assert mesh.euler_number == 2
        assert mesh.enclosed_volume_mm3 > 0
        assert count_self_intersections(mesh) == 0


def test_nothing_inside_is_an_empty_mesh_and_nan_is_refused() -> None:
    assert marching_cubes(Volume(np.ones((3, 3, 3)), np.eye(4))).n_vertices == 0
    with pytest.raises(ValueError, match="not finite"):
        marching_cubes(Volume(np.full((3, 3, 3), np.nan), np.eye(4)))
