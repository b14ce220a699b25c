"""The workflow of one subject: anatomy, then every BOLD run in workflows of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fileformats.generic import File
from pydra.compose import workflow

from deepprep.bids.records import SubjectInputs, run_to_json
from deepprep.bids.subjects_dir import find_subject_folder, used_files
from deepprep.data.templates import TemplateFiles, template_files
from deepprep.execution.stamp import weights_stamp
from deepprep.image.brain_mask import weight_files
from deepprep.interfaces.anatomy import (
    ConformT1w,
    CorrectBias,
    DrawSegmentation,
    MaskBrain,
    Normalise,
    SegmentBrain,
    WarpAnatomy,
)
from deepprep.interfaces.existing_surfaces import ReadSurfaces
from deepprep.interfaces.freesurfer import PublishFreeSurfer, WriteFreeSurferVolumes
from deepprep.interfaces.lesion import FillLesion, PlaceLesion, PublishLesion
from deepprep.interfaces.publish import PublishAnatomy, PublishStandardAnatomy, PublishTemplate
from deepprep.interfaces.publish_cortex import PublishCortex
from deepprep.interfaces.spheres import (
    LabelCortexVolumes,
    ParcellateHemisphere,
    RegisterHemisphere,
)
from deepprep.interfaces.surfaces import (
    SIDES,
    PublishSurfaces,
    ReconstructHemisphere,
    RequireSurfaces,
    SurfaceVolumes,
)
from deepprep.workflows.bold import add_run
from deepprep.workflows.choices import Choices, template_ids

FREESURFER = (
    *("raw", "orig", "nu", "t1", "brain", "aseg", "stats", "talairach", "table", "sidecar", "info"),
)
"""What goes from the making of the FreeSurfer files to their writing."""

SURFACE_VOLUMES = ("mask", "ribbon", "left_ribbon", "right_ribbon", "wm", "filled", "figure")
"""What goes from the surfaces to their writing."""

CORTEX_VOLUMES = ("dseg", "aseg", "aparc_aseg", "wmparc", "a2009s_aseg", "figure")
"""What goes from the labels of the cortex to their writing."""


@workflow.define(outputs=["record"])
def Subject(subject: str, choices: str, problems: list[str]) -> str:
    """Preprocess one subject.

    Parameters
    ----------
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    choices : str
        JSON of :class:`deepprep.workflows.choices.Choices`.
    problems : list of str
        Warnings of the checks, shown in the report.

    Returns
    -------
    record : str
        Path of the record of the anatomical derivatives.
    """
    inputs, options = SubjectInputs.from_json(subject), Choices.from_json(choices)
    label = inputs.name
    where: dict[str, Any] = {
        "subject": subject,
        "out_dir": options.out_dir,
        "run_uuid": options.run_uuid,
        "label": label,
    }
    conformed = workflow.add(
        ConformT1w(
            t1w=[File(i.path) for i in inputs.t1w],
            reference=options.subject_anatomical_reference,
            device=options.device,
            label=label,
        ),
        name="conform",
    )
    masked = workflow.add(
        MaskBrain(
            t1w=conformed.t1w,
            mode=options.skull_strip_t1w,
            weights=[weights_stamp(path) for path in weight_files()],
            device=options.device,
            label=label,
        ),
        name="brain_mask",
    )
    nu = workflow.add(
        CorrectBias(t1w=conformed.t1w, mask=masked.mask, label=label), name="bias_field"
    )
    lesion = _lesion(inputs, nu.t1w, masked.mask, conformed.info, options, where)
    # what is computed from the head sees it without its lesion where that is asked for
    whole = lesion.get("filled", {"t1w": nu.t1w, "mask": masked.mask})
    brain = workflow.add(
        SegmentBrain(
            **whole,
            engine=options.seg_engine,
            files=list(options.seg_files),
            weights=[weights_stamp(path) for path in options.seg_files],
            threshold=options.seg_threshold,
            device=options.device,
            label=label,
        ),
        name="segmentation",
    )
    figures = workflow.add(
        DrawSegmentation(
            t1w=nu.t1w, mask=brain.mask, dseg=brain.dseg, labels=brain.labels, label=label
        ),
        name="draw_segmentation",
    )
    anatomy = {
        "t1w": nu.t1w,
        "mask": brain.mask,
        "dseg": brain.dseg,
        "gm": brain.gm,
        "wm": brain.wm,
        "csf": brain.csf,
    }
    written = workflow.add(
        PublishAnatomy(
            **anatomy,
            **where,
            conform_info=conformed.info,
            mask_info=masked.info,
            labels=brain.labels,
            uncertainty=brain.uncertainty,
            segmentation_info=brain.info,
            tissue_figure=figures.tissues,
            structure_figure=figures.structures,
            lesion_info=lesion.get("info"),
            engine_reason=options.seg_reason,
            norm_reason=options.norm_reason,
            surf_recon=options.surf_recon,
            spaces=[str(s) for s in options.spaces],
            problems=problems,
            device=options.device,
            bids_dir=options.bids_dir,
        ),
        name="write_anatomy",
    )
    freesurfer = workflow.add(
        WriteFreeSurferVolumes(
            original=File(inputs.t1w[0].path) if len(inputs.t1w) == 1 else conformed.t1w,
            t1w=nu.t1w,
            mask=brain.mask,
            labels=brain.labels,
            segmentation_info=brain.info,
            uncertainty=brain.uncertainty,
            affine=None,
            engine=options.seg_engine,
            label=label,
        ),
        name="freesurfer",
    )
    folder = workflow.add(
        PublishFreeSurfer(
            **{name: getattr(freesurfer, name) for name in FREESURFER},
            given=str(_given_subject(inputs, options) or ""),
            **where,
        ),
        name="write_freesurfer",
    )

    cortex: dict[str, Any] = {}
    if options.surf_recon:
        surfaces, cortex = _surfaces(
            whole["t1w"], brain, freesurfer, options, {**where, "freesurfer_record": folder.record}
        )
        if options.surf_recon_fallback == "none":
            waiting = workflow.add(
                RequireSurfaces(mask=brain.mask, record=surfaces), name="require_surfaces"
            )
            anatomy["mask"] = waiting.mask

    transforms: dict[str, Any] = {}
    for template, space in template_ids(options.spaces).items():
        normalised = _normalise(
            {
                **anatomy,
                "t1w": whole["t1w"],
                "labels": brain.labels,
                "lesion": lesion.get("lesion"),
            },
            template,
            space,
            options,
            label,
        )
        workflow.add(
            PublishTemplate(
                **where,
                to_template=normalised.to_template,
                to_t1w=normalised.to_t1w,
                info=normalised.info,
                template=template,
            ),
            name=f"write_transforms_{_plain(template)}",
        )
        _standard_spaces(
            anatomy, normalised.to_template, template, options, {**where, "mask_info": masked.info}
        )
        transforms[template] = normalised.to_template

    if not options.anat_only:
        for run in inputs.bold:
            add_run(anatomy, transforms, run_to_json(run), label, choices, cortex)
    return written.record


def _surfaces(
    t1w: Any, brain: Any, freesurfer: Any, options: Choices, where: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Both hemispheres, their volumes and figure; a branch of its own, so that its failure leaves
    the volumetric outputs alone."""
    label = where["label"]
    found, given = _hemispheres(t1w, brain, options, where)
    pair = {"left": found["left"], "right": found["right"]}
    volumes = workflow.add(
        SurfaceVolumes(
            **pair,
            t1w=t1w,
            mask=brain.mask,
            orig=freesurfer.orig,
            aseg=freesurfer.aseg,
            label=label,
        ),
        name="surface_volumes",
    )
    written = workflow.add(
        PublishSurfaces(
            **pair,
            left_info=found["left_info"],
            right_info=found["right_info"],
            **{name: getattr(volumes, name) for name in SURFACE_VOLUMES},
            orig=freesurfer.orig,
            engine_reason=options.csr_reason,
            given=given,
            bids_dir=options.bids_dir,
            **where,
        ),
        name="write_surfaces",
    )
    return written.record, _cortex(pair, volumes, brain, freesurfer, options, where)


