"""Does the activation that was put in come out? A plain GLM on the preprocessed BOLD run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume

SMOOTH_FWHM_MM = 6.0
"""Smoothing of the estimated and of the true map before they are compared, as usual in a GLM."""

FIRST_FRAMES = 4
"""Frames left out of the signal-to-noise ratio: the phantom's first are not in steady state."""

NOT_COMPUTED = "not computed by this run"


def score_activation(
    func: Path, truth: Path, confounds: pd.DataFrame | None
) -> dict[str, float | str]:
    """Correlation of GLM maps with the true ones, and temporal signal-to-noise ratio.

    Parameters
    ----------
    func : Path
        Folder with ``*_space-T1w_*desc-preproc_bold.nii.gz``.
    truth : Path
        ``sourcedata/truth``.
    confounds : DataFrame or None
        fMRIPrep's table; motion, cosines and non-steady-state columns enter the GLM.

    Returns
    -------
    dict
        ``activation_<condition>_correlation`` over the brain, ``activation_correlation`` (their
        mean), ``tsnr_grey_median``.
    """
    files = sorted(func.glob("*_space-T1w_*desc-preproc_bold.nii.gz")) if func.is_dir() else []
    if not files:
        return {"activation_correlation": NOT_COMPUTED}
    bold = load_volume(files[0])
    design = pd.read_csv(truth / "design.tsv", sep="\t")
    conditions = [c for c in design.columns if c != "drift"]
    gm = resample(load_volume(truth / "label-GM_probseg.nii.gz"), bold.grid, None, "linear").data
    brain = resample(load_volume(truth / "T1w_brain_mask.nii.gz"), bold.grid, None, "linear").data
    mean = bold.data.mean(axis=3)
    use = (brain > 0.5) & (mean > 0.2 * np.percentile(mean[brain > 0.5], 90))
    scores: dict[str, float | str] = {}
    percent = fit_glm(bold.data[use], design[conditions].to_numpy(), nuisance(confounds, bold))
    for k, condition in enumerate(conditions):
        right = load_volume(truth / f"desc-{condition}_activation.nii.gz")
        # The true map is finer than the BOLD voxels: blur it as they do before sampling it.
        own = bold.zooms_mm.mean() / right.zooms_mm.mean() / np.sqrt(12.0)
        right = right.like(ndimage.gaussian_filter(right.data, float(own)))
        expected = resample(right, bold.grid, None, "linear").data
        found = np.zeros(use.shape, dtype=np.float32)
        found[use] = percent[k]
        smooth = [_smooth_inside(m, use, SMOOTH_FWHM_MM / bold.zooms_mm) for m in (found, expected)]
        r = np.corrcoef(smooth[0][use], smooth[1][use])[0, 1]
        scores[f"activation_{condition}_correlation"] = float(r)
    scores["activation_correlation"] = float(np.mean([float(v) for v in scores.values()]))
    steady = bold.data[use & (gm > 70)][:, FIRST_FRAMES:]
    if len(steady):
        scores["tsnr_grey_median"] = float(
            np.median(steady.mean(axis=1) / np.maximum(steady.std(axis=1), 1e-6))
        )
    return scores


def _smooth_inside(data: np.ndarray, mask: np.ndarray, fwhm_vox: np.ndarray) -> np.ndarray:
    """Gaussian smoothing that takes nothing from outside the mask."""
    sigma = fwhm_vox / np.sqrt(8 * np.log(2))
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    return ndimage.gaussian_filter(data * mask, sigma) / np.maximum(weight, 1e-3)


def fit_glm(series: np.ndarray, task: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Ordinary least squares; percent signal change of each task column.

    Parameters
    ----------
    series : (N, T) array
    task : (T, K) array
    other : (T, M) array
        Nuisance columns, without the constant.

    Returns
    -------
    (K, N) array
    """
    ones = np.ones((len(task), 1))
    weights, *_ = np.linalg.lstsq(np.hstack([task, ones, other]), series.T, rcond=None)
    return 100 * weights[: task.shape[1]] / np.maximum(weights[task.shape[1]], 1e-6)


def nuisance(confounds: pd.DataFrame | None, bold: Volume) -> np.ndarray:
    """Motion, cosines, non-steady-state columns, centred.

    Where there is no table: a trend, and the first frames one by one.
    """
    if confounds is None or len(confounds) != bold.n_frames:
        return np.c_[np.linspace(-1, 1, bold.n_frames), np.eye(bold.n_frames, FIRST_FRAMES)]
    motion = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    prefixes = ("cosine", "non_steady_state_outlier")
    names = [c for c in confounds.columns if c in motion or c.startswith(prefixes)]
    columns = confounds[names].fillna(0).to_numpy(dtype=float)
    keep = columns.std(axis=0) > 0
    columns = columns[:, keep] - columns[:, keep].mean(axis=0)
    return columns / columns.std(axis=0)
