"""Separable interpolation between parallel lattices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.segmentation.lattice import axis_weights, onto_lattice


def placed(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    weights = axis_weights(source, target)
    out = np.zeros(weights.box_shape, dtype=np.float32)
    found = onto_lattice(values, weights)
    assert found is not None
    out[found[0]] = found[1]
    return weights.place(out, target)


def blob(shape=(14, 18, 16)) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    r2 = sum((a - c) ** 2 * w for a, c, w in zip(axes, (6, 8.5, 7), (1.0, 0.5, 0.8)))
    return np.where(r2 < 30, np.exp(-r2 / 12), 0).astype(np.float32)


def test_same_lattice_changes_nothing():
    grid = Grid((14, 18, 16), np.diag([1.0, 1, 1, 1]))
    values = blob()
    values[values <= 2e-3] = 0
    np.testing.assert_array_equal(placed(values, grid, grid), values)


@settings(max_examples=30, deadline=None)
@given(
    codes=st.sampled_from(["RAS", "LAS", "LIA", "PSR", "SAL", "ILP"]),
    zooms=st.tuples(*[st.sampled_from([0.6, 1.0, 1.7, 3.0])] * 3),
    shift=st.tuples(*[st.floats(-1, 1)] * 3),
)
def test_agrees_with_general_resampling_in_any_orientation(codes, zooms, shift):
    source = Grid((14, 18, 16), np.diag([1.0, 1, 1, 1]))
    shape = tuple(int(np.ceil(n / z)) + 2 for n, z in zip(source.shape, zooms))
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = np.array(shift) - 1.0
    to_codes = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = np.empty(shape).transpose(np.argsort(to_codes[:, 0]))
    target = Grid(turned.shape, affine @ inv_ornt_aff(to_codes, shape))
    values = blob()
    expected = resample(Volume(values, source.affine), target, None, "linear").data
    # voxels beyond the source's outermost centres are left at 0
    vox = target.points_ras()
    covered = ((vox >= 0) & (vox <= np.array(source.shape) - 1)).all(axis=-1)
    np.testing.assert_allclose(
        placed(values, source, target)[covered], expected[covered], atol=5e-3
    )


def test_oblique_against_each_other_is_refused():
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    with pytest.raises(ValueError, match="not parallel"):
        axis_weights(Grid((9, 9, 9), np.eye(4)), Grid((9, 9, 9), turned))


def test_nothing_there_gives_nothing():
    grid = Grid((4, 4, 4), np.eye(4))
    assert onto_lattice(np.zeros((4, 4, 4)), axis_weights(grid, grid)) is None