def _cortex(
    pair: dict[str, Any],
    volumes: Any,
    brain: Any,
    freesurfer: Any,
    options: Choices,
    where: dict[str, Any],
) -> dict[str, Any]:
    """Spheres, group spaces and parcels; surfaces are written without them, should they fail."""
    label = where["label"]
    spheres, parcels = {}, {}
    for side, (word, hemi) in {"L": ("left", "lh"), "R": ("right", "rh")}.items():
        files = options.sphere_files.get(hemi, {})
        annotations = {name: paths[hemi] for name, paths in options.annotations.items()}
        spheres[side] = workflow.add(
            RegisterHemisphere(
                side=side,
                surfaces=pair[word],
                labels=brain.labels,
                engine=options.sphere_engine,
                files=files,
                weights=[weights_stamp(path) for path in files.values()],
                device=options.device,
                label=label,
            ),
            name=f"sphere_{side}",
        )
        parcels[side] = workflow.add(
            ParcellateHemisphere(
                side=side,
                surfaces=pair[word],
                spheres=spheres[side].spheres,
                parcellations=list(options.surface_parcellation),
                annotations=annotations,
                weights=[weights_stamp(path) for path in annotations.values()],
                label=label,
            ),
            name=f"parcels_{side}",
        )
    parcellated = {"left_parcels": parcels["L"].parcels, "right_parcels": parcels["R"].parcels}
    labelled = workflow.add(
        LabelCortexVolumes(
            **pair,
            **parcellated,
            labels=brain.labels,
            native_ribbon=volumes.native,
            aseg=freesurfer.aseg,
            ribbon=volumes.ribbon,
            label=label,
        ),
        name="label_cortex",
    )
    workflow.add(
        PublishCortex(
            **pair,
            **parcellated,
            left_spheres=spheres["L"].spheres,
            right_spheres=spheres["R"].spheres,
            left_info=spheres["L"].info,
            right_info=spheres["R"].info,
            **{name: getattr(labelled, name) for name in CORTEX_VOLUMES},
            orig=freesurfer.orig,
            freesurfer_info=freesurfer.info,
            engine=options.sphere_engine,
            engine_reason=options.sphere_reason,
            given=str(_given_subject(SubjectInputs.from_json(where["subject"]), options) or ""),
            spaces=[str(s) for s in options.spaces],
            bids_dir=options.bids_dir,
            **where,
        ),
        name="write_cortex",
    )
    return {**pair, "left_spheres": spheres["L"].spheres, "right_spheres": spheres["R"].spheres}


