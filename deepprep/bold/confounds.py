"""The confounds table of a BOLD run, with fMRIPrep's columns, order and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprep.bold.compcor import (
    VARIANCE_RETAINED,
    NoiseComponents,
    cosine_basis,
    high_variance_voxels,
    noise_components,
)
from deepprep.bold.dvars import compute_dvars
from deepprep.bold.head_motion import HeadMotion
from deepprep.bold.motion_parameters import framewise_displacement, rms_displacement
from deepprep.image.volume import Volume

MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""The six rigid-body parameters."""

EXPANDED_SIGNALS = ("global_signal", "csf", "white_matter")
"""Mean signals that get derivatives and squares (Satterthwaite et al. 2013)."""

FD_SPIKE_MM = 0.5
"""Framewise displacement above which a frame is an outlier."""

DVARS_SPIKE = 1.5
"""Standardised DVARS above which a frame is an outlier."""

ACOMPCOR_PREFIX = {"CSF": "c", "WM": "w", "combined": "a"}
"""Mask to first letter of its columns, in the order of the columns."""


@dataclass(frozen=True)
class ConfoundsTable:
    """Confounds of a run.

    Parameters
    ----------
    frame : DataFrame
        One row a frame, fMRIPrep's columns; NaN where a value does not exist.
    metadata : dict
        Column -> description (``Method``; for CompCor also ``Mask``, ``SingularValue``,
        ``VarianceExplained``, ``CumulativeVarianceExplained``, ``Retained``; components not
        retained are ``dropped_N``).
    tcompcor_mask : Volume
        Voxels that tCompCor took.
    """

    frame: pd.DataFrame
    metadata: dict[str, dict]
    tcompcor_mask: Volume

    def to_tsv(self) -> str:
        """Content of the ``_timeseries.tsv`` file (missing values ``n/a``)."""
        return self.frame.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")

    def to_json(self) -> str:
        """Content of the ``_timeseries.json`` file."""
        return json.dumps(self.metadata, indent=4, sort_keys=True) + "\n"


