"""DVARS: how much the image changes from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dvars:
    """DVARS of a run; NaN for the first frame.

    Parameters
    ----------
    dvars : (T,) array
        Root mean square change, in units of a median brain intensity of 1000.
    std_dvars : (T,) array
        The same divided by what the series' own noise predicts (Nichols 2013).
    """

    dvars: np.ndarray
    std_dvars: np.ndarray


def compute_dvars(series: np.ndarray) -> Dvars:
    """DVARS (Power et al. 2012) and standardised DVARS (Nichols 2013).

    The arithmetic of nipype's ``compute_dvars`` with ``remove_zerovariance``: intensities
    scaled to a median of 1000, voxels of zero robust spread left out, spread from the
    interquartile range (lower order statistics, as FSL), lag-1 autocorrelation by Yule-Walker.
    Nipype's own needs nitime and files.

    Parameters
    ----------
    series : (N, T) array
        Voxels inside the brain mask.

    Returns
    -------
    Dvars
        All NaN when no voxel varies.
    """
    n_frames = series.shape[1]
    missing = np.full(n_frames, np.nan)
    values = np.asarray(series, dtype=np.float32)
    median = np.median(values) if values.size else 0.0
    if not median > 0 or n_frames < 2:
        return Dvars(missing, missing.copy())
    values = values / np.float32(median) * np.float32(1000)
    low, high = np.percentile(values, [25, 75], axis=1, method="lower")
    spread = (high - low) / 1.349
    values, spread = values[spread > 0], spread[spread > 0]
    if len(values) == 0:
        return Dvars(missing, missing.copy())
    change = np.diff(values, axis=1).astype(np.float64)
    dvars = np.sqrt((change**2).mean(axis=0))
    centred = values - values.mean(axis=1, keepdims=True)
    variance = (centred**2).sum(axis=1, dtype=np.float64)
    ar1 = (centred[:, 1:] * centred[:, :-1]).sum(axis=1, dtype=np.float64) / variance
    expected = (np.sqrt(2 * (1 - ar1)) * spread).mean()
    return Dvars(np.r_[np.nan, dvars], np.r_[np.nan, dvars / expected])
