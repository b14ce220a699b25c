"""Subjects on group meshes."""

import numpy as np
import pytest

from deepprep.data.surface_atlases import (
    atlas_sphere,
    fsaverage_on_fslr,
    fsaverage_sphere,
    fslr_cortex,
    fslr_sphere,
)
from deepprep.surface import group_spaces, unfold
from deepprep.surface.barycentric import locate
from deepprep.surface.distortion import count_folds
from deepprep.surface.group_spaces import (
    areas_on_group,
    jacobian,
    labels_on_group,
    metric_on_group,
    onto_other_space,
    surface_on_group,
)
from tests.surface.shapes import ball, smooth_field, warped


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_fsaverage_and_fslr_agree_on_where_the_32k_vertices_are(hemi):
    # the bundled 32k vertices are known in both spaces
    fsaverage = fsaverage_sphere(7)
    carried = locate(fsaverage, atlas_sphere(hemi).vertices).interpolate(
        fsaverage_on_fslr(hemi).vertices
    )
    carried *= 100 / np.linalg.norm(carried, axis=1, keepdims=True)
    distance = np.linalg.norm(carried - fslr_sphere(hemi, "32k").vertices, axis=1)
    assert np.median(distance) < 2.5
    other = fslr_sphere("rh" if hemi == "lh" else "lh", "32k").vertices
    assert np.median(np.linalg.norm(carried - other, axis=1)) > 50


def test_a_registered_sphere_is_carried_to_fslr_without_folds():
    registered = warped(ball(5), 1, 10.0)
    out = onto_other_space(registered, fsaverage_sphere(7), fsaverage_on_fslr("lh"))
    assert count_folds(out) == 0
    assert np.allclose(np.linalg.norm(out.vertices, axis=1), 100.0)
    # vertices of fsaverage themselves go where the bundle says
    same = onto_other_space(fsaverage_sphere(5), fsaverage_sphere(7), fsaverage_on_fslr("lh"))
    expected = fsaverage_on_fslr("lh").vertices[:10242]
    assert np.abs(same.vertices - expected).max() < 0.01


def test_folds_that_cannot_be_laid_out_are_walked_around(monkeypatch):
    def stuck(sphere):
        raise ValueError("128 triangles of the sphere stay folded")

    registered, whole = warped(ball(6), 1, 10.0), fsaverage_sphere(7)
    expected = onto_other_space(registered, whole, fsaverage_on_fslr("rh"))
    monkeypatch.setattr(unfold, "remove_folds", stuck)
    found = onto_other_space(registered, whole, fsaverage_on_fslr("rh"))
    assert count_folds(found) == 0
    distance = np.linalg.norm(found.vertices - expected.vertices, axis=1)
    assert np.quantile(distance, 0.99) < 0.5 and distance.max() < 5


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.4, -0.2, 0.9)])
def test_nearest_rotation_is_found(angles):
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", angles).as_matrix()
    points = ball(3).vertices
    noise = np.random.default_rng(0).normal(0, 0.5, points.shape)
    found = group_spaces.nearest_rotation(points, points @ turn.T + noise)
    assert np.allclose(found, turn, atol=2e-3)


def test_metrics_surfaces_labels_and_areas_keep_what_they_mean():
    registered, target = warped(ball(5), 2, 8.0), ball(4)
    white = registered.moved(registered.vertices * [0.6, 0.8, 0.7])
    thickness = 2.5 + 0.5 * smooth_field(registered.vertices / 100, 3, 2.0)
    on_target = surface_on_group(white, registered, target)
    assert np.abs(on_target.vertices - target.vertices * [0.6, 0.8, 0.7]).max() < 0.3
    out = metric_on_group(thickness, registered, target, white.vertex_areas, on_target.vertex_areas)
    expected = 2.5 + 0.5 * smooth_field(target.vertices / 100, 3, 2.0)
    assert np.abs(out - expected).mean() < 0.02
    mask = registered.vertices[:, 2] < 0
    masked = metric_on_group(
        np.where(mask, thickness, -99.0),
        registered,
        target,
        white.vertex_areas,
        on_target.vertex_areas,
        mask,
    )
    assert np.isnan(masked[target.vertices[:, 2] > 20]).all()
    assert np.nanmin(masked) > 0
    labels = np.where(registered.vertices[:, 1] > 0, 5, 9)
    carried = labels_on_group(labels, registered, target)
    assert (carried == np.where(target.vertices[:, 1] > 0, 5, 9)).mean() > 0.97
    areas = areas_on_group(white.vertex_areas, registered, target)
    assert np.isclose(areas.sum(), white.vertex_areas.sum())


def test_jacobian_is_one_for_a_sphere_and_sees_what_grows():
    sphere = ball(4)
    assert np.allclose(jacobian(sphere.moved(0.4 * sphere.vertices), sphere), 1.0)
    # the northern half is twice as far out on the white surface: it shrinks on the sphere
    north = sphere.vertices[:, 2] > 0
    white = sphere.moved(sphere.vertices * np.where(north, 2.0, 1.0)[:, None])
    out = jacobian(white, sphere)
    assert out[sphere.vertices[:, 2] > 30].max() < 1 < out[sphere.vertices[:, 2] < -30].min()


def test_91k_grayordinates_have_their_number_of_vertices():
    assert fslr_cortex("lh").sum() == 29696
    assert fslr_cortex("rh").sum() == 29716
