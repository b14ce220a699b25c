"""Whether slice timing is corrected for a BOLD run, and why or why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepprep.bids.records import SliceTiming

AXES = {"i": 0, "j": 1, "k": 2}

MIN_SPREAD_S = 0.01
"""Slices that were taken within this time need no correction."""


def decide_slice_timing(
    metadata: Mapping[str, Any],
    shape: Sequence[int],
    *,
    reference_fraction: float = 0.5,
    ignored: bool = False,
) -> SliceTiming:
    """Decide on slice-timing correction from the metadata of a run.

    Parameters
    ----------
    metadata : mapping
        Sidecar of the run, inheritance done.
    shape : sequence of int
        Shape of the image (X, Y, Z, T); empty when unknown.
    reference_fraction : float
        0 is the time of the first slice, 1 that of the last, 0.5 (fMRIPrep's default) midway.
    ignored : bool
        The user said ``--ignore slicetiming``.

    Returns
    -------
    SliceTiming
        ``slice_times_s`` are in the order of the voxel index along ``axis``: BIDS lists them
        from the last slice when ``SliceEncodingDirection`` ends with ``-``.
    """
    if ignored:
        return SliceTiming(False, "switched off with --ignore slicetiming")
    times = metadata.get("SliceTiming")
    if not times:
        return SliceTiming(
            False, "the sidecar has no SliceTiming, so when each slice was taken is not known"
        )
    try:
        seconds = [float(t) for t in times]
        tr_s = float(metadata["RepetitionTime"])
    except (KeyError, TypeError, ValueError):
        return SliceTiming(False, "SliceTiming or RepetitionTime is not made of numbers")
    direction = str(metadata.get("SliceEncodingDirection") or "k")
    axis = AXES.get(direction[0], 2)
    if len(shape) > axis and len(seconds) != shape[axis]:
        return SliceTiming(False, f"SliceTiming has {len(seconds)} values for {shape[axis]} slices")
    first, last = min(seconds), max(seconds)
    if first < 0 or last > tr_s:
        return SliceTiming(
            False, f"SliceTiming goes from {first:g} to {last:g} s, TR is {tr_s:g} s"
        )
    if last - first < MIN_SPREAD_S:
        return SliceTiming(False, "all slices were taken at the same time")
    if direction.endswith("-"):
        seconds.reverse()
    reference = round(first + reference_fraction * (last - first), 3)
    return SliceTiming(
        True,
        f"SliceTiming has {len(seconds)} slices over {last - first:.3f} s of a TR of {tr_s:g} s; "
        f"reference time {reference:.3f} s",
        slice_times_s=tuple(seconds),
        axis=axis,
        tr_s=tr_s,
        reference_time_s=reference,
    )
