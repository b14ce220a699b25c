"""Slice timing: every slice as if it had been acquired at one moment of the repetition.

Each voxel's series is interpolated in time with a cubic B-spline. A spline is local, so a
spike or a dummy scan does not ring through the run as in Fourier interpolation. Beyond its
ends the series goes on as its own reflection through the end point (2 x0 - x(-t)), which
keeps level and slope. The whole operation is linear in the series: one (T, T) matrix a slice
time, applied as a matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume

DIRECTIONS = ("i", "j", "k", "i-", "j-", "k-")
"""Values of BIDS ``SliceEncodingDirection``: axis of the array, ``-`` for last slice first."""

EXTENSION_FRAMES = 12
"""Reflected frames at either end; the spline's memory falls by 0.27 a frame."""


def slice_timing_reference(slice_times_s: Sequence[float], fraction: float = 0.5) -> float:
    """Moment within the repetition to which slices are moved, in seconds.

    ``fraction`` counts from the first to the last slice time, as fMRIPrep's
    ``--slice-time-ref`` (0.5: the middle of the acquisition), rounded to milliseconds. It is
    the ``StartTime`` of the derivative.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"the slice time reference is a fraction from 0 to 1, not {fraction}")
    first, last = min(slice_times_s), max(slice_times_s)
    return round(first + fraction * (last - first), 3)


def correct_slice_timing(
    bold: Volume,
    slice_times_s: Sequence[float],
    tr_s: float,
    *,
    ref_fraction: float = 0.5,
    direction: str = "k",
    n_dummy: int = 0,
) -> Volume:
    """Shift every slice's series to one reference time.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) frames in the order of acquisition, axes as stored in the file.
    slice_times_s : sequence of float
        BIDS ``SliceTiming``: one time in seconds per slice; any order, equal times for
        multiband.
    tr_s : float
        Repetition time in seconds.
    ref_fraction : float
        See :func:`slice_timing_reference`.
    direction : {'i', 'j', 'k', 'i-', 'j-', 'k-'}
        BIDS ``SliceEncodingDirection``. With ``-`` the first time belongs to the slice of the
        highest index.
    n_dummy : int
        Leading frames left as they are and not used for the others (AFNI's ``-ignore``).

    Returns
    -------
    Volume
        float32, same shape. Fewer than five frames after the dummies are left untouched.

    Raises
    ------
    ValueError
        When the times do not fit the slices or the repetition.
    """
    if bold.data.ndim != 4:
        raise ValueError("slice timing needs a series of frames")
    if direction not in DIRECTIONS:
        raise ValueError(f"slice encoding direction {direction!r} is none of {DIRECTIONS}")
    axis = "ijk".index(direction[0])
    times = np.asarray(slice_times_s, dtype=float)
    if times.shape != (bold.shape[axis],):
        raise ValueError(f"{times.size} slice times for {bold.shape[axis]} slices")
    if not np.isfinite(times).all() or times.min() < 0 or times.max() > tr_s + 1e-3:
        raise ValueError(f"slice times must lie between 0 and the repetition time of {tr_s} s")
    if direction.endswith("-"):
        times = times[::-1]

    shifts = (slice_timing_reference(slice_times_s, ref_fraction) - times) / tr_s
    out = np.array(bold.data, dtype=np.float32)
    n = bold.n_frames - n_dummy
    if n < 5:
        return bold.like(out)
    slices = np.moveaxis(out, axis, 0)
    for shift in np.unique(shifts):
        operator = _time_shift(n, float(shift)).astype(np.float32)
        for index in np.flatnonzero(shifts == shift):
            # A contiguous matrix takes the fast path of the product; a strided view does not.
            block = np.ascontiguousarray(slices[index, ..., n_dummy:])
            moved = block.reshape(-1, n) @ operator.T
            # A view into ``out``: the assignment writes through.
            slices[index, ..., n_dummy:] = moved.reshape(block.shape)
    return bold.like(out)


def _time_shift(n: int, shift: float) -> np.ndarray:
    """(n, n) operator giving a series at frame times ``arange(n) + shift``."""
    if shift == 0:
        return np.eye(n)
    reach = min(EXTENSION_FRAMES, n - 1)
    extended = np.zeros((n + 2 * reach, n))
    extended[reach : reach + n] = np.eye(n)
    for k in range(1, reach + 1):
        extended[reach - k, [0, k]] = 2, -1
        extended[reach + n - 1 + k, [n - 1, n - 1 - k]] = 2, -1
    coefs = ndimage.spline_filter1d(extended, 3, axis=0, mode="mirror")
    where = (reach + np.arange(n) + shift)[np.newaxis]
    columns = [
        ndimage.map_coordinates(column, where, order=3, mode="mirror", prefilter=False)
        for column in coefs.T
    ]
    return np.stack(columns, axis=1)