def _hemispheres(
    t1w: Any, brain: Any, options: Choices, where: dict[str, Any]
) -> tuple[dict[str, Any], str]:
    """Both hemispheres with their measures, computed or of a finished subject; and its folder."""
    label = where["label"]
    folder = _given_subject(SubjectInputs.from_json(where["subject"]), options)
    if folder is not None:
        read = workflow.add(
            ReadSurfaces(
                folder=str(folder),
                stamps=[weights_stamp(path) for path in used_files(folder)],
                t1w=t1w,
                mask=brain.mask,
                label=label,
            ),
            name="read_surfaces",
        )
        names = ("left", "right", "left_info", "right_info")
        return {name: getattr(read, name) for name in names}, str(folder)
    found: dict[str, Any] = {}
    for side, name in SIDES.items():
        files = [options.csr_files[name]] if options.csr_files else []
        made = workflow.add(
            ReconstructHemisphere(
                side=side,
                t1w=t1w,
                mask=brain.mask,
                labels=brain.labels,
                engine=options.csr_engine,
                files=files,
                weights=[weights_stamp(path) for path in files],
                device=options.device,
                label=label,
            ),
            name=f"surfaces_{side}",
        )
        found |= {name: made.surfaces, f"{name}_info": made.info}
    return found, ""