def confounds(
    bold: Volume,
    brain_mask: Volume,
    head_motion: HeadMotion,
    tr_s: float,
    *,
    acompcor_masks: Mapping[str, Volume] | None = None,
    n_dummy: int = 0,
    fd_spike_mm: float = FD_SPIKE_MM,
    dvars_spike: float = DVARS_SPIKE,
    all_components: bool = False,
) -> ConfoundsTable:
    """Nuisance regressors of a run.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) preprocessed frames in the reference's space.
    brain_mask : Volume
        On the same lattice.
    head_motion : HeadMotion
        Of the run.
    tr_s : float
        Repetition time in seconds.
    acompcor_masks : dict of Volume, optional
        'CSF', 'WM' and 'combined' (:func:`deepprep.bold.compcor_masks.acompcor_masks`);
        without them (no anatomy) csf, white_matter and aCompCor are left out.
    n_dummy : int
        Non-steady-state frames at the start.
    fd_spike_mm, dvars_spike : float
        Thresholds of the motion outliers (either one exceeded).
    all_components : bool
        Write all CompCor components, not only those that explain half of the variance.

    Returns
    -------
    ConfoundsTable

    Raises
    ------
    ValueError
        When lattices or lengths differ, or the mask is empty.
    """
    masks = {"brain": brain_mask, **(acompcor_masks or {})}
    for name, mask in masks.items():
        if mask.shape != bold.shape[:3]:
            raise ValueError(f"{name} mask {mask.shape} does not fit the series {bold.shape}")
    if len(head_motion.affines) != bold.n_frames:
        raise ValueError(f"{len(head_motion.affines)} motion affines for {bold.n_frames} frames")
    inside = brain_mask.data > 0
    if not inside.any():
        raise ValueError("the BOLD brain mask is empty")
    brain = bold.data[inside]
    variance = None if all_components else VARIANCE_RETAINED

    noisy = high_variance_voxels(brain, n_dummy)
    tcompcor_mask = np.zeros(inside.shape, dtype=bool)
    tcompcor_mask[inside] = noisy
    regions = {name: bold.data[mask.data > 0] for name, mask in (acompcor_masks or {}).items()}

    table: dict[str, np.ndarray] = {}
    signals = {"global_signal": brain, "csf": regions.get("CSF"), "white_matter": regions.get("WM"),
               "csf_wm": regions.get("combined"), "tcompcor": brain[noisy]}  # fmt: skip
    metadata: dict[str, dict] = {}
    for name, series in signals.items():
        if series is None:
            continue
        mean = _mean_signal(series)
        table.update(_expanded(name, mean) if name in EXPANDED_SIGNALS else {name: mean})
        metadata[name] = {"Method": "Mean"}

    dvars = compute_dvars(brain)
    table["std_dvars"] = dvars.std_dvars
    table["dvars"] = dvars.dvars
    table["framewise_displacement"] = framewise_displacement(head_motion.parameters)
    table["rmsd"] = rms_displacement(head_motion.affines, bold.grid)

    dropped = 0
    found = noise_components(brain[noisy], tr_s, n_dummy, variance=variance)
    dropped = _add_components(table, metadata, found, "t", "tCompCor", None, dropped)
    for name, letter in ACOMPCOR_PREFIX.items():
        if name in regions:
            found = noise_components(regions[name], tr_s, n_dummy, variance=variance)
            dropped = _add_components(table, metadata, found, letter, "aCompCor", name, dropped)

    n_frames = bold.n_frames
    for n, cosine in enumerate(cosine_basis(n_frames - n_dummy, tr_s).T):
        table[f"cosine{n:02d}"] = np.r_[np.zeros(n_dummy), cosine]
    for n in range(n_dummy):
        table[f"non_steady_state_outlier{n:02d}"] = np.eye(n_frames)[n]
    for name, parameter in zip(MOTION_COLUMNS, head_motion.parameters.T, strict=True):
        table.update(_expanded(name, parameter))
    spikes = motion_outliers(table["framewise_displacement"], table["std_dvars"], fd_spike_mm,
                             dvars_spike)  # fmt: skip
    for n, frame in enumerate(spikes):
        table[f"motion_outlier{n:02d}"] = np.eye(n_frames)[frame]
    return ConfoundsTable(pd.DataFrame(table), metadata, brain_mask.like(tcompcor_mask))


def motion_outliers(
    fd_mm: np.ndarray,
    std_dvars: np.ndarray,
    fd_spike_mm: float = FD_SPIKE_MM,
    dvars_spike: float = DVARS_SPIKE,
) -> np.ndarray:
    """Frames (indices) above either threshold; a missing value exceeds nothing."""
    return np.flatnonzero((np.nan_to_num(fd_mm) > fd_spike_mm)
                          | (np.nan_to_num(std_dvars) > dvars_spike))  # fmt: skip


def _mean_signal(series: np.ndarray) -> np.ndarray:
    if len(series) == 0:
        return np.full(series.shape[1], np.nan)
    return np.nan_to_num(series).mean(axis=0, dtype=np.float64)


def _expanded(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """A regressor, its backward difference, and the squares of both."""
    change = np.r_[np.nan, np.diff(values)]
    return {
        name: values,
        f"{name}_derivative1": change,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": change**2,
    }


def _add_components(
    table: dict[str, np.ndarray],
    metadata: dict[str, dict],
    found: NoiseComponents,
    letter: str,
    method: str,
    mask: str | None,
    n_dropped: int,
) -> int:
    for n, component in enumerate(found.components.T):
        table[f"{letter}_comp_cor_{n:02d}"] = component
    for n in range(len(found.singular_value)):
        retained = n < found.n_retained
        if retained:
            column = f"{letter}_comp_cor_{n:02d}"
        else:
            # Numbered over all decompositions, else those of one would overwrite another's.
            column = f"dropped_{n_dropped}"
            n_dropped += 1
        metadata[column] = {
            "CumulativeVarianceExplained": float(found.cumulative_variance_explained[n]),
            "Method": method,
            "Retained": retained,
            "SingularValue": float(found.singular_value[n]),
            "VarianceExplained": float(found.variance_explained[n]),
        }
        if mask is not None:
            metadata[column]["Mask"] = mask
    return n_dropped
