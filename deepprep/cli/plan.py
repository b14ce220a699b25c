"""``--dry-run``: what would be done for each participant and run, by what, and why."""

from __future__ import annotations

from collections.abc import Sequence

from deepprep.bids.fieldmaps import describe, describe_rejected
from deepprep.bids.lesions import FILLED_WITH
from deepprep.bids.problems import Problem
from deepprep.bids.records import Run, SubjectInputs
from deepprep.bids.spaces import OutputSpace, parse_spaces
from deepprep.cli.estimates import Estimate, anatomical, functional
from deepprep.config import Settings


def plan_text(
    settings: Settings,
    subjects: Sequence[SubjectInputs],
    usable: Sequence[SubjectInputs],
    problems: Sequence[Problem],
) -> str:
    """The plan as plain text.

    Parameters
    ----------
    settings : Settings
    subjects, usable : sequences of SubjectInputs
        All that were found, and what of them can be processed.
    problems : sequence of Problem
    """
    spaces = parse_spaces(settings.output_spaces)
    errors = [p for p in problems if p.is_error]
    good = {s.name: s for s in usable}
    lines = [
        "Plan (nothing is computed)",
        f"  data set    {settings.bids_dir}",
        f"  output      {settings.out_dir}",
        f"  spaces      {', '.join(map(str, spaces)) or 'none (no resampled BOLD)'}",
        f"  machine     {settings.nprocs} CPU threads, device {settings.device}",
    ]
    total = Estimate(0.0, 0.0, 0.0, 0.0)
    for subject in subjects:
        lines += ["", subject.name]
        mine = [p for p in errors if p.subject == subject.name]
        lines += [f"  FAILED      {p.sentence()}" for p in mine]
        if subject.name not in good:
            lines.append("  nothing is done for this participant")
            continue
        text, estimate = _subject(good[subject.name], spaces, settings)
        lines += text
        total = total + estimate
    lines += [
        "",
        f"Total: about {_minutes(total.cpu_minutes / _speed_up(settings))}, "
        f"{total.memory_gb:.1f} GB of memory at once, {total.output_gb:.1f} GB of output, "
        f"{total.work_gb:.1f} GB in the work folder",
        f"       (a rough model, on {settings.nprocs} CPU threads without GPU; see docs/usage.md)",
    ]
    return "\n".join(lines)


def _subject(
    subject: SubjectInputs, spaces: Sequence[OutputSpace], settings: Settings
) -> tuple[list[str], Estimate]:
    templates = list(dict.fromkeys(s.template_id for s in spaces if s.standard))
    names = ", ".join(i.name for i in subject.t1w)
    reference = "as it is" if len(subject.t1w) == 1 else "unbiased robust average, rigid"
    skull = {
        "auto": "deepbet network (kept as it is when already stripped)",
        "force": "deepbet network",
        "skip": "the non-zero voxels (--skull-strip-t1w skip)",
    }[settings.skull_strip_t1w]
    lines = [
        f"  anatomy     {len(subject.t1w)} T1w: {names}",
        f"    reference       {reference}",
        "    bias field      N4 (SimpleITK)",
        f"    brain mask      {skull}",
        f"    segmentation    {_segmentation(settings)}",
        "    tissues         posteriors and local intensities, partial volume",
        "    surfaces        "
        + (
            f"white and pial, FreeSurfer files and GIFTI; {_surface_source(settings, subject)}"
            if settings.surf_recon == "on"
            else "none (--surf-recon off)"
        ),
        "    spheres         "
        + (
            f"registered to fsaverage and fsLR; parcels of {_parcellations(settings)}"
            if settings.surf_recon == "on"
            else "none (--surf-recon off)"
        ),
        "    normalisation   "
        + (
            f"{_normalisation(settings)} to {', '.join(templates)}"
            if templates
            else "none (no template among the output spaces)"
        ),
    ]
    if subject.lesions:
        masks = ", ".join(i.name for i in subject.lesions)
        line = f"    lesion          {masks}, left out of the normalisation"
        if settings.lesion_fill in FILLED_WITH:
            line += f", filled with {FILLED_WITH[settings.lesion_fill]}"
        lines.append(line)
    estimate = anatomical(subject, len(templates), surfaces=settings.surf_recon == "on")
    lines.append(f"    estimate        {_sentence(estimate, settings)}")
    for run in subject.bold:
        cost = functional(run, spaces)
        lines += _run(run, spaces, settings, cost)
        estimate = estimate + cost
    for rejected in subject.rejected_fieldmaps:
        lines.append(f"  field map   not usable: {describe_rejected(rejected, settings.bids_dir)}")
    return lines, estimate


