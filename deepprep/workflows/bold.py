"""The workflows of one BOLD run: estimates, then outputs in its own spaces and in each template.

They are workflows of their own so that each needs no more than it uses: a run whose subject could
not be registered to a template still gets everything but that template, and one whose confounds
fail still gets its series in every space.
"""

from __future__ import annotations

from typing import Any

from fileformats.generic import File
from pydra.compose import workflow

from deepprep.bids.records import Run, run_from_json
from deepprep.bids.spaces import OutputSpace
from deepprep.data.templates import template_files
from deepprep.interfaces.bold import (
    ComputeConfounds,
    Coregister,
    CorrectSliceTiming,
    EstimateMotion,
    MakeBoldReference,
    ResampleBold,
)
from deepprep.interfaces.bold_surfaces import PublishBoldSurfaces, SampleBold
from deepprep.interfaces.publish_bold import PublishBoldSpace, PublishRun
from deepprep.workflows.choices import Choices

BOLDREF = OutputSpace("boldref")


def add_run(
    anatomy: dict[str, Any],
    to_templates: dict[str, Any],
    run: str,
    subject_name: str,
    choices: str,
    cortex: dict[str, Any] | None = None,
) -> None:
    """Add the workflows of one run to that of its subject, which is being laid out.

    Parameters
    ----------
    anatomy : dict
        ``t1w``, ``mask``, ``dseg``, ``gm``, ``wm``, ``csf`` of the subject.
    to_templates : dict
        ITK composite from T1w to each template, by the keys of
        :func:`deepprep.workflows.choices.template_ids`.
    run : str
        JSON of :class:`deepprep.bids.records.Run`.
    subject_name : str
        ``sub-01``.
    choices : str
        JSON of :class:`deepprep.workflows.choices.Choices`.
    cortex : dict, optional
        ``left``, ``right``, ``left_spheres``, ``right_spheres`` of the subject, for output spaces
        on the surface.
    """
    image, spaces = run_from_json(run), Choices.from_json(choices).spaces
    about = {"run": run, "subject_name": subject_name, "choices": choices}
    name = _plain(image.name)
    fit = workflow.add(
        BoldFit(**{k: anatomy[k] for k in ("t1w", "mask", "dseg", "wm")}, run=run, choices=choices),
        name=f"{name}_fit",
    )
    moved = {k: getattr(fit, k) for k in ("series", "boldref", "mask", "motion", "coreg")}
    workflow.add(
        BoldNative(
            **moved,
            reference_info=fit.reference_info,
            coreg_figure=fit.coreg_figure,
            t1w=anatomy["t1w"],
            t1w_mask=anatomy["mask"],
            **{k: anatomy[k] for k in ("dseg", "gm", "wm", "csf")},
            **about,
        ),
        name=f"{name}_native",
    )
    meshes = [str(s) for s in spaces if s.surface]
    if meshes and cortex:
        workflow.add(
            BoldSurface(
                **{k: moved[k] for k in ("series", "motion", "coreg")},
                **cortex,
                spaces=meshes,
                **about,
            ),
            name=f"{name}_surfaces",
        )
    for template, to_template in to_templates.items():
        mine = [s for s in spaces if s.standard and s.template_id == template]
        if mine:
            workflow.add(
                BoldTemplate(
                    **moved, to_template=to_template, spaces=[str(s) for s in mine], **about
                ),
                name=f"{name}_{_plain(template)}",
            )


