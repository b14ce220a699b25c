"""Tasks that write derivatives. They always run, so that a derivative that was deleted comes back."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage


@stage(cpus=1, mem_gb=0.5, title="Write anatomy", always_run=True)
@python.define(outputs=["record"])
def PublishAnatomy(
    t1w: File,
    mask: File,
    dseg: File,
    gm: File,
    wm: File,
    csf: File,
    conform_info: File,
    mask_info: File,
    labels: File,
    uncertainty: File,
    segmentation_info: File,
    tissue_figure: File,
    structure_figure: File,
    lesion_info: File | None,
    engine_reason: str,
    norm_reason: str,
    surf_recon: bool,
    subject: str,
    spaces: list[str],
    problems: list[str],
    device: str,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Anatomical derivatives in T1w space, their sidecars and report fragments.

    Parameters
    ----------
    t1w, mask, dseg, gm, wm, csf, conform_info, mask_info : File
        Results of the anatomical tasks.
    labels, uncertainty, segmentation_info, tissue_figure, structure_figure : File
        Results of the segmentation.
    lesion_info : File or None
        Of the lesion mask and of what fills the lesion, where there is one.
    engine_reason : str
        Why this segmentation engine, in a phrase that begins with its name.
    norm_reason : str
        Why this engine of the normalisation, in a phrase that begins with its name.
    surf_recon : bool
        Whether surfaces are reconstructed, for the summary.
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    spaces, problems : list of str
        Output spaces; warnings of the checks before the run.
    device, bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    from importlib.metadata import version

    import numpy as np

    from deepprep.bids.derivatives import anatomical_entities, bids_uri, derivative_path
    from deepprep.bids.lesions import FILLED_WITH
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.registration.itk import write_affine
    from deepprep.registration.transforms import Affine
    from deepprep.reports import methods
    from deepprep.reports.summaries import (
        ConformRow,
        Decision,
        SubjectSummary,
        conform_summary,
        subject_summary,
    )

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery = Delivery(root, inputs.name, "anat", run_uuid)
    conformed, masked, segmented = (
        read_json(f) for f in (conform_info, mask_info, segmentation_info)
    )
    sources = [bids_uri(i.path, bids_dir) for i in inputs.t1w]

    def path(**names: str) -> Path:
        return derivative_path(root, entities, **{"datatype": "anat", **names})  # type: ignore[arg-type]

    delivery.put(
        t1w,
        path(desc="preproc", suffix="T1w"),
        {"SkullStripped": masked["method"] == "input", "Sources": sources},
    )
    delivery.put(mask, path(desc="brain", suffix="mask"), {"Type": "Brain", "RawSources": sources})
    delivery.put(dseg, path(suffix="dseg"), {"Sources": sources})
    delivery.put(
        labels,
        path(desc="aseg", suffix="dseg"),
        {"Sources": sources, "Engine": segmented["engine"], "EngineReason": engine_reason},
    )
    delivery.put(
        uncertainty,
        path(desc="aseg", suffix="uncertainty"),
        {"Sources": sources, "Description": "0 sure, 1 unsure: see the methods text"},
    )
    for name, file in (("GM", gm), ("WM", wm), ("CSF", csf)):
        delivery.put(file, path(label=name, suffix="probseg"), {"Sources": sources})
    if conformed["n_averaged"] > 1:
        for image in inputs.t1w:
            matrix = conformed["t1w_to_orig"].get(Path(image.path).name)
            if matrix is not None:
                own = derivative_path(
                    root, image, suffix="xfm", extension=".txt", from_="orig", to="T1w",
                    mode="image", datatype="anat",
                )  # fmt: skip
                delivery.noted(write_affine(own, Affine(np.array(matrix))))

    def shown(suffix: str, extension: str, desc: str | None = None) -> Path:
        return derivative_path(
            root, entities, datatype="figures", suffix=suffix, extension=extension, desc=desc
        )

    delivery.put(tissue_figure, shown("dseg", ".svg"))
    delivery.put(structure_figure, shown("dseg", ".svg", "aseg"))
    rows = [
        ConformRow(r["name"], r["orientation"], r["shape"], r["zooms_mm"], r["note"])
        for r in conformed["rows"]
    ]
    delivery.text(
        conform_summary(rows, conformed["shape"], conformed["zooms_mm"], "RAS"),
        shown("T1w", ".html", "conform"),
    )
    tasks: dict[str, int] = {}
    for run in inputs.bold:
        tasks[run.entities["task"]] = tasks.get(run.entities["task"], 0) + 1
    volumes = ", ".join(f"{k} {v:.0f} ml" for k, v in segmented["volumes_ml"].items())
    warnings = [*problems, *segmented["warnings"]]
    engine, why = engine_reason.split(": ", 1)
    lesion = {} if lesion_info is None else read_json(lesion_info)
    filling = f"; filled with {FILLED_WITH[lesion['filled']]}" if "filled" in lesion else ""
    warnings += lesion.get("warnings", [])
    if not masked["plausible"]:
        warnings.append(
            f"The brain mask holds {masked['volume_ml']:.0f} ml, which is not plausible for a "
            "human brain: look at the figure of the mask."
        )
    summary = SubjectSummary(
        label=inputs.label,
        sessions=inputs.sessions,
        t1w=[Path(i.path).name for i in inputs.t1w],
        bold_by_task=tasks,
        spaces=spaces,
        decisions={
            "Brain extraction": Decision(masked["method"], masked["reason"]),
            "Segmentation": Decision(engine, " ".join([why, *segmented["notes"]])),
            "Brain mask": Decision(
                f"from the {segmented['brain_source']}",
                f"Dice of extraction and segmentation {segmented['brain_dice']:.3f}",
            ),
            "Volume of the mask": Decision(f"{segmented['brain_ml']:.0f} ml", volumes),
            "Normalisation": Decision(*norm_reason.split(": ", 1)),
            "Surfaces": Decision(
                "white and pial, both hemispheres",
                "see Cortical surfaces below; where that is missing they failed, see Errors",
            )
            if surf_recon
            else Decision("not made", "--surf-recon off"),
            **(
                {
                    "Lesion mask": Decision(
                        f"{lesion['ml']:.1f} ml, left out of the normalisation{filling}",
                        f"{', '.join(lesion['names'])}; "
                        f"{100 * lesion['share_in_brain']:.0f} % of it in the brain mask",
                    )
                }
                if lesion
                else {}
            ),
            "Device": Decision(device),
        },
        problems=warnings,
    )
    page = derivative_path(
        root, inputs.own_entities, datatype="figures", suffix="T1w", extension=".html",
        desc="summary",
    )  # fmt: skip
    delivery.text(subject_summary(summary), page)
    steps = [
        methods.conform(conformed["n_averaged"], conformed["reference"]),
        methods.brain_mask(version("deepbet"), masked["method"] == "input"),
        methods.bias_correction(version("SimpleITK")),
        methods.whole_brain_segmentation(segmented["engine"]),
        methods.tissue_segmentation(),
    ]
    quality = {k: v for k, v in segmented["quality"].items() if v is not None}
    name = path(desc="preproc", suffix="T1w").name.split("_desc-")[0] + "_T1w"
    return delivery.close(steps=steps, metrics={name: quality})


@stage(cpus=1, mem_gb=0.5, title="Write transforms", always_run=True)
@python.define(outputs=["record"])
def PublishTemplate(
    to_template: File,
    to_t1w: File,
    info: File,
    template: str,
    subject: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Transforms between T1w and a template, both ways."""
    from deepprep.bids.derivatives import anatomical_entities, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.reports import methods

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery = Delivery(root, inputs.name, f"template-{template}", run_uuid)
    for file, source, target in ((to_template, "T1w", template), (to_t1w, template, "T1w")):
        delivery.put(
            file,
            derivative_path(
                root, entities, datatype="anat", suffix="xfm", extension=".h5",
                from_=source, to=target, mode="image",
            ),
        )  # fmt: skip
    measures = read_json(info)
    # Times differ from run to run: they belong to provenance.json, not to the derivatives.
    numbers = {k: v for k, v in measures.items() if isinstance(v, int | float) and k != "seconds"}
    return delivery.close(
        steps=[
            methods.normalisation(
                [template],
                measures["engine"],
                "brain structures" in measures["driven_by"],
                measures["network"],
            )
        ],
        metrics={f"{inputs.name}_to-{template}": numbers},
    )


