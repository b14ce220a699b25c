"""Numbers that say how well the preprocessing of a participant went."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from deepprep.image.volume import Volume

TISSUES = {"GM": 1, "WM": 2, "CSF": 3}
"""Values of the ``dseg`` derivative."""


def anatomical_metrics(
    t1w: Volume,
    mask: Volume,
    dseg: Volume,
    *,
    template_overlap: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Measures of the anatomical image and its segmentation.

    Parameters
    ----------
    t1w, mask, dseg : Volume
        Bias-corrected T1w, brain mask, tissue labels (:data:`TISSUES`; inside the
        mask), on one grid.
    template_overlap : mapping, optional
        From :func:`tissue_overlap`; added as ``template_dice_<tissue>``.

    Returns
    -------
    dict
        ``volume_brain_ml``, ``volume_{gm,wm,csf}_ml``; ``cnr``: contrast of grey and white matter
        over their pooled standard deviation and a robust one of what is outside the mask (after
        Magnotta & Friedman 2006); ``snr_gm``, ``snr_wm``: mean over standard deviation in the tissue.
    """
    _same_grid(t1w, mask, dseg)
    voxel_ml = t1w.grid.voxel_volume_mm3 / 1000
    brain = mask.data > 0.5
    out = {"volume_brain_ml": float(np.count_nonzero(brain) * voxel_ml)}
    # One flat gather of the brain, then small arrays: a 0.7 mm head has 40 million voxels.
    intensity, label = t1w.data[brain].astype(np.float64), dseg.data[brain]
    values = {}
    for name, tissue in TISSUES.items():
        values[name] = intensity[label == tissue]
        out[f"volume_{name.lower()}_ml"] = float(values[name].size * voxel_ml)
    grey, white = values["GM"], values["WM"]
    out["snr_gm"], out["snr_wm"] = _ratio(grey), _ratio(white)
    if grey.size and white.size:
        every = (slice(None, None, 3),) * 3
        air = t1w.data[every][~brain[every]].astype(np.float64)
        noise = float(np.median(np.abs(air - np.median(air))) * 1.4826) if air.size else 0.0
        spread = np.sqrt(grey.var() + white.var() + noise**2)
        out["cnr"] = float(abs(white.mean() - grey.mean()) / spread) if spread > 0 else np.nan
    else:
        out["cnr"] = float("nan")
    for name, value in (template_overlap or {}).items():
        out[f"template_dice_{name.lower()}"] = float(value)
    return out


def bold_metrics(
    bold: Volume,
    mask: Volume,
    dseg: Volume,
    confounds: pd.DataFrame,
    *,
    n_dummy: int = 0,
    fd_threshold_mm: float = 0.5,
    dvars_threshold: float = 1.5,
    coregistration_dice: float | None = None,
) -> dict[str, float]:
    """Measures of one BOLD run.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) preprocessed series, any unit.
    mask, dseg : Volume
        Brain mask and tissue labels on the grid of ``bold``.
    confounds : DataFrame
        ``framewise_displacement`` (mm), ``dvars``, ``std_dvars`` are used when present.
    n_dummy : int
        Frames left out at the start.
    fd_threshold_mm, dvars_threshold : float
        Frames above are counted.
    coregistration_dice : float, optional
        Dice of the BOLD and the T1w brain mask in one space (:func:`dice`).

    Returns
    -------
    dict
        ``tsnr_{brain,gm,wm}`` (median), ``fd_mean_mm``, ``fd_max_mm``, ``fd_percent_above``,
        ``dvars_mean``, ``std_dvars_mean``, ``outlier_percent`` (either limit), ``n_frames``,
        ``n_dummy``, ``coregistration_dice``. What cannot be computed is NaN.
    """
    _same_grid(bold, mask, dseg)
    tsnr = temporal_snr(bold, n_dummy)
    inside = mask.data > 0.5
    out: dict[str, float] = {"n_frames": bold.n_frames, "n_dummy": n_dummy}
    regions = {"brain": inside, "gm": dseg.data == TISSUES["GM"], "wm": dseg.data == TISSUES["WM"]}
    for name, region in regions.items():
        values = tsnr.data[region & inside]
        out[f"tsnr_{name}"] = float(np.median(values)) if values.size else float("nan")
    steady = confounds.iloc[n_dummy:]
    fd = _column(steady, "framewise_displacement")
    out["fd_mean_mm"], out["fd_max_mm"] = _mean(fd), float(fd.max()) if fd.size else float("nan")
    out["fd_percent_above"] = 100 * _mean((fd > fd_threshold_mm).astype(float))
    out["dvars_mean"] = _mean(_column(steady, "dvars"))
    out["std_dvars_mean"] = _mean(_column(steady, "std_dvars"))
    flagged = np.zeros(len(steady), dtype=bool)
    for name, limit in (
        ("framewise_displacement", fd_threshold_mm),
        ("std_dvars", dvars_threshold),
    ):
        if name in steady:
            flagged |= steady[name].to_numpy(float) > limit
    out["outlier_percent"] = 100 * _mean(flagged.astype(float))
    if coregistration_dice is not None:
        out["coregistration_dice"] = float(coregistration_dice)
    return out


def temporal_snr(bold: Volume, n_dummy: int = 0) -> Volume:
    """Mean over standard deviation in time after a linear trend is removed, float32.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T).
    n_dummy : int
        Frames left out at the start.

    Returns
    -------
    Volume
        (X, Y, Z); 0 where the series is constant or not positive.
    """
    if bold.data.ndim != 4 or bold.n_frames - n_dummy < 3:
        raise ValueError("the temporal SNR needs at least three frames")
    shape = bold.shape[:3]
    out = np.zeros(shape, dtype=np.float32)
    n_frames = bold.n_frames - n_dummy
    trend = np.linspace(-1, 1, n_frames, dtype=np.float32)
    trend -= trend.mean()
    # Slice by slice, to hold one copy of a slice and not of the series.
    for k in range(shape[2]):
        values = np.nan_to_num(np.asarray(bold.data[:, :, k, n_dummy:], dtype=np.float32))
        mean = values.mean(axis=-1)
        values = values - mean[..., None]
        values -= (values @ trend / (trend @ trend))[..., None] * trend
        sd = values.std(axis=-1)
        good = (mean > 0) & (sd > 1e-6 * np.abs(mean))
        out[:, :, k] = np.where(good, mean / np.where(good, sd, 1), 0)
    return Volume(out, bold.affine)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice overlap of two masks; NaN when both are empty."""
    if first.shape != second.shape:
        raise ValueError(f"masks of shape {first.shape} and {second.shape} cannot be compared")
    a, b = np.asarray(first) > 0.5, np.asarray(second) > 0.5
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else float("nan")


def tissue_overlap(dseg: np.ndarray, template_dseg: np.ndarray) -> dict[str, float]:
    """Dice of each tissue between a segmentation in template space and the template's own."""
    return {name: dice(dseg == value, template_dseg == value) for name, value in TISSUES.items()}


def _ratio(values: np.ndarray) -> float:
    if values.size < 2 or values.std() == 0:
        return float("nan")
    return float(values.mean() / values.std())


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table:
        return np.array([])
    values = table[name].to_numpy(float)
    return values[np.isfinite(values)]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _same_grid(first: Volume, *others: Volume) -> None:
    for other in others:
        if not first.grid.same_as(other.grid):
            raise ValueError(f"images on different grids: {first.shape[:3]} and {other.shape[:3]}")
