"""Orientation and conforming: nothing moves in the world."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from deepprep.image.conform import conform, conform_target, finite, to_ras
from deepprep.image.output_grid import regrid, zooms_in_ras_order
from deepprep.image.volume import Grid, Volume


def marked(affine: np.ndarray, shape=(12, 14, 16)) -> tuple[Volume, np.ndarray]:
    """A volume with one bright voxel and that voxel's place in the world."""
    data = np.zeros(shape, dtype=np.float32)
    data[3, 5, 7] = 10
    return Volume(data, affine), nib.affines.apply_affine(affine, [3, 5, 7])


def brightest(volume: Volume) -> np.ndarray:
    return nib.affines.apply_affine(
        volume.affine, np.unravel_index(volume.data.argmax(), volume.shape)
    )


@pytest.mark.parametrize("codes", ["RAS", "LAS", "LPI", "PSR", "IAL", "ASR"])
def test_reordering_keeps_the_world(codes):
    ornt = nib.orientations.axcodes2ornt(codes)
    base = nib.orientations.inv_ornt_aff(ornt, (12, 14, 16))
    affine = np.diag([1.0, 2.0, 3.0, 1.0]) @ np.linalg.inv(np.linalg.inv(base))
    volume, place = marked(affine)
    out = to_ras(volume)
    assert out.grid.axcodes == ("R", "A", "S")
    np.testing.assert_allclose(brightest(out), place, atol=1e-9)


def test_an_image_on_the_target_lattice_is_not_interpolated():
    rng = np.random.default_rng(1)
    volume = Volume(rng.random((8, 9, 10)).astype("f4"), np.diag([1.0, 1.0, 2.0, 1.0]))
    out = conform(volume, conform_target([volume.grid]))
    np.testing.assert_array_equal(out.data, volume.data)


def test_a_coarse_second_image_is_brought_to_the_finer_lattice_in_place():
    fine = Volume(np.zeros((40, 40, 40), dtype="f4"), np.eye(4))
    data = np.zeros((20, 20, 20), dtype="f4")
    data[8, 10, 12] = 1
    coarse = Volume(ndimage.gaussian_filter(data, 1.2), np.diag([2.0, 2.0, 2.0, 1.0]))
    target = conform_target([fine.grid, coarse.grid])
    assert target.zooms_mm == (1, 1, 1)
    assert target.shape == (40, 40, 40)
    out = conform(coarse, target)
    found = ndimage.center_of_mass(out.data)
    place = nib.affines.apply_affine(out.affine, found)
    np.testing.assert_allclose(place, [16, 20, 24], atol=0.1)


def test_an_image_four_times_as_coarse_is_dropped():
    fine = Grid((10, 10, 10), np.eye(4))
    coarse = Grid((10, 10, 10), np.diag([1.0, 1.0, 4.0, 1.0]))
    target = conform_target([coarse, fine])
    assert target.kept == (1,)
    assert target.dropped == (0,)


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no anatomical image"):
        conform_target([])


def test_regrid_keeps_the_outer_faces():
    grid = Grid((10, 20, 30), np.array([[1, 0, 0, -5], [0, 1, 0, 7], [0, 0, 1, 2], [0, 0, 0, 1.0]]))
    out = regrid(grid, np.array([2.0, 4.0, 3.0]))
    assert out.shape == (5, 5, 10)
    # First voxel centre: half a new voxel from the face, which is half an old voxel outside.
    np.testing.assert_allclose(out.affine[:3, 3], [-5 - 0.5 + 1, 7 - 0.5 + 2, 2 - 0.5 + 1.5])


def test_regrid_is_cut_to_the_mask_with_two_voxels_to_spare():
    grid = Grid((40, 40, 40), np.eye(4))
    mask = np.zeros(grid.shape, dtype=bool)
    mask[10:20, 10:30, 15:25] = True
    out = regrid(grid, np.full(3, 2.0), mask)
    assert out.shape == (9, 14, 9)
    np.testing.assert_allclose(out.affine[:3, 3], [9.5 - 4 + 1, 9.5 - 4 + 1, 14.5 - 4 + 1])


def test_regrid_refuses_an_empty_mask():
    grid = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ValueError, match="empty"):
        regrid(grid, np.ones(3), np.zeros((4, 4, 4), dtype=bool))


def test_zooms_are_reported_in_ras_order():
    affine = np.array([[0, 0, 3.0, 0], [-2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(zooms_in_ras_order(Grid((5, 6, 7), affine)), [3, 2, 1])


def test_nan_is_filled_inside_and_background_elsewhere():
    data = np.full((30, 30, 30), 100, dtype=np.float32)
    data[:3] = np.nan  # the edge of the image
    data[10:13, 10:13, 10:13] = np.nan  # 27 voxels, enclosed
    data[20, 20, 20] = np.inf
    data[5, 5, 5] = -np.inf
    whole = finite(Volume(data, np.eye(4))).data
    assert (whole[:3] == 0).all()
    assert (whole[3:] == 100).all()
    coarse = finite(Volume(data, np.diag([4.0, 4.0, 4.0, 1.0]))).data
    assert (coarse[10:13, 10:13, 10:13] == 0).all() and coarse[20, 20, 20] == 100
