"""Non-steady-state frames and the BOLD reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.bold.head_motion import estimate_head_motion
from deepprep.bold.resampling import resample_bold
from deepprep.image.volume import Volume

MAX_NON_STEADY_SEARCH = 50
"""Frames looked at for the non-steady state (as nipype's detector)."""

MAX_REFERENCE_FRAMES = 40
"""Frames averaged into the reference."""


@dataclass(frozen=True)
class BoldReference:
    """Reference volume of a run.

    Parameters
    ----------
    volume : Volume
        3D robust average, float32, on the lattice of the frames.
    frames_used : tuple of int
        Indices of the averaged frames.
    n_dummy : int
        Leading frames left out.
    """

    volume: Volume
    frames_used: tuple[int, ...]
    n_dummy: int


def detect_non_steady_state(bold: Volume) -> int:
    """Number of leading frames whose global mean is an outlier.

    The modified z-score test of nipype's ``NonSteadyStateDetector`` (Iglewicz & Hoaglin 1993,
    threshold 3.5) on the mean of the first 50 frames, so that the count is fMRIPrep's.
    """
    from nipype.algorithms.confounds import is_outlier

    if bold.data.ndim != 4 or bold.n_frames < 4:
        return 0
    head = np.asarray(bold.data[..., :MAX_NON_STEADY_SEARCH], dtype=np.float32)
    signal = np.nan_to_num(head).mean(axis=(0, 1, 2), dtype=np.float64)
    if np.ptp(signal) == 0:
        return 0
    deviation = np.median(np.abs(signal - np.median(signal)))
    if deviation == 0:
        return 0
    return min(int(is_outlier(signal)), bold.n_frames - 1)


def bold_reference(
    bold: Volume,
    n_dummy: int = 0,
    device: str = "cpu",
    *,
    max_frames: int = MAX_REFERENCE_FRAMES,
    n_threads: int | None = None,
) -> BoldReference:
    """Robust average of the steadiest frames, aligned to each other.

    The frames that change least from their neighbours are taken, scaled to one global mean,
    aligned to their median, and averaged without the extreme quarter at either end of each
    voxel's values.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T), or a 3D volume (returned as it is).
    n_dummy : int
        Leading non-steady-state frames, never averaged unless there are no others.
    device : str
        Passed on to head motion.
    max_frames : int
        Frames averaged at most.
    n_threads : int, optional
        Threads.

    Returns
    -------
    BoldReference
    """
    if bold.data.ndim == 3 or bold.n_frames == 1:
        return BoldReference(bold.frame(0).like(_finite(bold.frame(0).data)), (0,), 0)
    n_dummy = min(n_dummy, bold.n_frames - 1)
    chosen = _steadiest_frames(bold, n_dummy, max_frames)
    data = np.stack([_finite(bold.data[..., t]) for t in chosen], axis=-1)
    level = data.mean(axis=(0, 1, 2), dtype=np.float64)
    if (level > 0).all():
        data *= (np.median(level) / level).astype(np.float32)
    if len(chosen) < 3:
        return BoldReference(bold.like(data.mean(axis=3)), tuple(chosen), n_dummy)
    first = bold.like(np.median(data, axis=3))
    if first.data.std() == 0:
        return BoldReference(first, tuple(chosen), n_dummy)
    stack = bold.like(data)
    motion = estimate_head_motion(stack, first, device=device, n_threads=n_threads)
    aligned = resample_bold(stack, motion.affines, first.grid, n_threads=n_threads)
    return BoldReference(bold.like(_trimmed_mean(aligned.data)), tuple(chosen), n_dummy)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(np.asarray(values, dtype=np.float32), posinf=0.0, neginf=0.0)


def _steadiest_frames(bold: Volume, n_dummy: int, max_frames: int) -> list[int]:
    frames = np.arange(n_dummy, bold.n_frames)
    if len(frames) <= 3:
        return [int(t) for t in frames]
    # Every other voxel is plenty to rank frames.
    coarse = _finite(bold.data[::2, ::2, :, n_dummy:])
    level = coarse.mean(axis=(0, 1, 2))
    coarse = coarse / np.where(level == 0, 1, level)
    change = np.sqrt((np.diff(coarse, axis=3) ** 2).mean(axis=(0, 1, 2)))
    unsteadiness = np.maximum(np.r_[change[0], change], np.r_[change, change[-1]])
    best = np.argsort(unsteadiness, kind="stable")[:max_frames]
    return sorted(int(t) for t in frames[best])


def _trimmed_mean(data: np.ndarray) -> np.ndarray:
    n = data.shape[3]
    cut = n // 4
    ordered = np.sort(data, axis=3)
    return ordered[..., cut : n - cut].mean(axis=3, dtype=np.float64).astype(np.float32)
