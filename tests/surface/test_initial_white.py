"""First white surfaces of rendered hemispheres, against the surface they were rendered from."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from benchmarks.surface_phantom import SHAPES, FoldedHemisphere, as_right, render
from deepprep.image.volume import Grid, Volume
from deepprep.surface.initial_white import initial_white
from deepprep.surface.self_intersection import count_self_intersections

TURNED = np.array([[-0.98, 0.1, -0.17, 40], [-0.12, -0.99, 0.1, 45], [-0.16, 0.12, 0.98, -44], [0, 0, 0, 1.0]])  # fmt: skip
TURNED[:3, :3] /= np.linalg.norm(TURNED[:3, :3], axis=0)


@cache
def left_half() -> FoldedHemisphere:
    return replace(SHAPES["gentle"], radius_mm=17.0, centre_ras=(-27.0, 0.0, 0.0))


@cache
def right_half() -> FoldedHemisphere:
    return as_right(replace(SHAPES["gentle"], radius_mm=15.0, centre_ras=(27.0, 3.0, 0.0)))


@pytest.fixture(scope="module")
def both():
    phantom = render([left_half(), right_half()], zoom_mm=1.0, bias=0.05)
    return initial_white(phantom.labels, phantom.image, phantom.white.data)


def test_each_side_is_one_sphere_at_the_true_surface(both) -> None:
    for side, truth in (("left", left_half()), ("right", right_half())):
        mesh = both[side].mesh
        assert mesh.euler_number == 2 and mesh.is_closed and mesh.enclosed_volume_mm3 > 0
        assert count_self_intersections(mesh) == 0
        error = truth.white_distance(mesh.vertices)
        assert abs(error.mean()) < 0.05
        assert np.abs(error).mean() < 0.15
        assert np.percentile(np.abs(error), 95) < 0.4


def test_level_is_negative_inside_and_the_mesh_is_where_it_is_zero(both) -> None:
    surface = both["left"]
    ijk = np.rint(surface.level.grid.ras2vox @ [*left_half().centre_ras, 1])[:3].astype(int)
    assert surface.level.data[tuple(ijk)] < 0
    assert surface.level.data[0, 0, 0] > 0
    assert surface.report.inside_voxels == (surface.level.data < 0).sum()


@pytest.mark.parametrize("mirrored", [False, True])
def test_any_orientation_gives_the_surface_in_the_world(mirrored: bool) -> None:
    affine = TURNED.copy()
    if mirrored:
        affine[:, 0] *= -1
        affine[:3, 3] = 0
        affine[:3, 3] = -affine[:3, :3] @ [31, 31, 31]
        affine[:3, 3] += left_half().centre_ras
    else:
        affine[:3, 3] = np.array(left_half().centre_ras) - affine[:3, :3] @ [31, 31, 31]
    phantom = render([left_half()], grid=Grid((63, 63, 63), affine))
    surface = initial_white(phantom.labels, phantom.image, sides=["left"])["left"]
    error = left_half().white_distance(surface.mesh.vertices)
    assert surface.mesh.enclosed_volume_mm3 > 0
    assert abs(error.mean()) < 0.06 and np.abs(error).mean() < 0.18


def test_labels_alone_give_a_surface_within_half_a_voxel() -> None:
    phantom = render([left_half()], noise=0.0)
    surface = initial_white(phantom.labels, sides=["left"])["left"]
    error = left_half().white_distance(surface.mesh.vertices)
    assert surface.mesh.euler_number == 2
    assert abs(error.mean()) < 0.1 and np.abs(error).mean() < 0.3


def test_other_lattices_and_wrong_contrast_are_refused() -> None:
    phantom = render([left_half()], zoom_mm=2.0)
    moved = Volume(phantom.image.data, phantom.image.affine + np.eye(4, k=3))
    with pytest.raises(ValueError, match="same lattice"):
        initial_white(phantom.labels, moved)
    inverted = phantom.image.like(200 - phantom.image.data)
    with pytest.raises(ValueError, match="not brighter than cortex"):
        initial_white(phantom.labels, inverted, sides=["left"])