@workflow.define(
    outputs=["series", "boldref", "mask", "motion", "coreg", "reference_info", "coreg_figure"]
)
def BoldFit(
    t1w: File, mask: File, dseg: File, wm: File, run: str, choices: str
) -> tuple[File, File, File, File, File, File, File]:
    """Everything that is estimated from a run: reference, head motion, coregistration.

    Parameters
    ----------
    t1w, mask, dseg, wm : File
        Anatomy of the subject.
    run, choices : str
        See :func:`add_run`.

    Returns
    -------
    series : File
        The run, with slice timing corrected where that is possible.
    boldref, mask, motion, coreg, reference_info, coreg_figure : File
        Results of the tasks.
    """
    image, options = run_from_json(run), Choices.from_json(choices)
    label = image.name
    original = File(image.path)
    reference = workflow.add(
        MakeBoldReference(bold=original, dummy_scans=options.dummy_scans, label=label),
        name="reference",
    )
    moved = workflow.add(
        EstimateMotion(bold=original, boldref=reference.boldref, label=label), name="head_motion"
    )
    series: Any = original
    timing = image.slice_timing
    if timing.apply:
        series = workflow.add(
            CorrectSliceTiming(
                bold=original,
                info=reference.info,
                slice_times_s=tuple(timing.slice_times_s),
                axis=timing.axis,
                tr_s=image.tr_s,
                reference_time_s=timing.reference_time_s,
                label=label,
            ),
            name="slice_timing",
        ).bold
    registered = workflow.add(
        Coregister(
            boldref=reference.boldref,
            t1w=t1w,
            t1w_mask=mask,
            wm=wm,
            dseg=dseg,
            device=options.device,
            label=label,
        ),
        name="coregistration",
    )
    return (
        series,
        reference.boldref,
        registered.mask,
        moved.motion,
        registered.coreg,
        reference.info,
        registered.figure,
    )


@workflow.define(outputs=["record"])
def BoldNative(
    series: File,
    boldref: File,
    mask: File,
    motion: File,
    coreg: File,
    reference_info: File,
    coreg_figure: File,
    t1w: File,
    t1w_mask: File,
    dseg: File,
    gm: File,
    wm: File,
    csf: File,
    run: str,
    subject_name: str,
    choices: str,
) -> str:
    """Confounds, report and outputs in the space of the run and of the subject's T1w.

    Parameters
    ----------
    series, boldref, mask, motion, coreg, reference_info, coreg_figure : File
        See :func:`BoldFit`.
    t1w, t1w_mask, dseg, gm, wm, csf : File
        Anatomy of the subject.
    run, subject_name, choices : str
        See :func:`add_run`.

    Returns
    -------
    record : str
        Path of the record of the run's derivatives.
    """
    image, options = run_from_json(run), Choices.from_json(choices)
    moved = {"series": series, "boldref": boldref, "mask": mask, "motion": motion, "coreg": coreg}
    own = _resample(image, BOLDREF, **moved, anatomy=None, anatomy_mask=None, to_space=None)
    table = workflow.add(
        ComputeConfounds(
            bold=own.resampled,
            mask=mask,
            boldref=boldref,
            reference_info=reference_info,
            motion=motion,
            coreg=coreg,
            gm=gm,
            wm=wm,
            csf=csf,
            dseg=dseg,
            tr_s=image.tr_s,
            fd_spike_mm=options.fd_spike_mm,
            dvars_spike=options.dvars_spike,
            label=image.name,
        ),
        name="confounds",
    )
    written = workflow.add(
        PublishRun(
            **_where(run, subject_name, image, options),
            boldref=boldref,
            mask=mask,
            motion=motion,
            coreg=coreg,
            reference_info=reference_info,
            confounds_tsv=table.tsv,
            confounds_json=table.json,
            confounds_info=table.info,
            coreg_figure=coreg_figure,
            tsnr=table.tsnr,
            carpet=table.carpet,
            correlation=table.correlation,
            variance=table.variance,
            rois=table.rois,
            spaces=[s.name for s in options.spaces if not s.standard and not s.surface],
            fd_spike_mm=options.fd_spike_mm,
            dvars_spike=options.dvars_spike,
        ),
        name="write_run",
    )
    for space in options.spaces:
        if space == BOLDREF:
            _write(own, space, run, subject_name, image, options)
        elif not space.standard and not space.surface:
            done = _resample(
                image, space, **moved, anatomy=t1w, anatomy_mask=t1w_mask, to_space=None
            )
            _write(done, space, run, subject_name, image, options)
    return written.record


