"""Linear starts from centroids of structures: any pose, known answers."""

import numpy as np
import pytest

from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration.affine import register_affine
from deepprep.registration.centroids import (
    fit_affine,
    fit_rigid,
    matched_centroids,
    start_from_labels,
)
from deepprep.registration.label_channels import LabelPair
from tests.registration.heads import T1W, error_mm, grid, motion, paint

RNG = np.random.default_rng(3)
NUMBERS = (10, 11, 12, 13, 17, 18, 49, 50, 51, 52, 53, 54)


def structures(where, transform=None) -> Volume:
    """Twelve balls at fixed random places of the head."""
    points = where.points_ras().reshape(-1, 3)
    if transform is not None:
        points = transform.map_points(points)
    rng = np.random.default_rng(5)
    labels = np.zeros(len(points), np.uint8)
    for number in NUMBERS:
        centre = rng.uniform(-35, 35, 3)
        labels[np.linalg.norm(points - centre, axis=1) < 9] = number
    return Volume(labels.reshape(where.shape), where.affine)


def test_weighted_fits_recover_a_known_map_exactly():
    points = RNG.normal(size=(15, 3)) * 40
    weight = RNG.uniform(1, 3, 15)
    affine = motion((170, 60, -100), (50, -40, 10), scales=(1.1, 0.9, 1.2))
    np.testing.assert_allclose(
        fit_affine(points, affine.map_points(points), weight).matrix, affine.matrix, atol=1e-9
    )
    rigid = motion((170, 60, -100), (50, -40, 10))
    np.testing.assert_allclose(
        fit_rigid(points, rigid.map_points(points), weight).matrix, rigid.matrix, atol=1e-9
    )


def test_rigid_fit_never_mirrors():
    points = RNG.normal(size=(10, 3)) * 40
    found = fit_rigid(points, points * [-1, 1, 1], np.ones(10))
    assert np.linalg.det(found.matrix[:3, :3]) == pytest.approx(1)


def test_heavier_points_are_fitted_better():
    points = RNG.normal(size=(12, 3)) * 40
    noisy = points + RNG.normal(size=(12, 3))
    light, heavy = np.ones(12), np.ones(12)
    heavy[0] = 1000
    errors = [np.linalg.norm(fit_affine(points, noisy, w).map_points(points[:1]) - noisy[0])
              for w in (light, heavy)]  # fmt: skip
    assert errors[1] < 0.1 * errors[0]


def test_centroids_are_where_the_structures_are_on_any_lattice():
    plain = structures(grid(3.0))
    other = structures(grid(2.5, (1, 1.3, 1), (-1, 1, 1), turn_deg=20))
    own, theirs, weight = matched_centroids(LabelPair(plain, other))
    assert len(own) == len(NUMBERS)
    np.testing.assert_allclose(own, theirs, atol=0.6)
    assert (weight > 0).all()


@pytest.mark.parametrize("degrees", [(170, 0, 0), (0, 120, -30), (45, 45, 45)])
def test_any_pose_is_caught(degrees):
    truth = motion(degrees, (50, -20, 10))
    fixed, moving = paint(grid(), T1W), paint(grid(2.8), T1W, truth.inverse())
    # the head must lie in the moving field of view: shift the lattice with it
    affine = grid(2.8).affine.copy()
    affine[:3, 3] += [50, -20, 10]
    where = type(fixed.grid)(grid(2.8).shape, affine)
    moving = paint(where, T1W, truth.inverse())
    pair = LabelPair(structures(grid()), structures(where, truth.inverse()))
    assert error_mm(start_from_labels(pair, 12), truth).mean() < 2.5
    assert error_mm(register_affine(fixed, moving, labels=pair), truth).mean() < 0.5


def test_too_few_structures_give_no_start():
    one = structures(grid(6.0))
    few = one.like(np.where(one.data < 12, one.data, 0).astype(np.uint8))
    assert start_from_labels(LabelPair(few, few), 12) is None
    none = one.like(np.zeros_like(one.data))
    assert start_from_labels(LabelPair(none, one), 6) is None


@pytest.mark.parametrize("degrees", [(45, 0, 0), (0, -45, 0), (0, 0, 45)])
def test_half_right_angles_and_50_mm_are_caught_without_labels(degrees):
    truth = motion(degrees, (50, 0, 0))
    affine = grid(3.0).affine.copy()
    affine[:3, 3] += [50, 0, 0]
    where = type(grid())(grid(3.0).shape, affine)
    fixed, moving = paint(grid(), T1W), paint(where, T1W, truth.inverse())
    assert error_mm(register_affine(fixed, moving), truth).mean() < 0.5


def test_order_of_axes_in_the_file_does_not_matter():
    fixed = paint(grid(), T1W)
    moving = resample(fixed, grid(3.0, turn_deg=10), motion((4, 3, -6), (5, 2, 1)), "linear")
    reference = register_affine(fixed, moving)
    turned = moving.data.transpose(2, 0, 1)[:, ::-1]
    affine = moving.affine[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 1] * (turned.shape[1] - 1)
    affine[:3, 1] *= -1
    found = register_affine(fixed, Volume(np.ascontiguousarray(turned), affine))
    assert error_mm(found, reference).max() < 0.5