def _segmentation(settings: Settings) -> str:
    from deepprep.segmentation.engines import choose_engine

    return choose_engine(settings.seg_engine, settings.models_dir).reason


def _surface_source(settings: Settings, subject: SubjectInputs) -> str:
    from deepprep.bids.subjects_dir import find_subject_folder
    from deepprep.workflows.choices import chosen_level_engine

    if settings.fs_subjects_dir is not None:
        folder = find_subject_folder(settings.fs_subjects_dir, subject)
        if folder is not None:
            return f"those of {folder} (--fs-subjects-dir)"
    return chosen_level_engine(settings).reason


def _parcellations(settings: Settings) -> str:
    from deepprep.workflows.choices import chosen_annotations

    files = chosen_annotations(settings)
    return ", ".join(
        f"{name} ({files[name]['lh']} and rh)" if name in files else name
        for name in settings.surface_parcellation
    )


def _normalisation(settings: Settings) -> str:
    from deepprep.registration.engines import choose_normalisation

    reason = choose_normalisation(settings.norm_engine, settings.models_dir).reason
    return f"affine, then stationary velocity field ({reason})"


def _run(run: Run, spaces: Sequence[OutputSpace], settings: Settings, cost: Estimate) -> list[str]:
    dummy = (
        "found automatically"
        if settings.dummy_scans is None
        else f"{settings.dummy_scans} (--dummy-scans)"
    )
    timing = run.slice_timing
    found = run.fieldmap.found
    lines = [
        f"  BOLD        {run.name}: {run.shape[3]} frames of {_by(run.shape[:3])} voxels, "
        f"TR {run.tr_s:g} s",
        f"    dummy scans     {dummy}",
        "    reference       robust average of the steadiest frames",
        "    head motion     rigid least squares, frame by frame to the reference (numba)",
        f"    slice timing    {'yes' if timing.apply else 'no'}: {timing.reason}",
        f"    field map       {describe(run.fieldmap, settings.bids_dir)}"
        + (" (found and reported; not applied yet in this version)" if found else ""),
    ]
    lines += [
        f"      not used      {describe_rejected(r, settings.bids_dir)}"
        for r in run.fieldmap.rejected
    ]
    lines += [
        "    to T1w          mutual information, then boundary-based (white-matter edge)",
        f"    resampled to    {', '.join(_grid(s) for s in spaces) or 'nothing'} "
        "(one cubic B-spline interpolation)",
        f"    estimate        {_sentence(cost, settings)}",
    ]
    return lines


def _grid(space: OutputSpace) -> str:
    if space.standard and space.native_res:
        return f"{space} (voxel size of the run)"
    return str(space)


def _sentence(estimate: Estimate, settings: Settings) -> str:
    return (
        f"about {_minutes(estimate.cpu_minutes / _speed_up(settings))}, "
        f"{estimate.memory_gb:.1f} GB of memory, {estimate.output_gb:.2f} GB of output"
    )


def _speed_up(settings: Settings) -> float:
    """Against the two CPU threads of the model; little is gained beyond 16 threads."""
    return min(settings.nprocs, 16) / 2


def _minutes(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1.5 else "1 min"


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
