"""Smaller copies show the same world."""

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.image.working_copy import working_copy, working_grid


def test_a_fine_image_becomes_coarser_in_place():
    affine = np.diag([0.5, 0.5, 0.6, 1.0])
    affine[:3, 3] = [-20, 10, 5]
    data = np.zeros((80, 90, 70), "f4")
    data[40, 50, 30] = 1
    volume = Volume(ndimage.gaussian_filter(data, 4), affine)
    mask = ndimage.gaussian_filter(data, 6) > 1e-5
    grid = working_grid(volume.grid, mask)
    np.testing.assert_allclose(grid.zooms_mm, 1.0)
    out = working_copy(volume, grid)
    assert np.prod(out.shape) < np.prod(data.shape) / 4
    found = out.affine[:3, :3] @ ndimage.center_of_mass(out.data) + out.affine[:3, 3]
    np.testing.assert_allclose(found, affine[:3, :3] @ [40, 50, 30] + affine[:3, 3], atol=0.02)
    mass = [v.data.sum() * v.grid.voxel_volume_mm3 for v in (volume, out)]
    np.testing.assert_allclose(mass[1], mass[0], rtol=0.01)


def test_a_coarse_image_keeps_its_voxel_size():
    volume = Volume(np.ones((30, 30, 30), "f4"), np.diag([-2.0, 2, 3, 1]))
    mask = np.zeros(volume.shape, bool)
    mask[10:20, 10:20, 10:20] = True
    grid = working_grid(volume.grid, mask)
    np.testing.assert_allclose(grid.zooms_mm, [2, 2, 3])
    np.testing.assert_allclose(working_copy(volume, grid).data, 1, atol=1e-6)