@workflow.define(outputs=["record"])
def BoldTemplate(
    series: File,
    boldref: File,
    mask: File,
    motion: File,
    coreg: File,
    to_template: File,
    spaces: list[str],
    run: str,
    subject_name: str,
    choices: str,
) -> str:
    """Outputs of a run on the lattices of one template.

    Parameters
    ----------
    series, boldref, mask, motion, coreg : File
        See :func:`BoldFit`.
    to_template : File
        ITK composite from T1w to the template.
    spaces : list of str
        Output spaces of this template, at least one.
    run, subject_name, choices : str
        See :func:`add_run`.

    Returns
    -------
    record : str
        Path of the record of the last space.
    """
    image, options = run_from_json(run), Choices.from_json(choices)
    moved = {"series": series, "boldref": boldref, "mask": mask, "motion": motion, "coreg": coreg}
    for space in options.spaces:
        if str(space) not in spaces:
            continue
        files = template_files(space.name, 1 if space.native_res else space.res, space.cohort)
        done = _resample(
            image,
            space,
            **moved,
            anatomy=File(files.reference),
            anatomy_mask=File(files.mask) if files.mask is not None else None,
            to_space=to_template,
        )
        written = _write(done, space, run, subject_name, image, options)
    return written.record


@workflow.define(outputs=["record"])
def BoldSurface(
    series: File,
    motion: File,
    coreg: File,
    left: File,
    right: File,
    left_spheres: File,
    right_spheres: File,
    spaces: list[str],
    run: str,
    subject_name: str,
    choices: str,
) -> str:
    """Outputs of a run on the surfaces of the subject and of group spaces.

    Parameters
    ----------
    series, motion, coreg : File
        See :func:`BoldFit`.
    left, right, left_spheres, right_spheres : File
        Surfaces and registered spheres of the subject.
    spaces : list of str
        Output spaces on the surface, at least one.
    run, subject_name, choices : str
        See :func:`add_run`.

    Returns
    -------
    record : str
        Path of the record of the run's surfaces.
    """
    image, options = run_from_json(run), Choices.from_json(choices)
    sampled = {
        hemi: workflow.add(
            SampleBold(
                bold=series,
                motion=motion,
                coreg=coreg,
                surfaces=surfaces,
                label=image.name,
            ),
            name=f"sample_{hemi}",
        )
        for hemi, surfaces in (("L", left), ("R", right))
    }
    written = workflow.add(
        PublishBoldSurfaces(
            **_where(run, subject_name, image, options),
            left=left,
            right=right,
            left_spheres=left_spheres,
            right_spheres=right_spheres,
            left_series=sampled["L"].series,
            right_series=sampled["R"].series,
            spaces=spaces,
            medial_surface_nan=options.medial_surface_nan,
        ),
        name="write_surfaces",
    )
    return written.record


def _resample(image: Run, space: OutputSpace, *, series: Any, **given: Any) -> Any:
    return workflow.add(
        ResampleBold(
            bold=series,
            original=File(image.path),
            tr_s=image.tr_s,
            space=space.name,
            native=space.native_res,
            label=image.name,
            **given,
        ),
        name="resample_" + _plain(str(space)),
    )


def _write(
    done: Any, space: OutputSpace, run: str, subject_name: str, image: Run, options: Choices
) -> Any:
    return workflow.add(
        PublishBoldSpace(
            **_where(run, subject_name, image, options),
            bold=done.resampled,
            boldref=done.boldref,
            mask=done.mask,
            entities_of_space=space.entities,
            standard=space.standard,
        ),
        name="write_" + _plain(str(space)),
    )


def _where(run: str, subject_name: str, image: Run, options: Choices) -> dict[str, Any]:
    return {
        "run": run,
        "subject_name": subject_name,
        "bids_dir": options.bids_dir,
        "out_dir": options.out_dir,
        "run_uuid": options.run_uuid,
        "label": image.name,
    }


def _plain(text: str) -> str:
    """A node's name: letters, digits and underscores."""
    return "".join(c if c.isalnum() else "_" for c in text)