def _given_subject(inputs: SubjectInputs, options: Choices) -> Path | None:
    """Folder of the subject in --fs-subjects-dir."""
    if not options.fs_subjects_dir:
        return None
    return find_subject_folder(options.fs_subjects_dir, inputs)


def _lesion(
    inputs: SubjectInputs,
    t1w: Any,
    mask: Any,
    conform_info: Any,
    options: Choices,
    where: dict[str, Any],
) -> dict[str, Any]:
    """The lesion mask on the T1w and what is known of it; the head without it, where it is filled.

    Empty where there is none."""
    if not inputs.lesions:
        return {}
    placed = workflow.add(
        PlaceLesion(
            masks=[File(i.path) for i in inputs.lesions],
            originals=[File(i.path) for i in inputs.t1w],
            t1w=t1w,
            brain=mask,
            conform_info=conform_info,
            label=where["label"],
        ),
        name="lesion",
    )
    lesion = {"lesion": placed.lesion, "info": placed.info}
    filled = None
    if options.lesion_fill != "none":
        filled = workflow.add(
            FillLesion(
                t1w=t1w,
                mask=mask,
                lesion=placed.lesion,
                placed=placed.info,
                how=options.lesion_fill,
                seed=options.random_seed,
                label=where["label"],
            ),
            name="fill_lesion",
        )
        lesion |= {"info": filled.info, "filled": {"t1w": filled.t1w, "mask": filled.mask}}
    workflow.add(
        PublishLesion(
            lesion=placed.lesion,
            info=lesion["info"],
            figure=placed.figure,
            filled=None if filled is None else filled.t1w,
            filled_figure=None if filled is None else filled.figure,
            bids_dir=options.bids_dir,
            **where,
        ),
        name="write_lesion",
    )
    return lesion


def _normalise(
    anatomy: dict[str, Any], template: str, space: Any, options: Choices, label: str
) -> Any:
    files = template_files(space.name, 1, space.cohort)
    return workflow.add(
        Normalise(
            **{k: anatomy[k] for k in ("t1w", "mask", "gm", "wm", "csf", "labels", "lesion")},
            template=template,
            template_files=present(files, ("t1w", "brain", "mask", "aseg", "gm", "wm", "csf")),
            engine=options.norm_engine,
            files=list(options.norm_files),
            weights=[weights_stamp(path) for path in options.norm_files],
            device=options.device,
            seed=options.random_seed,
            label=label,
        ),
        name=f"normalise_{_plain(template)}",
    )


def _standard_spaces(
    anatomy: dict[str, Any],
    to_template: Any,
    template: str,
    options: Choices,
    where: dict[str, Any],
) -> None:
    """Anatomical derivatives on every lattice asked for of one template."""
    for space in options.spaces:
        if not space.standard or space.template_id != template:
            continue
        files = template_files(space.name, 1 if space.native_res else space.res, space.cohort)
        name = _plain(str(space))
        warped = workflow.add(
            WarpAnatomy(
                **anatomy,
                to_template=to_template,
                space=str(space),
                template_files=present(files, ("t1w", "brain", "mask", "gm", "wm", "csf")),
                label=where["label"],
            ),
            name=f"warp_{name}",
        )
        outputs = ("t1w", "mask", "dseg", "gm", "wm", "csf", "jacobian", "info", "figure")
        workflow.add(
            PublishStandardAnatomy(
                **{key: getattr(warped, key) for key in outputs},
                **where,
                entities_of_space=space.entities,
            ),
            name=f"write_{name}",
        )


def present(files: TemplateFiles, keys: tuple[str, ...]) -> dict[str, File]:
    """The images that a template has, by key."""
    found = {key: getattr(files, key) for key in keys}
    return {key: File(path) for key, path in found.items() if path is not None}


def _plain(text: str) -> str:
    """A node's name: letters, digits and underscores."""
    return "".join(c if c.isalnum() else "_" for c in text)