@stage(cpus=1, mem_gb=0.5, title="Write template space", always_run=True)
@python.define(outputs=["record"])
def PublishStandardAnatomy(
    t1w: File,
    mask: File,
    dseg: File,
    gm: File,
    wm: File,
    csf: File,
    jacobian: File,
    info: File,
    figure: File,
    mask_info: File,
    entities_of_space: dict[str, str],
    subject: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Anatomical derivatives on a template's lattice.

    Parameters
    ----------
    t1w, mask, dseg, gm, wm, csf, jacobian, info, figure : File
        Results of :func:`deepprep.interfaces.anatomy.WarpAnatomy`.
    entities_of_space : dict
        ``space``, and ``cohort`` and ``res`` where they apply.
    mask_info : File
        How the brain mask was made.
    subject, out_dir, run_uuid, label : str
        What and where.
    """
    from deepprep.bids.derivatives import anatomical_entities, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    name = "_".join(f"{k}-{v}" for k, v in entities_of_space.items())
    delivery = Delivery(root, inputs.name, name, run_uuid)

    def path(**names: str) -> Path:
        return derivative_path(
            root,
            entities,
            **{"datatype": "anat", **entities_of_space, **names},  # type: ignore[arg-type]
        )

    stripped = read_json(mask_info)["method"] == "input"
    delivery.put(t1w, path(desc="preproc", suffix="T1w"), {"SkullStripped": stripped})
    delivery.put(mask, path(desc="brain", suffix="mask"), {"Type": "Brain"})
    delivery.put(dseg, path(suffix="dseg"), {})
    for tissue, file in (("GM", gm), ("WM", wm), ("CSF", csf)):
        delivery.put(file, path(label=tissue, suffix="probseg"), {})
    delivery.put(
        jacobian,
        path(suffix="jacobian"),
        {
            "Description": "Determinant of the deformation from the template to the T1w, without its "
            "affine part: above 1 where the brain is larger than the template.",
            "Units": "1",
        },
    )
    own = {k: v for k, v in entities_of_space.items() if k != "res"}
    delivery.put(
        figure,
        derivative_path(root, entities, datatype="figures", suffix="T1w", extension=".svg", **own),
    )
    overlap = read_json(info)["overlap_dice"]
    return delivery.close(
        metrics={
            f"{inputs.name}_{name}": {f"template_dice_{k.lower()}": v for k, v in overlap.items()}
        }
    )
