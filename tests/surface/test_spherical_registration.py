"""Registration of spheres by folding."""

from dataclasses import replace

import numpy as np
import pytest

from deepprep.data.surface_atlases import average_folding, fsaverage_sphere
from deepprep.surface.distortion import areal_expansion, count_folds
from deepprep.surface.spherical_registration import (
    FoldingTarget,
    Stage,
    register_sphere,
    smoothed,
    smoothing_steps,
    standardised,
)
from tests.surface.shapes import ball, rotation, warped

STAGES = (
    Stage(3, 10.0, 0.3, 0.0, 30, 1.0),
    Stage(4, 6.0, 0.3, 0.0, 30, 1.0),
    Stage(5, 3.5, 0.3, 0.1, 15, 1.0),
)


@pytest.fixture(scope="module")
def target() -> FoldingTarget:
    sulc, curv = average_folding("lh")
    levels = {level: fsaverage_sphere(level) for level in (3, 4, 5)}
    return FoldingTarget(sulc, curv, fsaverage_sphere(5), levels)


def _distance_mm(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    cosine = (first * second).sum(axis=1) / 1e4
    return 100 * np.arccos(np.clip(cosine, -1, 1))


def test_fsaverage_onto_itself_stays(target):
    result = register_sphere(target.sphere, target.sulc, target.curv, target, STAGES)
    assert _distance_mm(result.sphere.vertices, target.sphere.vertices).max() < 0.5
    assert count_folds(result.sphere) == 0
    assert result.correlation > 0.999


def test_a_rotation_is_undone(target):
    turned = target.sphere.moved(target.sphere.vertices @ rotation((1, 2, -1), 40).T)
    result = register_sphere(turned, target.sulc, target.curv, target, STAGES[:1])
    assert result.rigid_correlation > 0.98
    assert _distance_mm(result.sphere.vertices, target.sphere.vertices).max() < 3.0


def test_a_smooth_warp_is_undone(target):
    moved = warped(target.sphere, 3, 8.0)
    before = _distance_mm(moved.vertices, target.sphere.vertices)
    result = register_sphere(moved, target.sulc, target.curv, target, STAGES)
    after = _distance_mm(result.sphere.vertices, target.sphere.vertices)
    assert np.median(before) > 2.5
    assert np.median(after) < 1.0 and np.quantile(after, 0.95) < 2.5
    assert count_folds(result.sphere) == 0
    assert np.quantile(np.abs(areal_expansion(moved, result.sphere)), 0.95) < 1.0


def test_parcels_are_looked_up_where_folds_are_bent_less(target):
    moved = warped(target.sphere, 3, 8.0)
    grain = np.random.default_rng(0).normal(size=target.sphere.n_vertices)
    sulc = target.sulc + 0.5 * smoothed(grain[:, None], target.sphere, 2)[:, 0] * target.sulc.std()
    result = register_sphere(moved, sulc, target.curv, target, STAGES)
    after = _distance_mm(result.parcel_sphere.vertices, target.sphere.vertices)
    assert np.median(after) < 1.5
    bent, calm = (
        np.abs(areal_expansion(moved, sphere)).mean()
        for sphere in (result.sphere, result.parcel_sphere)
    )
    assert calm < 0.9 * bent
    # without a fine stage there is nothing to leave out
    broad = register_sphere(moved, sulc, target.curv, target, STAGES[:2])
    np.testing.assert_allclose(broad.parcel_sphere.vertices, broad.sphere.vertices)


def test_the_same_twice(target):
    moved = warped(target.sphere, 4, 6.0)
    first, second = (
        register_sphere(moved, target.sulc, target.curv, target, STAGES[:1]) for _ in range(2)
    )
    assert np.array_equal(first.sphere.vertices, second.sphere.vertices)


def test_the_left_is_not_the_right(target):
    sulc, curv = average_folding("rh")
    wrong = register_sphere(target.sphere, sulc, curv, target, STAGES[:1])
    right = register_sphere(target.sphere, target.sulc, target.curv, target, STAGES[:1])
    assert wrong.correlation < right.correlation - 0.1


def test_folded_spheres_and_bad_features_are_refused(target):
    sphere = target.sphere
    folded = sphere.vertices.copy()
    folded[0] *= -1
    with pytest.raises(ValueError, match="folded"):
        register_sphere(sphere.moved(folded), target.sulc, target.curv, target, STAGES[:1])
    with pytest.raises(ValueError, match="finite"):
        register_sphere(sphere, np.full(sphere.n_vertices, np.nan), target.curv, target)
    with pytest.raises(ValueError, match="constant"):
        register_sphere(sphere, target.sulc, np.zeros(sphere.n_vertices), target)
    with pytest.raises(ValueError, match="feature values"):
        register_sphere(sphere, target.sulc[:5], target.curv, target)


def test_features_are_standardised_whatever_their_unit():
    sphere = ball(4)
    values = np.random.default_rng(0).normal(size=sphere.n_vertices)
    values[7] = 500.0
    out = standardised(values, sphere)
    assert np.allclose(out, standardised(25.4 * values + 3.0, sphere))
    assert out.max() < 5 and abs(out.mean()) < 0.01 and abs(out.std() - 1) < 0.05


def test_smoothing_has_the_width_asked_for():
    grid = ball(5)
    point = np.zeros((grid.n_vertices, 1))
    point[3000] = 1.0
    out = smoothed(point, grid, smoothing_steps(grid, 12.0))[:, 0]
    distance = _distance_mm(grid.vertices, np.broadcast_to(grid.vertices[3000], (len(out), 3)))
    weights = out * grid.vertex_areas
    width = np.sqrt((weights * distance**2).sum() / weights.sum() / 2)
    assert np.isclose(width, 12.0, rtol=0.08)


def _bump(points: np.ndarray, towards: tuple[float, float, float]) -> np.ndarray:
    """Nearness to a place on the 100 mm sphere."""
    place = 100 * np.asarray(towards) / np.linalg.norm(towards)
    return np.exp(-np.linalg.norm(points - place, axis=1) / 20.0)


@pytest.fixture(scope="module")
def landmarked(target) -> FoldingTarget:
    return replace(target, landmarks=_bump(target.sphere.vertices, (0, 1, 0))[:, None])


def test_a_landmark_draws_its_place_along(target, landmarked):
    sphere = target.sphere
    turned = np.asarray((0, 1, 0)) @ rotation((0, 0, 1), 8).T
    own = _bump(sphere.vertices, tuple(turned))[:, None]
    at = int(np.argmax(own))
    goal = np.array([[0.0, 100.0, 0.0]])
    left, drawn = (
        register_sphere(sphere, target.sulc, target.curv, landmarked, STAGES, landmarks=marks)
        for marks in (None, own)
    )
    before = _distance_mm(left.sphere.vertices[[at]], goal)[0]
    after = _distance_mm(drawn.sphere.vertices[[at]], goal)[0]
    assert before > 12.0 and after < 0.6 * before
    assert count_folds(drawn.sphere) == 0
    far = sphere.vertices[:, 1] < 0
    assert np.median(_distance_mm(drawn.sphere.vertices, sphere.vertices)[far]) < 0.5


def test_landmarks_that_are_missing_are_left_out(target, landmarked):
    nothing = np.full((target.sphere.n_vertices, 1), np.nan)
    with_none, without = (
        register_sphere(target.sphere, target.sulc, target.curv, landmarked, STAGES[:1], marks)
        for marks in (nothing, None)
    )
    np.testing.assert_array_equal(with_none.sphere.vertices, without.sphere.vertices)


def test_landmarks_of_another_size_are_refused(target, landmarked):
    with pytest.raises(ValueError, match="landmarks of shape"):
        register_sphere(
            target.sphere, target.sulc, target.curv, landmarked, STAGES[:1], np.zeros((5, 1))
        )
