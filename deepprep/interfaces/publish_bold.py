"""Tasks that write the derivatives of BOLD runs; they always run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage

if TYPE_CHECKING:
    from deepprep.bids.records import Run


@stage(cpus=1, mem_gb=0.5, title="Write run", always_run=True)
@python.define(outputs=["record"])
def PublishRun(
    boldref: File,
    mask: File,
    motion: File,
    coreg: File,
    reference_info: File,
    confounds_tsv: File,
    confounds_json: File,
    confounds_info: File,
    coreg_figure: File,
    tsnr: File,
    carpet: File,
    correlation: File,
    variance: File,
    rois: File,
    run: str,
    subject_name: str,
    spaces: list[str],
    fd_spike_mm: float,
    dvars_spike: float,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Reference, masks, transforms, confounds and report of a run.

    Parameters
    ----------
    boldref, ..., rois : File
        Results of the tasks of the run.
    run : str
        JSON of :class:`deepprep.bids.records.Run`.
    subject_name : str
        ``sub-01``.
    spaces : list of str
        Output spaces, for the methods text.
    fd_spike_mm, dvars_spike : float
        Thresholds, for the methods text.
    bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    import numpy as np

    from deepprep.bids.derivatives import bids_uri, derivative_path
    from deepprep.bids.records import run_from_json
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.registration.itk import write_affine
    from deepprep.registration.itk_series import write_affine_series
    from deepprep.registration.transforms import Affine
    from deepprep.reports import methods
    from deepprep.reports.summaries import BoldSummary, Decision, bold_summary

    image = run_from_json(run)
    root = Path(out_dir)
    name = image.name
    delivery = Delivery(root, subject_name, name, run_uuid)
    reference, registered, counted = (read_json(f) for f in (reference_info, coreg, confounds_info))
    source = {"Sources": [bids_uri(image.path, bids_dir)]}

    def path(**names: Any) -> Path:
        return derivative_path(root, image, **{"datatype": "func", **names})

    delivery.put(boldref, path(desc="hmc", suffix="boldref"), source)
    delivery.put(boldref, path(desc="coreg", suffix="boldref"), source)
    delivery.put(mask, path(desc="brain", suffix="mask"), {"Type": "Brain", **source})
    hmc = path(desc="hmc", suffix="xfm", extension=".txt", from_="orig", to="boldref", mode="image")
    affines = np.load(str(motion))["affines"]
    delivery.noted(write_affine_series(hmc, affines), source)
    to_t1w = path(
        desc="coreg", suffix="xfm", extension=".txt", from_="boldref", to="T1w", mode="image"
    )
    matrix = Affine(np.array(registered["t1w_to_bold"]))
    delivery.noted(write_affine(to_t1w, matrix), source)
    table = path(desc="confounds", suffix="timeseries", extension=".tsv")
    delivery.put(confounds_tsv, table)
    delivery.put(confounds_json, table.with_suffix(".json"))

    def shown(desc: str, extension: str = ".svg") -> Path:
        return derivative_path(
            root, image, datatype="figures", suffix="bold", extension=extension, desc=desc
        )

    for file, desc in (
        (coreg_figure, "coreg"),
        (tsnr, "tsnr"),
        (carpet, "carpetplot"),
        (correlation, "confoundcorr"),
        (variance, "compcorvar"),
        (rois, "rois"),
    ):
        delivery.put(file, shown(desc))
    timing, fieldmap = image.slice_timing, image.fieldmap
    n_dummy = reference["n_dummy"]
    dummy_reason = (
        f"given with --dummy-scans ({reference['n_detected']} detected)"
        if reference["given"]
        else "detected by the global signal"
    )
    warnings = []
    if fieldmap.found:
        warnings.append(
            "A field map was found but is not applied yet in this version: susceptibility "
            "distortion is NOT corrected."
        )
    if registered["method"] != "bbr":
        warnings.append(f"Boundary-based registration was not used: {registered['reason']}.")
    summary = BoldSummary(
        name=Path(image.path).name,
        orientation=reference["orientation"],
        shape=reference["shape"],
        zooms_mm=reference["zooms_mm"],
        tr_s=image.tr_s,
        pe_direction=image.metadata.get("PhaseEncodingDirection"),
        slice_timing=Decision("corrected" if timing.apply else "not corrected", timing.reason),
        fieldmap=Decision(
            f"found ({fieldmap.method}), not applied" if fieldmap.found else "none",
            fieldmap.reason,
        ),
        dummy_scans=Decision(str(n_dummy), dummy_reason),
        coregistration=Decision(registered["method"], registered["reason"]),
        metrics={k: v for k, v in counted["quality"].items() if v is not None},
        confounds=counted["columns"],
        warnings=warnings,
    )
    delivery.text(bold_summary(summary), shown("summary", ".html"))
    times = timing.slice_times_s
    steps = [
        methods.bold_reference(n_dummy),
        methods.head_motion(),
        methods.slice_timing(timing.reference_time_s, min(times), max(times))
        if timing.apply
        else methods.slice_timing_skipped(timing.reason.rstrip(".")),
        methods.coregistration(registered["method"]),
        methods.resampling([*dict.fromkeys(spaces)] or ["boldref"]),
        methods.confounds(fd_spike_mm, dvars_spike),
    ]
    if fieldmap.found:
        steps.insert(0, methods.fieldmap_found(fieldmap.method))
    quality = {k: v for k, v in counted["quality"].items() if v is not None}
    return delivery.close(steps=steps, metrics={name: quality})


@stage(cpus=1, mem_gb=0.5, title="Write BOLD", always_run=True)
@python.define(outputs=["record"])
def PublishBoldSpace(
    bold: File,
    boldref: File,
    mask: File,
    entities_of_space: dict[str, str],
    standard: bool,
    run: str,
    subject_name: str,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Preprocessed series, reference and mask of a run in one output space.

    Parameters
    ----------
    bold, boldref, mask : File
        Results of :func:`deepprep.interfaces.bold.ResampleBold`.
    entities_of_space : dict
        ``space`` and so on; empty for the space of the reference itself.
    standard : bool
        Whether the space is a template.
    run : str
        JSON of :class:`deepprep.bids.records.Run`.
    subject_name, bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    from deepprep.bids.derivatives import bids_uri, derivative_path
    from deepprep.bids.records import run_from_json
    from deepprep.interfaces.delivery import Delivery
    from deepprep.reports import methods

    image = run_from_json(run)
    root = Path(out_dir)
    space = "_".join(f"{k}-{v}" for k, v in entities_of_space.items()) or "boldref"
    delivery = Delivery(root, subject_name, f"{image.name}_{space}", run_uuid)

    def path(**names: Any) -> Path:
        return derivative_path(root, image, **{"datatype": "func", **entities_of_space, **names})

    source = {"Sources": [bids_uri(image.path, bids_dir)]}
    delivery.put(bold, path(desc="preproc", suffix="bold"), series_sidecar(image, source))
    if entities_of_space:
        delivery.put(boldref, path(suffix="boldref"), source)
        delivery.put(mask, path(desc="brain", suffix="mask"), {"Type": "Brain", **source})
    steps = [methods.standard_resampling(entities_of_space["space"])] if standard else []
    return delivery.close(steps=steps)


def series_sidecar(image: Run, source: dict[str, Any]) -> dict[str, Any]:
    """Sidecar of a preprocessed series, whatever its space.

    Parameters
    ----------
    image : Run
    source : dict
        ``Sources``.
    """
    timing: dict[str, Any] = {
        "RepetitionTime": image.tr_s,
        "SliceTimingCorrected": image.slice_timing.apply,
        "SkullStripped": False,
        **source,
    }
    if image.slice_timing.apply:
        timing["StartTime"] = image.slice_timing.reference_time_s
    for key in ("TaskName", "EchoTime"):
        if key in image.metadata:
            timing[key] = image.metadata[key]
    return timing
