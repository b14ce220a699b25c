"""Tasks of a lesion mask: bring it onto the T1w, show it, write it."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage


@stage(cpus=1, mem_gb=2.0, title="Lesion mask")
@python.define(outputs=["lesion", "info", "figure"])
def PlaceLesion(
    masks: list[File], originals: list[File], t1w: File, brain: File, conform_info: File, label: str
) -> tuple[File, File, File]:
    """Union of the lesion masks on the lattice of the T1w, its measures and its figure.

    Parameters
    ----------
    masks : list of File
        As they were drawn on one of the T1w.
    originals : list of File
        The T1w images that the anatomical reference was made of.
    t1w, brain, conform_info : File
        Bias-corrected T1w, its brain mask, and how it was conformed.
    label : str
        Subject, for messages.
    """
    import numpy as np

    from deepprep.bids.lesions import SAME_LATTICE_MM, corner_distance_mm, partner
    from deepprep.interfaces.files import keep_json, keep_volume, read_json
    from deepprep.interfaces.nifti import load_volume
    from deepprep.registration.lesion import lesion_on
    from deepprep.registration.transforms import Affine
    from deepprep.reports.figures import plot_lesion

    to_orig = read_json(conform_info)["t1w_to_orig"]
    paths = [str(f) for f in originals if Path(str(f)).name in to_orig]
    head, inside = load_volume(str(t1w)), load_volume(str(brain)).data > 0.5
    chosen = [paths[partner(str(m), paths)] for m in masks]
    poses = [np.array(to_orig[Path(p).name]) for p in chosen]
    transforms = [None if np.allclose(m, np.eye(4)) else Affine(m) for m in poses]
    lesion = lesion_on([load_volume(str(m)) for m in masks], head.grid, transforms)
    resampled = [
        Path(str(m)).name
        for m, own in zip(masks, chosen)
        if corner_distance_mm(str(m), own) > SAME_LATTICE_MM
    ]
    warnings = [
        f"{name} has another lattice than its T1w and was resampled: check the figure of the lesion."
        for name in resampled
    ]
    voxels = lesion.data > 0
    share = float((voxels & inside).sum() / voxels.sum())
    if share == 0:
        warnings.append(
            "No part of the lesion lies in the brain mask, so it changes nothing: check its figure."
        )
    info = {
        "names": [Path(str(m)).name for m in masks],
        "ml": float(voxels.sum() * head.grid.voxel_volume_mm3 / 1000.0),
        "share_in_brain": share,
        "warnings": warnings,
    }
    figure = plot_lesion(
        head, head.like(inside.astype(np.uint8)), lesion, Path.cwd() / "lesion.svg"
    )
    return keep_volume(lesion, "lesion.nii"), keep_json(info, "lesion.json"), File(figure)


@stage(cpus=1, mem_gb=3.0, title="Fill lesion")
@python.define(outputs=["t1w", "mask", "info", "figure"])
def FillLesion(
    t1w: File, mask: File, lesion: File, placed: File, how: str, seed: int, label: str
) -> tuple[File, File, File, File]:
    """The head with healthy tissue where the lesion is, for what is computed from it.

    Parameters
    ----------
    t1w, mask, lesion : File
        Bias-corrected T1w, its brain mask, and the lesion on its lattice.
    placed : File
        What :func:`PlaceLesion` found, to which this adds.
    how : str
        ``mirror`` or ``white``.
    seed : int
        Of the noise of white matter.
    label : str
        Subject, for messages.
    """
    import numpy as np

    from deepprep.interfaces.files import keep_json, keep_volume, read_json
    from deepprep.interfaces.nifti import load_volume
    from deepprep.registration.lesion_filling import fill_lesion
    from deepprep.reports.figures import plot_lesion

    head, hole = load_volume(str(t1w)), load_volume(str(lesion))
    inside = load_volume(str(mask), np.uint8).data > 0
    found = fill_lesion(head, inside, hole, how, seed=seed)  # type: ignore[arg-type]
    brain = head.like(found.mask.astype(np.uint8))
    info = {**read_json(placed), "filled": how, "mirrored_share": found.mirrored_share}
    figure = plot_lesion(found.t1w, brain, hole, Path.cwd() / "filled.svg")
    return (
        keep_volume(found.t1w, "filled.nii"),
        keep_volume(brain, "filled_mask.nii"),
        keep_json(info, "filled.json"),
        File(figure),
    )


@stage(cpus=1, mem_gb=0.5, title="Write lesion", always_run=True)
@python.define(outputs=["record"])
def PublishLesion(
    lesion: File,
    info: File,
    figure: File,
    filled: File | None,
    filled_figure: File | None,
    subject: str,
    out_dir: str,
    run_uuid: str,
    bids_dir: str,
    label: str,
) -> str:
    """The lesion mask on the lattice of the T1w and its figure.

    Parameters
    ----------
    lesion, info, figure : File
        Results of :func:`PlaceLesion`, ``info`` that of :func:`FillLesion` where it was filled.
    filled, filled_figure : File or None
        The head without the lesion, and its figure.
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    out_dir, run_uuid, bids_dir, label : str
        What and where.
    """
    from deepprep.bids.derivatives import anatomical_entities, bids_uri, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.reports import methods

    inputs = SubjectInputs.from_json(subject)
    root, found = Path(out_dir), read_json(info)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery = Delivery(root, inputs.name, "lesion", run_uuid)
    # a mask given with --lesion-mask may lie anywhere: no folder of the user's goes on record
    sources = [
        bids_uri(i.path, bids_dir) if Path(i.path).is_relative_to(bids_dir) else Path(i.path).name
        for i in inputs.lesions
    ]
    delivery.put(
        lesion,
        derivative_path(root, entities, datatype="anat", label="lesion", suffix="mask"),
        {"Type": "Lesion", "Sources": sources},
    )
    steps = [methods.lesion(found["ml"])]
    if filled is not None:
        head = [bids_uri(i.path, bids_dir) for i in inputs.t1w]
        delivery.put(
            filled,
            derivative_path(root, entities, datatype="anat", desc="filled", suffix="T1w"),
            {"Sources": [*head, *sources], "LesionFilledWith": found["filled"]},
        )
        steps.append(methods.lesion_filled(found["filled"], found["mirrored_share"]))
    for name, picture in (("lesion", figure), ("filled", filled_figure)):
        if picture is not None:
            delivery.put(
                picture,
                derivative_path(
                    root, entities, datatype="figures", desc=name, suffix="T1w", extension=".svg"
                ),
            )
    return delivery.close(steps=steps, metrics={f"{inputs.name}_lesion": {"ml": found["ml"]}})
