"""The workflow of one BOLD run."""

from __future__ import annotations

from typing import Any

from fileformats.generic import File
from pydra.compose import workflow

from deepprep.bids.records import run_from_json
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
from deepprep.interfaces.publish_bold import PublishBoldSpace, PublishRun
from deepprep.interfaces.select import Pick
from deepprep.workflows.choices import Choices, template_ids

BOLDREF = OutputSpace("boldref")


@workflow.define(outputs=["record"])
def BoldRun(
    t1w: File,
    mask: File,
    dseg: File,
    gm: File,
    wm: File,
    csf: File,
    to_templates: list[File],
    run: str,
    subject_name: str,
    choices: str,
) -> str:
    """Preprocess one BOLD run.

    Parameters
    ----------
    t1w, mask, dseg, gm, wm, csf : File
        Anatomy of the subject.
    to_templates : list of File
        ITK composites from T1w to each template, in the order of
        :func:`deepprep.workflows.choices.template_ids`.
    run : str
        JSON of :class:`deepprep.bids.records.Run`.
    subject_name : str
        ``sub-01``.
    choices : str
        JSON of :class:`deepprep.workflows.choices.Choices`.

    Returns
    -------
    record : str
        Path of the record of the run's derivatives.
    """
    image, options = run_from_json(run), Choices.from_json(choices)
    label = image.name
    original = File(image.path)
    where: dict[str, Any] = {
        "run": run,
        "subject_name": subject_name,
        "bids_dir": options.bids_dir,
        "out_dir": options.out_dir,
        "run_uuid": options.run_uuid,
        "label": label,
    }
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

    def resample(space: OutputSpace, **target: Any) -> Any:
        return workflow.add(
            ResampleBold(
                bold=series,
                original=original,
                boldref=reference.boldref,
                mask=registered.mask,
                motion=moved.motion,
                coreg=registered.coreg,
                tr_s=image.tr_s,
                space=space.name,
                native=space.native_res,
                label=label,
                **target,
            ),
            name="resample_" + _plain(str(space)),
        )

    own = resample(BOLDREF, anatomy=None, anatomy_mask=None, to_space=None)
    table = workflow.add(
        ComputeConfounds(
            bold=own.resampled,
            mask=registered.mask,
            boldref=reference.boldref,
            reference_info=reference.info,
            motion=moved.motion,
            coreg=registered.coreg,
            gm=gm,
            wm=wm,
            csf=csf,
            dseg=dseg,
            tr_s=image.tr_s,
            fd_spike_mm=options.fd_spike_mm,
            dvars_spike=options.dvars_spike,
            label=label,
        ),
        name="confounds",
    )
    written = workflow.add(
        PublishRun(
            **where,
            boldref=reference.boldref,
            mask=registered.mask,
            motion=moved.motion,
            coreg=registered.coreg,
            reference_info=reference.info,
            confounds_tsv=table.tsv,
            confounds_json=table.json,
            confounds_info=table.info,
            coreg_figure=registered.figure,
            tsnr=table.tsnr,
            carpet=table.carpet,
            correlation=table.correlation,
            variance=table.variance,
            rois=table.rois,
            spaces=[s.name for s in options.spaces],
            fd_spike_mm=options.fd_spike_mm,
            dvars_spike=options.dvars_spike,
        ),
        name="write_run",
    )

    order = list(template_ids(options.spaces))
    for space in options.spaces:
        if space == BOLDREF:
            resampled = own
        elif space.standard:
            files = template_files(space.name, 1 if space.native_res else space.res, space.cohort)
            picked = workflow.add(
                Pick(files=to_templates, index=order.index(space.template_id)),
                name="transform_" + _plain(str(space)),
            )
            resampled = resample(
                space,
                anatomy=File(files.reference),
                anatomy_mask=File(files.mask) if files.mask is not None else None,
                to_space=picked.file,
            )
        else:
            resampled = resample(space, anatomy=t1w, anatomy_mask=mask, to_space=None)
        workflow.add(
            PublishBoldSpace(
                **where,
                bold=resampled.resampled,
                boldref=resampled.boldref,
                mask=resampled.mask,
                entities_of_space=space.entities,
            ),
            name="write_" + _plain(str(space)),
        )
    return written.record


def _plain(text: str) -> str:
    """A node's name: letters, digits and underscores."""
    return "".join(c if c.isalnum() else "_" for c in text)
