"""How far derivatives are from the truth of a phantom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepprep.errors import InputError
from deepprep.image.resample import resample
from deepprep.interfaces.nifti import load_volume
from deepprep.phantom.activation_score import score_activation
from deepprep.registration.itk import read_affine
from deepprep.registration.itk_series import read_affine_series

LIMITS = {
    "motion_rms_mm": 0.1,
    "motion_rms_deg": 0.1,
    "coregistration_mean_mm": 1.0,
}
"""What the demo must reach."""

NOT_COMPUTED = "not computed by this run"


@dataclass(frozen=True)
class Truth:
    """What is known of a phantom.

    Parameters
    ----------
    folder : Path
        ``sourcedata/truth``.
    t1w_to_bold : (4, 4) array
        T1w points to BOLD points, head at rest.
    frame_poses : (T, 4, 4) array
        BOLD points, head at rest, to points in frame t.
    motion : (T, 6) array
        The same as mm and rad.
    brain_points : (N, 3) array
        RAS mm in BOLD space, head at rest, evenly spread in the brain.
    """

    folder: Path
    t1w_to_bold: np.ndarray
    frame_poses: np.ndarray
    motion: np.ndarray
    brain_points: np.ndarray


def score_phantom(
    phantom_dir: str | os.PathLike, derivatives_dir: str | os.PathLike, *, show: bool = True
) -> dict[str, float | str]:
    """Compare fMRIPrep-named derivatives with a phantom's truth.

    Parameters
    ----------
    phantom_dir : path-like
        Made by :func:`deepprep.phantom.make_phantom`.
    derivatives_dir : path-like
        Output folder of a pipeline that ran on it.
    show : bool
        Print a small table.

    Returns
    -------
    dict
        Name (with unit) to number, or a sentence where a derivative is missing.

    Raises
    ------
    InputError
        ``phantom_dir`` holds no truth.

    Notes
    -----
    A motion estimate is relative to the pipeline's own reference image, whose pose is one the
    pipeline is free to choose. So the reference's pose D (rest to boldref) is taken as the rigid
    mean of ``inverse(estimate[t]) @ truth[t]``, and the motion error is what is left:
    ``estimate[t] @ D`` against ``truth[t]``. Nothing is left free in the coregistration error:
    T1w points go through the estimate, and through the truth followed by the same D; the two must
    meet. A pipeline cannot gain by a wrong D, because one that flatters motion spoils this.
    """
    truth = read_truth(Path(phantom_dir))
    func = Path(derivatives_dir) / "sub-01" / "func"
    scores: dict[str, float | str] = {}
    reference_pose = None
    hmc = _find(func, "*_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt")
    if hmc:
        estimate = read_affine_series(hmc)
        if len(estimate) != len(truth.frame_poses):
            raise InputError(
                f"{hmc} holds {len(estimate)} transforms and the phantom {len(truth.frame_poses)} "
                "frames: give the derivatives of this phantom."
            )
        reference_pose = rigid_mean(np.linalg.inv(estimate) @ truth.frame_poses)
        scores |= motion_errors(estimate @ reference_pose, truth)
    else:
        scores["motion_rms_mm"] = NOT_COMPUTED
    coreg = _find(func, "*_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt")
    if coreg:
        # Without head motion estimates the reference is taken to be the head at rest.
        pose = np.eye(4) if reference_pose is None else reference_pose
        scores |= coregistration_errors(read_affine(coreg).matrix, pose, truth)
    else:
        scores["coregistration_mean_mm"] = NOT_COMPUTED
    confounds = _find(func, "*_desc-confounds_timeseries.tsv")
    table = pd.read_csv(confounds, sep="\t", na_values="n/a") if confounds else None
    if table is not None:
        scores |= confound_agreement(table, truth, Path(phantom_dir))
    scores |= field_errors(Path(derivatives_dir) / "sub-01" / "fmap", truth)
    scores |= score_activation(func, truth.folder, table)
    if show:
        print(format_scores(scores))
    return scores


def read_truth(phantom_dir: Path) -> Truth:
    """Read ``sourcedata/truth`` of a phantom."""
    folder = phantom_dir / "sourcedata" / "truth"
    if not (folder / "frame_poses.npy").is_file():
        raise InputError(f"{phantom_dir} holds no sourcedata/truth: give a phantom's folder.")
    mask = load_volume(folder / "brain_mask.nii.gz")
    inside = np.argwhere(mask.data > 0)
    points = inside[:: max(1, len(inside) // 3000)] @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    return Truth(
        folder,
        np.loadtxt(folder / "t1w_to_bold.txt"),
        np.load(folder / "frame_poses.npy"),
        pd.read_csv(folder / "motion.tsv", sep="\t").to_numpy(),
        points,
    )


def rigid_mean(matrices: np.ndarray) -> np.ndarray:
    """(N, 4, 4) rigid maps -> their mean (median shift of the origin, chordal mean rotation).

    The median keeps one badly estimated frame from moving the mean.
    """
    u, _, vt = np.linalg.svd(np.median(matrices[:, :3, :3], axis=0))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    mean = np.eye(4)
    mean[:3, :3] = turn
    mean[:3, 3] = np.median(matrices[:, :3, 3], axis=0)
    return mean


def motion_errors(estimate: np.ndarray, truth: Truth) -> dict[str, float]:
    """RMS over frames of the mean displacement error over the brain, and of the angle."""
    points = np.c_[truth.brain_points, np.ones(len(truth.brain_points))]
    gap = (estimate - truth.frame_poses) @ points.T
    mean_mm = np.linalg.norm(gap[:, :3], axis=1).mean(axis=1)
    turn = np.linalg.inv(estimate)[:, :3, :3] @ truth.frame_poses[:, :3, :3]
    # The norm of the antisymmetric part is accurate for small angles, unlike arccos of the trace.
    skew = turn - np.transpose(turn, (0, 2, 1))
    sine = np.linalg.norm(skew, axis=(1, 2)) / np.sqrt(8.0)
    degrees = np.rad2deg(np.arcsin(np.clip(sine, 0, 1)))
    return {
        "motion_rms_mm": float(np.sqrt((mean_mm**2).mean())),
        "motion_max_mm": float(mean_mm.max()),
        "motion_rms_deg": float(np.sqrt((degrees**2).mean())),
        "motion_max_deg": float(degrees.max()),
    }


def coregistration_errors(
    t1w_to_boldref: np.ndarray, reference_pose: np.ndarray, truth: Truth
) -> dict[str, float]:
    """Distance over the brain between where T1w points go and where they should."""
    points = np.c_[truth.brain_points, np.ones(len(truth.brain_points))]
    t1w_points = points @ np.linalg.inv(truth.t1w_to_bold).T
    right = t1w_points @ (reference_pose @ truth.t1w_to_bold).T
    mm = np.linalg.norm((t1w_points @ t1w_to_boldref.T - right)[:, :3], axis=1)
    return {"coregistration_mean_mm": float(mm.mean()), "coregistration_max_mm": float(mm.max())}


def confound_agreement(
    table: pd.DataFrame, truth: Truth, phantom_dir: Path
) -> dict[str, float | str]:
    """Smallest |correlation| of a motion parameter with the truth, in the axes of the voxels.

    The sign and the centre of rotation are conventions (FSL's in fMRIPrep's table), so the size
    of the correlation is compared.
    """
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    if not set(names) <= set(table.columns) or len(table) != len(truth.motion):
        return {"confound_motion_min_correlation": NOT_COMPUTED}
    bold = next((phantom_dir / "sub-01" / "func").glob("*_bold.nii.gz"))
    axes = load_volume(bold, dtype=None).affine[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    right = np.c_[truth.motion[:, :3] @ axes, truth.motion[:, 3:] @ axes]
    if right.std(axis=0).min() < 1e-6:
        return {"confound_motion_min_correlation": "no motion in the phantom"}
    found = table[names].to_numpy()
    r = [abs(np.corrcoef(found[:, k], right[:, k])[0, 1]) for k in range(6)]
    return {"confound_motion_min_correlation": float(np.min(r))}


def field_errors(fmap: Path, truth: Truth) -> dict[str, float | str]:
    """RMS difference in Hz over the brain, once a field map derivative exists."""
    files = sorted(fmap.glob("*_fieldmap.nii.gz")) if fmap.is_dir() else []
    if not files:
        return {"field_rms_hz": NOT_COMPUTED}
    right = load_volume(truth.folder / "fieldmap_hz.nii.gz")
    brain = load_volume(truth.folder / "brain_mask.nii.gz").data > 0
    found = load_volume(files[0])
    inside = resample(found.like(np.ones(found.shape, np.float32)), right.grid, None, "linear")
    use = brain & (inside.data > 0.99)
    gap = (resample(found, right.grid, None, "linear").data - right.data)[use]
    return {
        "field_rms_hz": float(np.sqrt((gap**2).mean())),
        "field_median_error_hz": float(np.median(np.abs(gap))),
    }


def format_scores(scores: dict[str, float | str]) -> str:
    """The scores as lines of text, with the limit and the verdict where there is one."""
    lines = ["Error against the truth of the phantom"]
    for name, value in scores.items():
        text = f"{value:10.3f}" if isinstance(value, float) else f"  {value}"
        limit = LIMITS.get(name)
        if limit is not None and isinstance(value, float):
            text += f"   (at most {limit}: {'ok' if value <= limit else 'NOT MET'})"
        lines.append(f"  {name:34s}{text}")
    return "\n".join(lines)


def _find(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    return found[0] if found else None
