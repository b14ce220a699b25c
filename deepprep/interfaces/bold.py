"""Tasks of a BOLD run: reference, head motion, slice timing, coregistration, resampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage

GB = 1e9


def bold_gb(file: File) -> float:
    """Memory of a series as float32, from the size of its file (gzip about 2, int16)."""
    path = Path(str(file))
    ratio = 5.0 if path.suffix == ".gz" else 2.0
    return path.stat().st_size * ratio / GB


def _memory(copies: float) -> Any:
    return lambda task: 1.0 + copies * bold_gb(task.bold)


@stage(cpus=2, mem_gb=_memory(2.5), title="BOLD reference")
@python.define(outputs=["boldref", "info"])
def MakeBoldReference(bold: File, dummy_scans: int | None, label: str) -> tuple[File, File]:
    """Reference volume and number of non-steady-state frames.

    Parameters
    ----------
    bold : File
        Original series.
    dummy_scans : int or None
        ``--dummy-scans``; None counts them.
    label : str
        Run, for messages.
    """
    from deepprep.bold.reference import bold_reference, detect_non_steady_state
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.nifti import load_volume

    series = load_volume(str(bold))
    detected = detect_non_steady_state(series)
    n_dummy = detected if dummy_scans is None else min(dummy_scans, series.n_frames - 1)
    made = bold_reference(series, n_dummy)
    info = {
        "n_dummy": n_dummy,
        "n_detected": detected,
        "given": dummy_scans is not None,
        "frames_used": list(made.frames_used),
        "orientation": "".join(series.grid.axcodes),
        "shape": list(series.shape),
        "zooms_mm": [float(z) for z in series.zooms_mm],
    }
    return keep_volume(made.volume, "boldref.nii"), keep_json(info, "reference.json")


@stage(cpus=2, mem_gb=_memory(3.0), title="Head motion")
@python.define(outputs=["motion"])
def EstimateMotion(bold: File, boldref: File, label: str) -> File:
    """Rigid motion of every frame against the reference (``.npz`` of a HeadMotion)."""
    from deepprep.bold.head_motion import estimate_head_motion
    from deepprep.interfaces.files import keep_arrays
    from deepprep.interfaces.nifti import load_volume

    found = estimate_head_motion(load_volume(str(bold)), load_volume(str(boldref)))
    return keep_arrays(
        "motion.npz",
        affines=found.affines,
        parameters=found.parameters,
        correlation=found.correlation,
        iterations=found.iterations,
    )


@stage(cpus=2, mem_gb=_memory(3.0), title="Slice timing")
@python.define(outputs=["bold"])
def CorrectSliceTiming(
    bold: File,
    info: File,
    slice_times_s: tuple[float, ...],
    axis: int,
    tr_s: float,
    reference_time_s: float,
    label: str,
) -> File:
    """Shift every slice's series to one time within the frame.

    Parameters
    ----------
    bold, info : File
        Original series and what :func:`MakeBoldReference` found.
    slice_times_s : tuple of float
        In the order of the voxel index along ``axis``, s.
    axis : int
        Voxel axis of the slices.
    tr_s, reference_time_s : float
        Seconds.
    label : str
        Run, for messages.
    """
    from deepprep.bold.slice_timing import correct_slice_timing
    from deepprep.interfaces.files import keep_volume, read_json
    from deepprep.interfaces.nifti import load_volume

    times = list(slice_times_s)
    span = max(times) - min(times)
    fraction = (reference_time_s - min(times)) / span if span > 0 else 0.0
    corrected = correct_slice_timing(
        load_volume(str(bold)),
        times,
        tr_s,
        ref_fraction=min(1.0, max(0.0, fraction)),
        direction="ijk"[axis],
        n_dummy=read_json(info)["n_dummy"],
    )
    return keep_volume(corrected, "bold_stc.nii", tr_s=tr_s)


@stage(cpus=2, mem_gb=3.0, gpu=True, title="Coregistration")
@python.define(outputs=["coreg", "mask", "boldref_t1w", "figure"])
def Coregister(
    boldref: File,
    t1w: File,
    t1w_mask: File,
    wm: File,
    dseg: File,
    device: str,
    label: str,
) -> tuple[File, File, File, File]:
    """Rigid map between the BOLD reference and the T1w, and the brain mask of the BOLD.

    Returns
    -------
    coreg : File
        JSON with ``t1w_to_bold`` (4x4, T1w RAS mm -> boldref RAS mm), method, reason, costs.
    mask : File
        Brain mask on the reference's lattice.
    boldref_t1w, figure : File
        Reference resampled to the T1w for the figure; the figure.
    """
    import numpy as np

    from deepprep.bold.brain_mask import bold_brain_mask
    from deepprep.errors import StageError
    from deepprep.image.output_grid import regrid
    from deepprep.image.resample import resample
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.nifti import load_volume
    from deepprep.quality.metrics import dice
    from deepprep.registration.coregister import coregister_bold
    from deepprep.reports.figures import plot_coregistration

    reference = load_volume(str(boldref))
    head = load_volume(str(t1w))
    brain_mask = load_volume(str(t1w_mask))
    brain = head.like(np.where(brain_mask.data > 0.5, head.data, 0).astype(np.float32))
    first_mask = bold_brain_mask(reference)
    if not first_mask.data.any():
        raise StageError(f"{label}: no brain was found in the BOLD reference; check the run.")
    white = load_volume(str(wm))
    found = coregister_bold(
        reference,
        first_mask.like(first_mask.data.astype(np.float32)),
        brain,
        white,
        device=device,
    )
    to_t1w = found.t1w_to_bold.inverse()
    prior = resample(brain_mask, reference.grid, to_t1w, "linear")
    mask = bold_brain_mask(reference, prior)
    info = {
        "t1w_to_bold": found.t1w_to_bold.matrix,
        "method": found.method,
        "reason": found.reason,
        "cost_init": found.cost_init,
        "cost_final": found.cost_final,
        "mask_dice": dice(mask.data > 0, prior.data > 0.5),
    }
    view = regrid(head.grid, np.full(3, 1.5), brain_mask.data > 0.5)
    in_t1w = resample(reference, view, found.t1w_to_bold, "linear")
    labels = load_volume(str(dseg), np.uint8)
    figure = plot_coregistration(
        in_t1w,
        resample(head, view, None, "linear"),
        labels.like((labels.data == 2).astype(np.float32)),
        Path.cwd() / "coreg.svg",
        mask=brain_mask,
    )
    return (
        keep_json(info, "coreg.json"),
        keep_volume(mask.like(mask.data.astype(np.uint8)), "mask.nii"),
        keep_volume(in_t1w, "boldref_t1w.nii"),
        File(figure),
    )


@stage(cpus=2, mem_gb=lambda task: 2.5 + 8.0 * bold_gb(task.bold), title="Resampling")
@python.define(outputs=["resampled", "boldref", "mask"])
def ResampleBold(
    bold: File,
    original: File,
    boldref: File,
    mask: File,
    motion: File,
    coreg: File,
    tr_s: float,
    space: str,
    anatomy: File | None,
    anatomy_mask: File | None,
    to_space: File | None,
    native: bool,
    label: str,
) -> tuple[File, File, File]:
    """One interpolation from the original frames to an output space.

    Parameters
    ----------
    bold : File
        Series after slice timing (or the original).
    original : File
        Original series: its on-disk type is that of the result.
    boldref, mask, motion, coreg : File
        Of the run.
    tr_s : float
        Seconds.
    space : str
        ``boldref``, ``T1w``, or a template's name.
    anatomy, anatomy_mask : File or None
        T1w or template image that gives the lattice, and its brain mask; None for boldref.
    to_space : File or None
        ITK composite from T1w to the template; None for boldref and T1w.
    native : bool
        Voxels as in the run, on the field of view of ``anatomy``.
    label : str
        Run, for messages.
    """
    import numpy as np

    from deepprep.bold.resampling import resample_bold
    from deepprep.image.output_grid import regrid, zooms_in_ras_order
    from deepprep.image.resample import resample
    from deepprep.interfaces.files import keep_volume, read_json
    from deepprep.interfaces.nifti import load_volume, series_dtype
    from deepprep.registration.itk import read_composite
    from deepprep.registration.transforms import Affine, Chain

    reference = load_volume(str(boldref))
    t1w_to_bold = Affine(np.array(read_json(coreg)["t1w_to_bold"]))
    steps: list[Any] = []
    if to_space is not None:
        steps += read_composite(str(to_space)).steps
    if space != "boldref":
        steps.append(t1w_to_bold)
    to_boldref = Chain(steps) if steps else None
    inside: np.ndarray | None = None
    if anatomy is None:
        grid = reference.grid
    else:
        image = load_volume(str(anatomy))
        brain = load_volume(str(anatomy_mask)) if anatomy_mask is not None else None
        grid = image.grid
        if native:
            # Along the axes of the anatomy, which is RAS in our derivatives.
            cut = brain.data > 0.5 if brain is not None and space == "T1w" else None
            grid = regrid(grid, zooms_in_ras_order(reference.grid), cut)
        if brain is not None:
            inside = resample(brain, grid, None, "linear").data > 0.5
    series = load_volume(str(bold))
    affines = np.load(str(motion))["affines"]
    dtype = series_dtype(str(original), series.data)
    moved = resample_bold(series, affines, grid, to_boldref, dtype=dtype.name)
    code = 4 if to_space is not None else 1
    moved_ref = resample(reference, grid, to_boldref, "linear")
    moved_mask = resample(load_volume(str(mask)), grid, to_boldref, "linear").data > 0.5
    if inside is not None:
        moved_mask &= inside
    return (
        keep_volume(moved, "bold.nii.gz", dtype=dtype, tr_s=tr_s, code=code),
        keep_volume(moved_ref, "boldref.nii.gz", code=code),
        keep_volume(moved_ref.like(moved_mask.astype(np.uint8)), "mask.nii.gz", code=code),
    )


@stage(cpus=2, mem_gb=lambda task: 2.0 + 5.0 * bold_gb(task.bold), title="Confounds")
@python.define(outputs=["tsv", "json", "info", "tsnr", "carpet", "correlation", "variance", "rois"])
def ComputeConfounds(
    bold: File,
    mask: File,
    boldref: File,
    reference_info: File,
    motion: File,
    coreg: File,
    gm: File,
    wm: File,
    csf: File,
    dseg: File,
    tr_s: float,
    fd_spike_mm: float,
    dvars_spike: float,
    label: str,
) -> tuple[File, File, File, File, File, File, File, File]:
    """Confounds table of the run, its quality measures and its figures.

    Parameters
    ----------
    bold : File
        Resampled series in the reference's space.
    mask, boldref, reference_info, motion, coreg : File
        Of the run.
    gm, wm, csf, dseg : File
        Tissues of the T1w.
    tr_s, fd_spike_mm, dvars_spike : float
        Repetition time in s; outlier thresholds.
    label : str
        Run, for messages.
    """
    import numpy as np
    from scipy import ndimage

    from deepprep.bold.compcor_masks import acompcor_masks
    from deepprep.bold.confounds import confounds
    from deepprep.bold.head_motion import HeadMotion
    from deepprep.image.resample import resample
    from deepprep.interfaces.files import keep_json, read_json
    from deepprep.interfaces.nifti import load_volume
    from deepprep.quality.metrics import bold_metrics, temporal_snr
    from deepprep.registration.transforms import Affine
    from deepprep.reports.charts import CARPET_LABELS
    from deepprep.reports.figures import (
        plot_carpet,
        plot_compcor_variance,
        plot_confound_correlation,
        plot_rois,
        plot_tsnr,
    )

    series = load_volume(str(bold))
    brain_mask = load_volume(str(mask), np.uint8)
    bold_to_t1w = Affine(np.array(read_json(coreg)["t1w_to_bold"])).inverse()
    moved = HeadMotion(**dict(np.load(str(motion))))
    n_dummy = read_json(reference_info)["n_dummy"]
    grey, white, fluid = (load_volume(str(f)) for f in (gm, wm, csf))
    regions = acompcor_masks(grey, white, fluid, brain_mask, bold_to_t1w)
    table = confounds(
        series, brain_mask, moved, tr_s, acompcor_masks=regions, n_dummy=n_dummy,
        fd_spike_mm=fd_spike_mm, dvars_spike=dvars_spike,
    )  # fmt: skip
    here = Path.cwd()
    tsv, sidecar = here / "confounds.tsv", here / "confounds.json"
    tsv.write_text(table.to_tsv())
    sidecar.write_text(table.to_json())

    inside = brain_mask.data > 0
    labels = resample(load_volume(str(dseg), np.uint8), series.grid, bold_to_t1w, "label").data
    carpet = np.zeros(inside.shape, dtype=np.uint8)
    for name, value in (("GM", 1), ("WM", 2), ("CSF", 3)):
        carpet[inside & (labels == value)] = CARPET_LABELS[name]
    if "Edge" in CARPET_LABELS:
        crown = ndimage.binary_dilation(inside, iterations=2) & ~inside
        carpet[crown] = CARPET_LABELS["Edge"]
    quality = bold_metrics(
        series, brain_mask, brain_mask.like(np.where(inside, labels, 0)), table.frame,
        n_dummy=n_dummy, fd_threshold_mm=fd_spike_mm, dvars_threshold=dvars_spike,
        coregistration_dice=read_json(coreg)["mask_dice"],
    )  # fmt: skip
    info = {
        "quality": quality,
        "columns": list(table.frame.columns),
        "region_voxels": {k: int(v.data.sum()) for k, v in regions.items()},
    }
    tsnr = temporal_snr(series, n_dummy)
    figures = [
        plot_tsnr(tsnr, brain_mask, here / "tsnr.svg"),
        plot_carpet(
            series, carpet, table.frame, tr_s, here / "carpet.svg", n_dummy=n_dummy,
            fd_threshold_mm=fd_spike_mm, dvars_threshold=dvars_spike,
        ),
        plot_confound_correlation(tsv, here / "correlation.svg", n_dummy=n_dummy),
        plot_compcor_variance(sidecar, here / "variance.svg"),
        plot_rois(
            load_volume(str(boldref)),
            {
                "brain mask": brain_mask,
                "CSF": regions["CSF"].like(regions["CSF"].data.astype(np.uint8)),
                "white matter": regions["WM"].like(regions["WM"].data.astype(np.uint8)),
                "tCompCor": table.tcompcor_mask.like(table.tcompcor_mask.data.astype(np.uint8)),
            },
            here / "rois.svg",
        ),
    ]  # fmt: skip
    return (
        File(tsv),
        File(sidecar),
        keep_json(info, "confounds_info.json"),
        File(figures[0]),
        File(figures[1]),
        File(figures[2]),
        File(figures[3]),
        File(figures[4]),
    )
