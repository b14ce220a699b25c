"""BOLD brain mask on a simulated head and on real references."""

import numpy as np
import pytest

from deepprep.bold.brain_mask import bold_brain_mask
from deepprep.image.volume import Volume
from tests.bold import simulated


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _head(lattice) -> tuple[Volume, np.ndarray]:
    """A brain with a receive field, two eyes, a thin scalp, and noise; and the truth."""
    points = lattice.points_ras()
    radius = np.linalg.norm((points - simulated.CENTRE) / [62.0, 78.0, 55.0], axis=-1)
    truth = radius < 1
    image = np.where(truth, 1000.0, 0.0)
    image[(radius > 1.12) & (radius < 1.17)] = 450
    for side in (-30, 30):
        eye = simulated.CENTRE + np.array([side, 88, -20.0])
        image[np.linalg.norm(points - eye, axis=-1) < 11] = 1300
    field = np.exp(-(points - simulated.CENTRE)[..., 2] / 90)
    noise = np.random.default_rng(0).normal(scale=30, size=image.shape)
    return Volume(np.abs(image * field + noise).astype(np.float32), lattice.affine), truth


@pytest.mark.parametrize(
    "lattice",
    [
        simulated.grid(zooms=(3, 3, 3.5), shape=(64, 76, 42)),
        simulated.grid(zooms=(4, 4, 6), shape=(48, 58, 26), flip_x=True, oblique_rad=(0.2, 0, 0.1)),
    ],
    ids=["RAS", "oblique LAS"],
)
def test_brain_is_found_and_eyes_are_not(lattice):
    image, truth = _head(lattice)
    mask = bold_brain_mask(image)
    assert mask.data.dtype == bool
    assert _dice(mask.data, truth) > 0.95
    eye = simulated.CENTRE + np.array([30, 88, -20.0])
    near_eye = np.linalg.norm(lattice.points_ras() - eye, axis=-1) < 8
    assert not mask.data[near_eye].any()


def test_slab_keeps_its_outer_slices():
    image, truth = _head(simulated.grid(zooms=(3, 3, 4), shape=(64, 76, 12)))
    mask = bold_brain_mask(image).data
    assert _dice(mask, truth) > 0.95
    assert mask[:, :, 0].sum() > 0.8 * truth[:, :, 0].sum()


def test_prior_bounds_and_supports_the_mask():
    image, truth = _head(simulated.grid(zooms=(3, 3, 3.5), shape=(64, 76, 42)))
    half = truth.copy()
    half[:30] = False
    mask = bold_brain_mask(image, prior=image.like(half)).data
    assert not mask[:25].any()
    assert _dice(mask & half, half) > 0.95


def test_empty_reference_has_an_empty_mask():
    mask = bold_brain_mask(Volume(np.zeros((9, 9, 9), np.float32), np.eye(4)))
    assert mask.data.sum() == 0


def test_prior_of_another_shape_is_refused():
    image = Volume(np.ones((9, 9, 9), np.float32), np.eye(4))
    with pytest.raises(ValueError, match="prior"):
        bold_brain_mask(image, prior=Volume(np.ones((8, 9, 9)), np.eye(4)))


def test_real_run_has_a_brain_of_plausible_size(shared_data):
    from deepprep.bold.reference import bold_reference
    from deepprep.interfaces.nifti import load_volume

    path = shared_data / "bids-ci/sub-001/func/sub-001_task-rest_bold.nii.gz"
    mask = bold_brain_mask(bold_reference(load_volume(path)).volume)
    litres = mask.data.sum() * mask.grid.voxel_volume_mm3 / 1e6
    assert 1.1 < litres < 1.7
