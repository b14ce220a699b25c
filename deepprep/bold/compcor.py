"""Component-based noise correction (CompCor; Behzadi et al. 2007, NeuroImage 37)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HIGH_PASS_PERIOD_S = 128.0
"""Longest period left in the series before decomposition (0.008 Hz)."""

VARIANCE_RETAINED = 0.5
"""Fraction of the variance that the retained components explain."""

HIGH_VARIANCE_FRACTION = 0.02
"""Fraction of the brain's voxels that tCompCor takes, those of highest variance."""


@dataclass(frozen=True)
class NoiseComponents:
    """Principal components of one region.

    Parameters
    ----------
    components : (T, K) array
        Retained components, unit norm over the steady frames, 0 in the dummies. Each has the
        sign that makes its largest excursion positive.
    singular_value, variance_explained, cumulative_variance_explained : (M,) arrays
        The whole spectrum, retained and dropped.
    n_retained : int
        K.
    """

    components: np.ndarray
    singular_value: np.ndarray
    variance_explained: np.ndarray
    cumulative_variance_explained: np.ndarray
    n_retained: int


def cosine_basis(n_frames: int, tr_s: float, period_s: float = HIGH_PASS_PERIOD_S) -> np.ndarray:
    """Slow cosines (DCT-II) of periods above ``period_s``, without the constant.

    Parameters
    ----------
    n_frames : int
        Frames.
    tr_s : float
        Repetition time in seconds.
    period_s : float
        Cut-off period in seconds.

    Returns
    -------
    (n_frames, K) array of unit-norm columns; K may be 0 in a short run. As nipype's and
    nilearn's cosine drift model.
    """
    order = max(int(np.floor(2 * n_frames * tr_s / period_s)), 1)
    k = np.arange(1, order)
    t = np.arange(n_frames)
    return np.sqrt(2 / n_frames) * np.cos(np.pi / n_frames * np.outer(t + 0.5, k))


def noise_components(
    series: np.ndarray,
    tr_s: float,
    n_dummy: int = 0,
    *,
    variance: float | None = VARIANCE_RETAINED,
    period_s: float = HIGH_PASS_PERIOD_S,
) -> NoiseComponents:
    """Components of a region's series after the slow cosines are regressed out.

    Parameters
    ----------
    series : (N, T) array
        Voxels of the region; a voxel with a NaN counts as silent.
    tr_s : float
        Repetition time in seconds.
    n_dummy : int
        Leading frames censored from filter and decomposition.
    variance : float or None
        Fewest components that explain this fraction are retained; ``None`` retains all.
    period_s : float
        Cut-off of the high-pass filter in seconds.

    Returns
    -------
    NoiseComponents
        Without components when the region is empty or silent.
    """
    n_frames = series.shape[1]
    values = np.array(series[:, n_dummy:], dtype=np.float64)
    values[~np.isfinite(values).all(axis=1)] = 0
    n_steady = values.shape[1]
    empty = np.empty(0)
    if len(values) == 0 or n_steady < 2:
        return NoiseComponents(np.empty((n_frames, 0)), empty, empty, empty, 0)
    values = remove_slow_drift(values, tr_s, period_s)
    spread = values.std(axis=1)
    # What the regression leaves of a constant voxel is rounding, not noise.
    scale = np.abs(series[:, n_dummy:]).max(axis=1).astype(np.float64)
    lively = spread > 1e-7 * np.nan_to_num(scale, nan=np.inf)
    values = values[lively] / spread[lively, np.newaxis]
    if len(values) == 0:
        return NoiseComponents(np.empty((n_frames, 0)), empty, empty, empty, 0)
    # Left singular vectors of the (T, N) matrix are eigenvectors of its (T, T) covariance.
    eigenvalues, vectors = np.linalg.eigh(values.T @ values)
    n_spectrum = min(values.shape)
    eigenvalues = eigenvalues[::-1][:n_spectrum].clip(min=0)
    vectors = vectors[:, ::-1][:, :n_spectrum]
    explained = eigenvalues / eigenvalues.sum()
    cumulative = np.cumsum(explained)
    if variance is None:
        # Directions that the filter has emptied carry nothing.
        n_kept = int((eigenvalues > 1e-10 * eigenvalues[0]).sum())
    else:
        n_kept = min(int(np.searchsorted(cumulative, variance)) + 1, n_spectrum)
    kept = vectors[:, :n_kept]
    peaks = kept[np.abs(kept).argmax(axis=0), np.arange(n_kept)]
    components = np.zeros((n_frames, n_kept))
    components[n_dummy:] = kept * np.sign(peaks)
    return NoiseComponents(components, np.sqrt(eigenvalues), explained, cumulative, n_kept)


def remove_slow_drift(
    series: np.ndarray, tr_s: float, period_s: float = HIGH_PASS_PERIOD_S
) -> np.ndarray:
    """Residual (N, T) of the mean and the slow cosines; see :func:`cosine_basis`."""
    n_frames = series.shape[1]
    basis = cosine_basis(n_frames, tr_s, period_s)
    basis = np.column_stack([basis, np.full(n_frames, n_frames**-0.5)])
    return series - (series @ basis) @ basis.T


def high_variance_voxels(
    series: np.ndarray, n_dummy: int = 0, fraction: float = HIGH_VARIANCE_FRACTION
) -> np.ndarray:
    """Voxels of highest temporal spread, for tCompCor.

    Parameters
    ----------
    series : (N, T) array
        Voxels of the brain.
    n_dummy : int
        Leading frames left out.
    fraction : float
        Fraction of voxels taken.

    Returns
    -------
    (N,) bool array. The spread is that left by a quadratic trend, as in nipype's ``TCompCor``.
    """
    values = np.asarray(series[:, n_dummy:], dtype=np.float64)
    if values.shape[0] == 0 or values.shape[1] < 4:
        return np.zeros(len(series), dtype=bool)
    x = np.linspace(-1, 1, values.shape[1])
    trend, _ = np.linalg.qr(np.stack([np.ones_like(x), x, x**2], axis=1))
    spread = np.nan_to_num((values - (values @ trend) @ trend.T).std(axis=1))
    threshold = np.percentile(spread, np.round(100 * (1 - fraction)))
    return (spread >= threshold) & (spread > 0)
