"""Barycentres, weighted least squares and matrix roots against independent float64 arithmetic."""

import numpy as np
import scipy.linalg
import torch
from scipy import ndimage

from deepprep.registration.synthmorph.geometry import (
    barycentres,
    invert,
    matrix_root,
    rigid_part,
    square,
    symmetric_affine,
    weighted_affine,
)

RNG = np.random.default_rng(0)


def near_identity(n=2, size=0.1):
    matrix = np.eye(3, 4) + RNG.normal(scale=size, size=(n, 3, 4))
    matrix[:, :, 3] *= 100
    return matrix


def test_barycentres_are_centres_of_mass_in_full_voxels():
    features = RNG.uniform(size=(2, 3, 6, 8, 10)) ** 4
    centres, power = barycentres(torch.from_numpy(features), (96, 128, 160))
    for b in range(2):
        for c in range(3):
            middle = np.array(ndimage.center_of_mass(features[b, c]))
            expected = (middle - (np.array([6, 8, 10]) - 1) / 2) / [6, 8, 10] * [96, 128, 160]
            np.testing.assert_allclose(centres[b, c], expected, atol=1e-3)
        share = features[b].sum((1, 2, 3)) / features[b].sum()
        np.testing.assert_allclose(power[b], share, atol=1e-7)


def test_empty_map_has_no_power_and_a_finite_centre():
    features = torch.zeros(1, 2, 4, 4, 4)
    features[0, 0, 3, 0, 0] = 1
    centres, power = barycentres(features, (64, 64, 64))
    np.testing.assert_allclose(centres[0, 0], [24, -24, -24], atol=1e-3)
    assert torch.isfinite(centres).all()
    np.testing.assert_allclose(power[0], [1, 0], atol=1e-5)


def test_weighted_fit_is_the_solution_of_numpy():
    source, target = RNG.normal(scale=40, size=(2, 2, 20, 3))
    weight = RNG.uniform(0.1, 2, size=(2, 20))
    found = weighted_affine(*(torch.from_numpy(x) for x in (source, target, weight)))
    for b in range(2):
        root = np.sqrt(weight[b])[:, None]
        design = np.c_[source[b], np.ones(20)]
        expected = np.linalg.lstsq(design * root, target[b] * root, rcond=None)[0].T
        np.testing.assert_allclose(found[b], expected, rtol=1e-8, atol=1e-8)


def test_symmetric_fit_is_exact_on_exact_points_and_averages_both_ways_on_others():
    truth = near_identity()
    source = RNG.normal(scale=40, size=(2, 20, 3))
    target = np.einsum("bij,bnj->bni", truth[:, :, :3], source) + truth[:, None, :, 3]
    weight = torch.from_numpy(RNG.uniform(0.1, 2, size=(2, 20)))
    found = symmetric_affine(torch.from_numpy(source), torch.from_numpy(target), weight)
    np.testing.assert_allclose(found, truth, atol=1e-8)
    noisy = torch.from_numpy(target + RNG.normal(scale=3, size=target.shape))
    first = torch.from_numpy(source)
    found = symmetric_affine(first, noisy, weight)
    there, back = weighted_affine(first, noisy, weight), weighted_affine(noisy, first, weight)
    expected = (square(there).numpy() + np.linalg.inv(square(back).numpy())) / 2
    np.testing.assert_allclose(found, expected[:, :3], atol=1e-10)


def test_inverse_and_root():
    matrix = torch.from_numpy(near_identity())
    np.testing.assert_allclose(
        square(matrix) @ square(invert(matrix)), np.eye(4)[None].repeat(2, 0), atol=1e-10
    )
    root = matrix_root(square(matrix))
    for own, whole in zip(root, square(matrix)):
        np.testing.assert_allclose(own, scipy.linalg.sqrtm(whole.numpy()).real, atol=1e-8)


def test_rigid_part_drops_scale_and_shear():
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", [20, -10, 35], degrees=True).as_matrix()
    upper = np.array([[1.2, 0.1, -0.05], [0, 0.9, 0.08], [0, 0, 1.1]])
    matrix = torch.from_numpy(np.c_[turn @ upper, [5.0, -3, 2]])[None]
    np.testing.assert_allclose(rigid_part(matrix)[0, :, :3], turn, atol=1e-10)
    np.testing.assert_allclose(rigid_part(matrix)[0, :, 3], [5, -3, 2])
