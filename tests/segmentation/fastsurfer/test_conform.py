"""The conformed lattice, intensities, and the way back to the image."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from deepprep.errors import StageError
from deepprep.image.volume import Grid, Volume
from deepprep.segmentation.fastsurfer.conform import (
    box_of,
    conform,
    conformed_grid,
    intensity_scale,
    voxel_size_mm,
)
from deepprep.segmentation.fastsurfer.way_back import WayBack

RAS = np.diag([1.0, 1, 1, 1])


def oriented(volume: Volume, codes: str) -> Volume:
    """The same head stored in another order and direction of axes."""
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(codes)
    )
    data = nib.apply_orientation(volume.data, turn)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)
    return Volume(data, affine)


ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*order)
]


@pytest.mark.parametrize(
    ("zooms", "rule", "size_mm", "side"),
    [
        ((1.0, 1.0, 1.0), "min", 1.0, 256),
        ((0.97, 1.0, 1.2), "min", 1.0, 256),
        ((0.8, 0.8, 0.8), "min", 0.8, 256),
        ((0.8, 0.8, 0.8), "1mm", 1.0, 256),
        ((2.0, 2.0, 2.0), "min", 1.0, 256),
        ((0.7, 0.67, 0.67), "min", 0.67, 402),
    ],
)
def test_voxel_size_and_side(zooms, rule, size_mm, side):
    grid = Grid((384, 384, 274), np.diag([*zooms, 1.0])) if side > 256 else None
    grid = grid or Grid((200, 220, 180), np.diag([*zooms, 1.0]))
    assert voxel_size_mm(grid, rule) == size_mm
    out = conformed_grid(grid, rule)
    assert out.shape == (side,) * 3
    assert out.axcodes == ("L", "I", "A")
    assert np.allclose(out.zooms_mm, size_mm)


def test_conformed_image_of_freesurfer_is_left_alone():
    data = np.random.default_rng(0).integers(0, 256, (256, 256, 256), dtype=np.uint8)
    affine = np.array([[-1.0, 0, 0, 131], [0, 0, 1, -120], [0, -1, 0, 128], [0, 0, 0, 1]])
    out = conform(Volume(data, affine), "1mm")
    assert np.allclose(out.affine, affine)
    assert np.array_equal(out.data, data)


def test_middle_of_the_image_stays_in_the_world():
    grid = Grid((100, 120, 80), np.diag([-1.5, -1.5, 2.0, 1]))
    out = conformed_grid(grid, "1mm")
    there = nib.affines.apply_affine(grid.affine, np.array(grid.shape) / 2)
    assert np.allclose(nib.affines.apply_affine(out.affine, [128, 128, 128]), there)


def test_intensities_are_scaled_by_the_histogram():
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[:10] = np.linspace(1, 1000, 4000, dtype=np.float32).reshape(10, 20, 20)
    low, factor = intensity_scale(data)
    assert low == 0
    # 4 of 4000 non-zero voxels may be clipped: the first edge (of 0..1000 by 1) below which all
    # but 4 voxels lie is 999.something; two edges lower is the top.
    counts, edges = np.histogram(data, 1000, range=(0, 1000))
    first = np.flatnonzero(np.concatenate([[0], np.cumsum(counts)]) >= data.size - 4)[0]
    assert factor == pytest.approx(255 / edges[first - 2])
    assert 996 < 255 / factor < 999


def test_bytes_are_not_scaled_and_zero_stays_zero(small):
    rng = np.random.default_rng(1)
    small = rng.integers(5, 90, (32, 32, 32), dtype=np.uint8)
    assert conform(Volume(small, RAS), "1mm").data.max() == small.max()
    floats = rng.normal(0, 50, (32, 32, 32)).astype(np.float32)
    floats[:16] = 0
    out = conform(Volume(floats, RAS), "1mm")
    # Zero means background, although the darkest value is below it.
    assert np.count_nonzero(out.data) <= 32 * 32 * 16
    assert out.data.max() == 255


def test_constant_and_not_a_number(small):
    with pytest.raises(StageError, match="holds the value 0 only"):
        conform(Volume(np.zeros((8, 8, 8)), RAS), "1mm")
    data = np.full((8, 8, 8), np.nan)
    data[2:6] = np.arange(256).reshape(4, 8, 8)
    assert conform(Volume(data, RAS), "1mm").data.max() == 255


def test_singular_affine_is_a_sentence():
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    with pytest.raises(StageError, match="zero column"):
        conform(Volume(np.random.default_rng(0).random((4, 4, 4)), flat), "1mm")


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_all_48_orientations_conform_alike(small, codes):
    assert len(ORIENTATIONS) == 48
    data = np.random.default_rng(2).random((13, 16, 11)).astype(np.float32)
    head = Volume(data, np.array([[1.2, 0, 0, 3], [0, 0.9, 0, -7], [0, 0, 1.5, 2], [0, 0, 0, 1.0]]))
    expected, found = _small(head), _small(oriented(head, codes))
    assert np.allclose(found.affine, expected.affine)
    assert np.array_equal(found.data, expected.data)


def _small(head: Volume) -> Volume:
    out = conform(head, "1mm")
    box = box_of(out.data > 0)
    affine = out.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(out.affine, [s.start for s in box])
    return Volume(out.data[box], affine)


@pytest.mark.parametrize("codes", ORIENTATIONS[::5])
def test_labels_return_exactly_where_lattices_share_points(codes):
    labels = np.random.default_rng(3).integers(0, 9, (9, 12, 14)).astype(np.uint8)
    source = Volume(labels, np.array([[-1.0, 0, 0, 9], [0, 0, 1, 2], [0, -1, 0, 4], [0, 0, 0, 1]]))
    other = oriented(source, codes)
    box = (slice(0, 9), slice(0, 12), slice(0, 14))
    way = WayBack(source.grid, other.grid, box)
    assert np.array_equal(way.labels(source.data), other.data)
    maps = WayBack(source.grid, other.grid, box).map(source.data.astype(np.float32))
    assert np.array_equal(maps, other.data.astype(np.float32))


def test_only_the_box_returns_and_other_lattices_interpolate():
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[8:12, 8:12, 8:12] = 1
    grid = Grid(data.shape, RAS)
    fine = Grid((40, 40, 40), np.diag([0.5, 0.5, 0.5, 1]))
    way = WayBack(grid, fine, box_of(data > 0))
    out = way.map(data)
    assert out[20, 20, 20] == 1
    assert out[15, 20, 20] == pytest.approx(0.5, abs=1e-5)
    labels = way.labels((data * 17).astype(np.uint8))
    assert set(np.unique(labels)) == {0, 17}
    assert way.part.shape[0] < 14
    nothing = WayBack(grid, fine, box_of(data > 2))
    assert not nothing.labels((data * 17).astype(np.uint8)).any()
    away = Grid((10, 10, 10), np.array([[1.0, 0, 0, 100]] + RAS[1:].tolist()))
    assert not WayBack(grid, away, box_of(data > 0)).map(data).any()
