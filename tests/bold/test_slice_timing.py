"""Slice timing: a known signal sampled at known times."""

import numpy as np
import pytest

from deepprep.bold.slice_timing import correct_slice_timing, slice_timing_reference
from deepprep.image.volume import Volume

TR = 2.0
N = 80


def _signal(t: np.ndarray) -> np.ndarray:
    return 1000 + 20 * np.sin(2 * np.pi * t / 20) + 8 * np.cos(2 * np.pi * t / 11) + 0.5 * t


def _acquired(times: np.ndarray, axis: int) -> Volume:
    """Every slice along ``axis`` sees the same signal at its own times."""
    frames = np.arange(N) * TR
    values = _signal(times[:, None] + frames)
    shape = [3, 4, 2]
    shape[axis] = len(times)
    data = np.empty((*shape, N), np.float32)
    np.moveaxis(data, axis, 0)[:] = values[:, None, None, :]
    return Volume(data, np.eye(4))


@pytest.mark.parametrize(
    "times",
    [
        np.array([0.0, 1.0, 0.25, 1.25, 0.5, 1.5, 0.75, 1.75]),
        np.linspace(1.75, 0, 8),
        np.tile([0.0, 0.5, 1.0, 1.5], 2),
    ],
    ids=["interleaved", "descending", "multiband"],
)
def test_all_slices_show_the_signal_at_the_reference_time(times):
    out = correct_slice_timing(_acquired(times, 2), times, TR).data
    middle = (times.min() + times.max()) / 2
    expected = _signal(middle + np.arange(N) * TR)
    # Uncorrected slices are off by up to 9 here.
    assert np.abs(out - expected)[..., 3:-3].max() < 0.1
    # The outermost frame of slices on the wrong side of it is extrapolated by up to 0.9 s.
    assert np.abs(out - expected).max() < 3


@pytest.mark.parametrize("direction", ["i", "j", "k", "i-", "j-", "k-"])
def test_slice_axis_and_direction(direction):
    times = np.array([0.0, 0.4, 0.8, 1.2, 1.6])
    by_index = times[::-1] if direction.endswith("-") else times
    bold = _acquired(by_index, "ijk".index(direction[0]))
    out = correct_slice_timing(bold, times, TR, direction=direction).data
    expected = _signal(0.8 + np.arange(N) * TR)
    assert np.abs(out - expected)[..., 3:-3].max() < 0.1


def test_reference_slice_is_not_changed():
    times = np.array([0.0, 1.0, 0.5])
    bold = _acquired(times, 2)
    out = correct_slice_timing(bold, times, TR, ref_fraction=0.0)
    assert np.array_equal(out.data[:, :, 0], bold.data[:, :, 0])
    assert not np.array_equal(out.data[:, :, 1], bold.data[:, :, 1])


def test_straight_line_is_exact_to_both_ends():
    times = np.array([0.0, 0.9, 1.8])
    frames = np.arange(20) * TR
    data = np.broadcast_to((times[:, None] + frames)[None, None], (2, 2, 3, 20)).astype(np.float32)
    out = correct_slice_timing(Volume(data, np.eye(4)), times, TR).data
    np.testing.assert_allclose(out, np.broadcast_to(0.9 + frames, out.shape), atol=1e-4)


def test_dummies_are_kept_and_not_spread():
    times = np.array([0.0, 0.5, 1.0, 1.5])
    bold = _acquired(times, 2)
    bold.data[..., :2] = 5000
    out = correct_slice_timing(bold, times, TR, n_dummy=2).data
    assert (out[..., :2] == 5000).all()
    assert np.abs(out[..., 5:-3] - _signal(0.75 + np.arange(N) * TR)[5:-3]).max() < 0.1
    spread = correct_slice_timing(bold, times, TR).data
    assert np.abs(spread[..., 2] - out[..., 2]).max() > 100


def test_start_time_counts_from_first_to_last_slice():
    assert slice_timing_reference([0.1, 1.9, 0.5]) == 1.0
    assert slice_timing_reference([0.1, 1.9], 0.0) == 0.1
    assert slice_timing_reference([0.1, 1.9], 1.0) == 1.9


@pytest.mark.parametrize(
    ("times", "kwargs", "message"),
    [
        ([0, 1], {}, "2 slice times for 3 slices"),
        ([0, 1, 2.5], {}, "repetition time"),
        ([0, 1, np.nan], {}, "repetition time"),
        ([0, 0.5, 1], {"direction": "z"}, "direction"),
        ([0, 0.5, 1], {"ref_fraction": 1.5}, "fraction"),
    ],
)
def test_impossible_times_are_refused(times, kwargs, message):
    bold = Volume(np.zeros((2, 2, 3, 10), np.float32), np.eye(4))
    with pytest.raises(ValueError, match=message):
        correct_slice_timing(bold, times, TR, **kwargs)


def test_few_frames_are_left_alone():
    bold = Volume(np.random.default_rng(0).random((2, 2, 3, 4)).astype(np.float32), np.eye(4))
    assert np.array_equal(correct_slice_timing(bold, [0, 0.5, 1], TR).data, bold.data)
