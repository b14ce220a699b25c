"""A finer lattice with the same axes: positions and values."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.volume import Grid
from deepprep.surface.spline_lattice import finer_grid, to_finer

OBLIQUE = np.array(
    [[-0.9, 0.2, 0.1, 30], [0.2, 1.0, 0.3, -8], [-0.1, -0.3, 1.4, 2], [0, 0, 0, 1.0]]
)


def test_finer_grid_is_isotropic_parallel_and_within_the_source() -> None:
    source = Grid((20, 24, 18), OBLIQUE)
    target = finer_grid(source, 0.7)
    np.testing.assert_allclose(target.zooms_mm, 0.7)
    corners = nib.affines.apply_affine(
        source.ras2vox @ target.affine, [[0, 0, 0], np.array(target.shape) - 1]
    )
    assert (corners[0] >= 0).all() and (corners[1] <= np.array(source.shape) - 1).all()
    np.testing.assert_allclose(target.centre_ras, source.centre_ras)


@pytest.mark.parametrize("degree", [1, 3])
def test_a_linear_field_in_the_world_is_kept(degree: int) -> None:
    source = Grid((12, 14, 10), OBLIQUE)
    target = finer_grid(source, 0.6)
    slope = np.array([0.3, -0.2, 0.5])
    found = to_finer(source.points_ras() @ slope, source, target, degree)
    np.testing.assert_allclose(found, target.points_ras() @ slope, atol=1e-4)


def test_cubic_follows_a_wave_that_linear_flattens() -> None:
    source = Grid((40, 4, 4), np.eye(4))
    target = finer_grid(source, 0.5)
    wave = np.broadcast_to(np.sin(np.arange(40) * 0.9)[:, None, None], source.shape)
    truth = np.sin(target.points_ras()[..., 0] * 0.9)
    inner = (slice(8, -8),)
    cubic = np.abs(to_finer(wave, source, target) - truth)[inner].max()
    linear = np.abs(to_finer(wave, source, target, 1) - truth)[inner].max()
    assert cubic < 0.02 < 0.08 < linear


def test_a_coarser_lattice_takes_means_of_noise() -> None:
    source = Grid((60, 60, 60), np.diag([0.5, 0.5, 0.5, 1]))
    noise = np.random.default_rng(0).normal(size=source.shape)
    assert to_finer(noise, source, finer_grid(source, 1.0)).std() < 0.5
    assert to_finer(noise, source, finer_grid(source, 0.5)).std() == pytest.approx(1, abs=0.01)
