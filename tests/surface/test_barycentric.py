"""Points on spheres of triangles and resampling between spheres."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.surface.barycentric import (
    adaptive_area_weights,
    locate,
    resample,
    resample_adaptive,
    resample_areas,
    resample_labels,
)
from deepprep.surface.icosphere import level_of
from deepprep.surface.mesh import Mesh
from tests.surface.shapes import ball, rotation, smooth_field, warped


def test_vertices_lie_at_themselves():
    sphere = warped(ball(4), 1, 10.0)
    found = locate(sphere, sphere.vertices)
    assert np.array_equal(found.nearest, np.arange(sphere.n_vertices))
    assert np.allclose(found.weights.max(axis=1), 1.0, atol=1e-6)


def test_points_are_the_weighted_corners():
    sphere = warped(ball(4), 2, 12.0)
    points = np.random.default_rng(0).normal(size=(5000, 3))
    found = locate(sphere, points)
    assert (found.weights >= 0).all() and np.allclose(found.weights.sum(axis=1), 1)
    back = found.interpolate(sphere.vertices)
    cosine = (back * points).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(points, axis=1)
    assert np.allclose(cosine, 1.0, atol=1e-12)


def test_a_wrong_first_triangle_does_not_matter():
    sphere = warped(ball(4), 3, 12.0)
    points = np.random.default_rng(1).normal(size=(500, 3))
    far = locate(sphere, points, np.zeros(500, dtype=np.int32))
    assert np.array_equal(far.faces, locate(sphere, points).faces)


def test_long_thin_triangles_are_found():
    sphere = ball(3)
    # vertices pulled to one pole: needles
    squeezed = sphere.vertices * [1, 1, 0.02] + [0, 0, 1.0]
    squeezed = sphere.moved(100 * squeezed / np.linalg.norm(squeezed, axis=1, keepdims=True))
    points = np.random.default_rng(2).normal(size=(2000, 3))
    found = locate(squeezed, points)
    back = found.interpolate(squeezed.vertices)
    cosine = (back * points).sum(1) / np.linalg.norm(back, axis=1) / np.linalg.norm(points, axis=1)
    assert np.allclose(cosine, 1.0, atol=1e-9)


@pytest.mark.parametrize("point", [[0.0, 0.0, 0.0], [np.nan, 0.0, 1.0]])
def test_points_without_a_direction_are_refused(point):
    with pytest.raises(ValueError, match="direction"):
        locate(ball(2), np.array([point]))


def test_resampling_to_the_same_sphere_changes_nothing():
    sphere = ball(4)
    values = np.random.default_rng(3).normal(size=(sphere.n_vertices, 2))
    assert np.allclose(resample(values, sphere, sphere), values, atol=1e-6)


def test_smooth_values_survive_another_sphere():
    fine, coarse = ball(5), ball(4).moved(ball(4).vertices @ rotation((1, 2, 3), 17).T)
    values = smooth_field(fine.vertices / 100, 4, 2.0)
    expected = smooth_field(coarse.vertices / 100, 4, 2.0)
    assert np.abs(resample(values, fine, coarse) - expected).max() < 0.02


def test_masked_resampling_uses_the_mask_only():
    fine, coarse = ball(4), ball(3)
    mask = fine.vertices[:, 2] > 0
    values = np.where(mask, 3.0, 1e6)
    out = resample(values, fine, coarse, mask=mask)
    assert np.isnan(out[coarse.vertices[:, 2] < -20]).all()
    assert np.allclose(out[np.isfinite(out)], 3.0)


def test_labels_stay_labels():
    fine, coarse = ball(5), ball(4).moved(ball(4).vertices @ rotation((1, 0, 0), 3).T)
    labels = np.where(fine.vertices[:, 0] > 0, 7, 4)
    out = resample_labels(labels, fine, coarse)
    assert set(out) == {4, 7}
    clear = np.abs(coarse.vertices[:, 0]) > 4
    assert np.array_equal(out[clear], np.where(coarse.vertices[:, 0] > 0, 7, 4)[clear])


def test_adaptive_weights_are_means_that_use_every_source_vertex():
    fine, coarse = warped(ball(5), 5, 8.0), ball(3)
    weights = adaptive_area_weights(fine, coarse, fine.vertex_areas, coarse.vertex_areas)
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert (np.asarray(weights.sum(axis=0)).ravel() > 0).all()
    assert np.allclose(resample_adaptive(np.full(fine.n_vertices, 2.5), weights), 2.5)


def test_adaptive_resampling_keeps_the_integral_better_than_interpolation():
    fine, coarse = warped(ball(5), 6, 8.0), ball(3)
    weights = adaptive_area_weights(fine, coarse, fine.vertex_areas, coarse.vertex_areas)
    noise = np.random.default_rng(7).normal(size=fine.n_vertices)
    truth = (noise * fine.vertex_areas).sum()

    def off(values: np.ndarray) -> float:
        return abs((values * coarse.vertex_areas).sum() - truth)

    assert off(resample_adaptive(noise, weights)) < off(resample(noise, fine, coarse))


def test_adaptive_resampling_to_a_finer_sphere_is_interpolation():
    coarse, fine = warped(ball(3), 8, 8.0), ball(5)
    weights = adaptive_area_weights(coarse, fine, coarse.vertex_areas, fine.vertex_areas)
    values = smooth_field(coarse.vertices / 100, 9, 1.0)
    assert np.abs(resample_adaptive(values, weights) - resample(values, coarse, fine)).max() < 0.05


def by_the_rule(source: Mesh, target: Mesh) -> np.ndarray:
    """ADAP_BARY_AREA, vertex by vertex: gather unless it adds nothing to plain interpolation."""
    ahead = locate(source, target.vertices).matrix.toarray()
    back = locate(target, source.vertices).matrix.toarray().T
    chosen = np.empty_like(ahead)
    for row, (plain, gathered) in enumerate(zip(ahead, back)):
        adds = set(np.flatnonzero(gathered)) - set(np.flatnonzero(plain))
        chosen[row] = gathered if adds else plain
    given = target.vertex_areas[:, None] * chosen
    given *= source.vertex_areas / given.sum(axis=0)
    return given / given.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("source", "target"), [(4, 3), (3, 4), (4, 4)])
def test_adaptive_weights_follow_workbenchs_rule(source: int, target: int):
    # about as many vertices on both: some gather, some interpolate, most could do either
    subject, group = warped(ball(source), 12, 14.0), ball(target)
    found = adaptive_area_weights(
        subject, group, subject.vertex_areas, group.vertex_areas
    ).toarray()
    assert np.abs(found - by_the_rule(subject, group)).max() < 1e-12


def test_areas_keep_their_total():
    fine, coarse = warped(ball(5), 10, 15.0), ball(3)
    areas = fine.vertex_areas * np.random.default_rng(11).uniform(0.5, 2, fine.n_vertices)
    assert np.isclose(resample_areas(areas, fine, coarse).sum(), areas.sum())


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="162 vertices"):
        resample(np.zeros(5), ball(2), ball(2))


def test_regular_spheres_are_closed_and_nested():
    for level in range(5):
        sphere = ball(level)
        assert level_of(sphere.n_vertices) == level
        assert sphere.is_closed and sphere.euler_number == 2 and sphere.enclosed_volume_mm3 > 0
        if level:
            n = ball(level - 1).n_vertices
            assert np.array_equal(sphere.vertices[:n], ball(level - 1).vertices)
    with pytest.raises(ValueError, match="subdivided"):
        level_of(32492)


@pytest.mark.shared
@pytest.mark.parametrize("level", [3, 4, 5, 6])
def test_our_spheres_are_numbered_as_freesurfers(level, shared_data):
    file = shared_data / f"sugar-atlas/fsaverage{level}.sphere"
    if not file.exists():
        pytest.skip(f"no {file}")
    vertices, faces = nib.freesurfer.read_geometry(file)
    ours = ball(level)
    assert np.abs(ours.vertices - vertices).max() < 0.01
    assert {tuple(sorted(f)) for f in faces} == {tuple(sorted(f)) for f in ours.faces}


def test_a_mesh_of_one_direction_only_answers_with_the_nearest_triangle():
    corners = np.array([[100.0, 0, 0], [0, 100, 0], [0, 0, 100]])
    one = Mesh(corners, np.array([[0, 1, 2]]))
    found = locate(one, np.array([[1.0, 1.0, -0.2]]))
    assert np.allclose(found.weights, [[0.5, 0.5, 0.0]])
