"""CompCor and its masks, against nipype and known structure."""

import numpy as np
import pytest

from deepprep.bold.compcor import (
    cosine_basis,
    high_variance_voxels,
    noise_components,
    remove_slow_drift,
)
from deepprep.bold.compcor_masks import acompcor_masks
from deepprep.image.volume import Volume


def _series(n_voxels: int = 60, n_frames: int = 100, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(n_voxels, n_frames))
    wave = np.sin(np.arange(n_frames) * 0.7)
    drift = np.linspace(0, 30, n_frames)
    return 500 + noise + 3 * random.normal(size=(n_voxels, 1)) * wave + drift


def _nipype(series: np.ndarray, tr_s: float, criterion) -> tuple:
    import nibabel as nib
    from nipype.algorithms.confounds import compute_noise_components

    data = series.reshape(len(series), 1, 1, -1).copy()
    mask = nib.Nifti1Image(np.ones((len(series), 1, 1), np.uint8), np.eye(4))
    return compute_noise_components(data, [mask], criterion, "cosine", 0, 128, tr_s, "error", ["m"])


@pytest.mark.parametrize("n_voxels", [60, 300, 25])
def test_components_and_spectrum_equal_nipype(n_voxels):
    series = _series(n_voxels)
    found = noise_components(series, 2.0)
    peer, basis, metadata = _nipype(series, 2.0, 0.5)
    assert found.n_retained == peer.shape[1] > 0
    np.testing.assert_allclose(np.abs(found.components), np.abs(peer), atol=1e-6)
    n = min(len(found.singular_value), len(metadata["singular_value"]))
    np.testing.assert_allclose(found.singular_value[:n], metadata["singular_value"][:n], atol=1e-4)
    np.testing.assert_allclose(
        found.cumulative_variance_explained[:n], metadata["cumulative_variance_explained"][:n],
        atol=1e-8,
    )  # fmt: skip
    np.testing.assert_allclose(cosine_basis(100, 2.0), basis, atol=1e-12)


def test_dummies_are_censored_and_zero():
    series = _series()
    spoiled = series.copy()
    spoiled[:, :3] = 1e5
    found = noise_components(spoiled, 2.0, n_dummy=3)
    clean = noise_components(series[:, 3:], 2.0)
    assert (found.components[:3] == 0).all()
    np.testing.assert_allclose(found.components[3:], clean.components, atol=1e-9)


def test_sign_is_fixed():
    found = noise_components(_series(), 2.0, variance=None).components
    peaks = found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])]
    assert (peaks > 0).all()


def test_all_components_leave_out_the_filtered_directions():
    found = noise_components(_series(300), 2.0, variance=None)
    n_cosines = cosine_basis(100, 2.0).shape[1]
    assert n_cosines == 2
    assert found.n_retained == 100 - n_cosines - 1


@pytest.mark.parametrize("series", [np.empty((0, 20)), np.full((5, 20), 7.0),
                                    np.full((5, 20), np.nan)])  # fmt: skip
def test_empty_and_silent_regions_have_no_components(series):
    found = noise_components(series, 2.0)
    assert found.components.shape == (20, 0)
    assert found.n_retained == 0


def test_slow_drift_is_removed_and_fast_signal_kept():
    t = np.arange(200) * 2.0
    slow, fast = np.cos(np.pi * (t + 1) / 400), np.sin(2 * np.pi * t / 10)
    left = remove_slow_drift((5 * slow + fast)[None], 2.0)[0]
    assert np.abs(left - fast).max() < 0.1


def test_short_run_has_no_cosines():
    assert cosine_basis(20, 2.0).shape == (20, 0)


def test_high_variance_voxels_ignore_trends_and_dummies():
    random = np.random.default_rng(0)
    series = random.normal(size=(100, 50))
    series[7] *= 10
    series[8] += np.linspace(0, 500, 50)
    series[9, 0] = 1e6
    chosen = high_variance_voxels(series, n_dummy=1, fraction=0.01)
    assert np.flatnonzero(chosen).tolist() == [7]


def _tissues() -> tuple[Volume, Volume, Volume]:
    """1 mm: a CSF block and a WM block with a plate of GM between, at x 28 to 31."""
    shape = (60, 30, 30)
    x = np.arange(60)[:, None, None] * np.ones(shape)
    affine = np.diag([1.0, 1, 1, 1])
    csf, gm, wm = x < 28, (x >= 28) & (x < 32), x >= 32
    return tuple(Volume(v.astype(np.float32), affine) for v in (gm, wm, csf))  # type: ignore[return-value]


def test_masks_keep_away_from_grey_matter():
    gm, wm, csf = _tissues()
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = 1.0  # voxel 0 covers anatomy voxels 0, 1, 2
    brain = Volume(np.ones((20, 10, 10), bool), affine)
    brain.data[:, 0] = False
    masks = acompcor_masks(gm, wm, csf, brain)
    assert list(masks) == ["CSF", "WM", "combined"]
    # GM ends at 31 mm; 3 mm further ends at 34; the first BOLD voxel wholly beyond is 35-37 mm,
    # hence index 12 (36 to 38).
    wm_x = np.flatnonzero(masks["WM"].data.any(axis=(1, 2)))
    assert wm_x.min() == 12 and wm_x.max() == 19
    # CSF is not cut back, but voxel 9 (27 to 29 mm) holds grey matter.
    csf_x = np.flatnonzero(masks["CSF"].data.any(axis=(1, 2)))
    assert csf_x.min() == 0 and csf_x.max() == 8
    both = masks["combined"].data
    assert both[13, 5, 5] and both[2, 5, 5] and not both[8, 5, 5]
    assert not any(m.data[:, 0].any() for m in masks.values())


def test_empty_surroundings_of_the_anatomy_change_nothing():
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = 1.0
    brain = Volume(np.ones((20, 10, 10), bool), affine)
    tight = _tissues()
    wide_affine = tight[0].affine.copy()
    wide_affine[:3, 3] -= [7, 5, 3]
    wide = [Volume(np.pad(v.data, [(7, 4), (5, 6), (3, 8)]), wide_affine) for v in tight]
    for name, mask in acompcor_masks(*tight, brain).items():
        assert np.array_equal(mask.data, acompcor_masks(*wide, brain)[name].data)


def test_masks_follow_the_transform():
    gm, wm, csf = _tissues()
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = 1.0
    brain = Volume(np.ones((20, 10, 10), bool), affine)

    class Shift:
        def map_points(self, points):
            return points + np.array([6.0, 0, 0])

    masks = acompcor_masks(gm, wm, csf, brain, Shift())
    wm_x = np.flatnonzero(masks["WM"].data.any(axis=(1, 2)))
    assert wm_x.min() == 10
