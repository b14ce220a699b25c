"""Tasks of the anatomical stream: conform, brain mask, bias, tissues, normalisation."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage
from deepprep.image.volume import Volume


@stage(cpus=2, mem_gb=3.0, title="Conform T1w")
@python.define(outputs=["t1w", "info"])
def ConformT1w(t1w: list[File], reference: str, device: str, label: str) -> tuple[File, File]:
    """Bring all T1w images to RAS and one lattice, and average them if there are several.

    Parameters
    ----------
    t1w : list of File
        Original images.
    reference : str
        ``first-lex`` (in the space of the first image) or ``unbiased``.
    device : str
        Torch device of the registration.
    label : str
        Subject, for messages.
    """
    import numpy as np

    from deepprep.image.conform import conform, conform_target, finite, to_ras
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.nifti import load_volume
    from deepprep.nn.device import usable_device
    from deepprep.registration.average import robust_average

    device = usable_device(device)
    originals = [load_volume(str(f)) for f in t1w]
    originals = [finite(v.frame(0)) for v in originals]
    rows = [
        {
            "name": Path(str(f)).name,
            "orientation": "".join(v.grid.axcodes),
            "shape": list(v.shape[:3]),
            "zooms_mm": [float(z) for z in v.zooms_mm],
        }
        for f, v in zip(t1w, originals)
    ]
    target = conform_target([to_ras(v).grid for v in originals])
    conformed = [conform(originals[i], target) for i in target.kept]
    maps = [np.eye(4)]
    average = conformed[0]
    if len(conformed) > 1:
        first = 0 if reference == "first-lex" else None
        average, affines = robust_average(conformed, in_space_of=first, device=device)
        maps = [a.matrix for a in affines]
    for n, row in enumerate(rows):
        if n in target.dropped:
            row["note"] = "left out: resolution much lower than the best"
        elif len(conformed) > 1:
            row["note"] = "averaged"
        elif row["orientation"] != "RAS":
            row["note"] = "axes reordered to RAS"
        else:
            row["note"] = "used as it is"
    info = {
        "rows": rows,
        "shape": list(average.shape),
        "zooms_mm": [float(z) for z in average.zooms_mm],
        "t1w_to_orig": {rows[i]["name"]: m for i, m in zip(target.kept, maps)},
        "n_averaged": len(conformed),
        "reference": reference,
    }
    return keep_volume(average, "t1w.nii"), keep_json(info, "conform.json")


@stage(cpus=2, mem_gb=4.0, gpu=True, title="Brain mask")
@python.define(outputs=["mask", "info"])
def MaskBrain(
    t1w: File, mode: str, weights: list[str], device: str, label: str
) -> tuple[File, File]:
    """Brain mask of the conformed T1w.

    Parameters
    ----------
    t1w : File
        Conformed T1w.
    mode : str
        ``--skull-strip-t1w``.
    weights : list of str
        Hashes of the networks' weights: other weights are another task.
    device, label : str
        Torch device; subject, for messages.
    """
    import numpy as np

    from deepprep.errors import StageError
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.freesurfer import template_brain
    from deepprep.interfaces.nifti import load_volume
    from deepprep.segmentation.upright import extract_brain_upright

    volume = load_volume(str(t1w))
    try:
        found = extract_brain_upright(volume, template_brain(), mode, device)
    except ValueError as err:
        raise StageError(f"{err}; check that the T1w file really is a T1-weighted head.") from err
    info = {
        "method": found.method,
        "reason": found.reason,
        "volume_ml": found.volume_ml,
        "plausible": found.plausible,
    }
    mask = keep_volume(volume.like(found.mask.astype(np.uint8)), "mask.nii")
    return mask, keep_json(info, "mask.json")


@stage(cpus=1, mem_gb=3.0, title="Bias field")
@python.define(outputs=["t1w"])
def CorrectBias(t1w: File, mask: File, label: str) -> File:
    """N4 of the T1w inside the brain mask."""
    import numpy as np

    from deepprep.image.bias import correct_bias
    from deepprep.interfaces.files import keep_volume
    from deepprep.interfaces.nifti import load_volume

    inside = load_volume(str(mask), np.uint8).data > 0
    return keep_volume(correct_bias(load_volume(str(t1w)), inside).corrected, "t1w.nii")


@stage(cpus=2, mem_gb=4.0, gpu=True, title="Whole-brain segmentation")
@python.define(outputs=["labels", "mask", "dseg", "gm", "wm", "csf", "uncertainty", "info"])
def SegmentBrain(
    t1w: File,
    mask: File,
    engine: str,
    files: list[str],
    weights: list[str],
    threshold: float,
    device: str,
    label: str,
) -> tuple[File, File, File, File, File, File, File, File]:
    """Brain structures, tissue fractions and the final brain mask of the bias-corrected T1w.

    Parameters
    ----------
    t1w, mask : File
        Bias-corrected T1w and the mask of the brain extraction.
    engine : str
        Name of the segmentation engine.
    files, weights : list of str
        Files of its weights, and their hashes: other weights are another task.
    threshold : float
        ``--seg-threshold``.
    device, label : str
        Torch device; subject, for messages.
    """
    import numpy as np

    from deepprep.errors import StageError
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.freesurfer import template_brain
    from deepprep.interfaces.nifti import load_volume
    from deepprep.quality.metrics import anatomical_metrics
    from deepprep.quality.segmentation import segmentation_metrics
    from deepprep.segmentation.brain import choose_brain
    from deepprep.segmentation.engines import make_engine
    from deepprep.segmentation.partial_volume import tissue_maps
    from deepprep.segmentation.upright import segment_upright

    volume = load_volume(str(t1w))
    extracted = load_volume(str(mask), np.uint8).data > 0
    try:
        found = segment_upright(
            make_engine(engine), volume, extracted, [Path(f) for f in files], template_brain(),
            device=device, threshold=threshold,
        )  # fmt: skip
        brain = choose_brain(extracted, found.labels, volume.zooms_mm)
        maps = tissue_maps(volume, found, brain.mask)
    except ValueError as err:
        raise StageError(
            f"{err}; check that the T1w file really is a T1-weighted head, whole and right side up."
        ) from err
    inside = volume.like(brain.mask.astype(np.uint8))
    labels = volume.like(np.where(brain.mask, found.labels, 0).astype(np.uint8))
    dseg = volume.like(maps.dseg)
    structures, summary, warnings = segmentation_metrics(labels, found)
    info = {
        "engine": found.engine,
        "notes": list(found.notes),
        "structures": structures,
        "volumes_mm3": found.volumes_mm3,
        "brain_dice": brain.dice,
        "brain_source": brain.source,
        "brain_ml": float(brain.mask.sum()) * volume.grid.voxel_volume_mm3 / 1000.0,
        "warnings": [*([brain.warning] if brain.warning else []), *warnings],
        "volumes_ml": maps.volumes_ml(volume.grid.voxel_volume_mm3),
        "means": maps.model.means,
        "sds": maps.model.sds,
        "quality": {
            **anatomical_metrics(volume, inside, dseg),
            "brain_mask_dice": brain.dice,
            **summary,
        },
    }
    return (
        keep_volume(labels, "aseg.nii"),
        keep_volume(inside, "mask.nii"),
        keep_volume(dseg, "dseg.nii"),
        keep_volume(volume.like(maps.gm), "gm.nii"),
        keep_volume(volume.like(maps.wm), "wm.nii"),
        keep_volume(volume.like(maps.csf), "csf.nii"),
        keep_volume(volume.like(found.uncertainty), "uncertainty.nii"),
        keep_json(info, "segmentation.json"),
    )


@stage(cpus=2, mem_gb=6.0, gpu=True, title="Normalisation")
@python.define(outputs=["to_template", "to_t1w", "info"])
def Normalise(
    t1w: File,
    mask: File,
    gm: File,
    wm: File,
    csf: File,
    labels: File,
    template: str,
    template_files: dict[str, File],
    lesion: File | None,
    engine: str,
    files: list[str],
    weights: list[str],
    device: str,
    seed: int,
    label: str,
) -> tuple[File, File, File]:
    """Affine and diffeomorphic registration of the T1w to a template.

    Parameters
    ----------
    t1w, mask, gm, wm, csf : File
        Bias-corrected T1w, brain mask and tissue fractions.
    labels : File
        Brain structures of the T1w in FreeSurfer's numbering.
    template : str
        Name, for messages.
    template_files : dict
        Keys of :class:`deepprep.data.templates.TemplateFiles` that the template has.
        Where it has labels, their overlap drives the map; else the tissue maps do.
    lesion : File or None
        Mask of a lesion in the space of the T1w: left out of all costs and bridged.
    engine : str
        ``refine``, ``synthmorph`` or ``synthmorph+refine``.
    files, weights : list of str
        Files of the official affine and deformation network, or of our own deformation network,
        and their hashes.
    device, seed, label
        Torch device, random seed, subject.

    Returns
    -------
    to_template, to_t1w, info : File
        ITK composites: the map that brings images to the template, and back; measures.
    """
    import numpy as np

    from deepprep.image.working_copy import working_copy, working_grid
    from deepprep.interfaces.files import keep_json
    from deepprep.interfaces.nifti import load_volume
    from deepprep.registration.affine import register_affine
    from deepprep.registration.diffeomorphic import (
        LEVELS,
        ChannelPair,
        register_diffeomorphic,
    )
    from deepprep.registration.flow import flow_of
    from deepprep.registration.itk import write_composite
    from deepprep.registration.label_channels import LabelPair
    from deepprep.registration.lesion import labels_outside
    from deepprep.registration.synthmorph.engine import network_start
    from deepprep.registration.transforms import Affine

    template_paths = {key: str(value) for key, value in template_files.items()}
    fixed = load_volume(template_paths.get("brain") or template_paths["t1w"])
    fixed_mask = load_volume(template_paths["mask"]) if "mask" in template_paths else None
    if fixed_mask is None:
        fixed_mask = fixed.like((fixed.data > 0).astype(np.float32))
    fixed = fixed.like(np.where(fixed_mask.data > 0.5, fixed.data, 0).astype(np.float32))
    moving_mask = load_volume(str(mask))
    grid = working_grid(moving_mask.grid, moving_mask.data > 0.5)
    inside = moving_mask.data > 0.5
    moving_mask = working_copy(moving_mask, grid)
    moving = load_volume(str(t1w))
    own_voxels = moving.grid
    moving = working_copy(moving.like(np.where(inside, moving.data, 0)), grid)
    hole = load_volume(str(lesion)) if lesion is not None else None
    pair = None
    if "aseg" in template_paths:
        own = load_volume(str(labels), np.uint8)
        own = own if hole is None else labels_outside(own, hole)
        pair = LabelPair(load_volume(template_paths["aseg"], np.uint8), own)
    channels = [
        ChannelPair(load_volume(template_paths[name]), working_copy(load_volume(str(tissue)), grid))
        for name, tissue in (("gm", gm), ("wm", wm))
        if name in template_paths and pair is None
    ]
    driven_by = "image and brain structures" if pair else "image and tissue maps"
    start, levels, network = None, list(LEVELS), None

    def linear() -> Affine:
        return register_affine(
            fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, labels=pair,
            lesion=hole, device=device,
        )  # fmt: skip

    if engine == "refine":
        affine = linear()
    else:
        affine, start, network = network_start(fixed, moving, files, linear, device=device)
        # a network's field is past the coarsest level
        levels = levels[1:]
    if engine == "synthmorph" and start is not None:
        driven_by = "networks"
        result = flow_of(start, fixed, affine, device=device)
    else:
        result = register_diffeomorphic(
            fixed, moving, affine, fixed_mask=fixed_mask, moving_mask=moving_mask,
            channels=channels, labels=pair, lesion=hole, start=start, levels=levels,
            device=device, seed=seed,
        )  # fmt: skip
    to_template = write_composite(Path.cwd() / "to_template.h5", result.fixed_to_moving())
    to_t1w = write_composite(Path.cwd() / "to_t1w.h5", result.moving_to_fixed(own_voxels))
    info = {
        "template": template,
        "engine": engine,
        "network": network,
        "driven_by": driven_by,
        "lesion_ml": None if hole is None else _volume_ml(hole),
        **result.log,
    }
    return File(to_template), File(to_t1w), keep_json(info, "normalise.json")


def _volume_ml(mask: Volume) -> float:
    return float((mask.data > 0.5).sum() * mask.grid.voxel_volume_mm3 / 1000.0)


@stage(cpus=2, mem_gb=4.0, title="T1w in template space")
@python.define(outputs=["t1w", "mask", "dseg", "gm", "wm", "csf", "jacobian", "info", "figure"])
def WarpAnatomy(
    t1w: File,
    mask: File,
    dseg: File,
    gm: File,
    wm: File,
    csf: File,
    to_template: File,
    space: str,
    template_files: dict[str, File],
    label: str,
) -> tuple[File, File, File, File, File, File, File, File, File]:
    """Anatomical derivatives on a template's lattice, their overlap with it, and the figure."""
    import numpy as np

    from deepprep.image.resample import resample
    from deepprep.interfaces.files import keep_json, keep_volume
    from deepprep.interfaces.nifti import load_volume
    from deepprep.quality.metrics import dice
    from deepprep.registration.itk import read_composite
    from deepprep.registration.transforms import warp_jacobian
    from deepprep.reports.figures import plot_template_flicker

    files = {key: str(value) for key, value in template_files.items()}
    fixed = load_volume(files["t1w"] if "t1w" in files else files["brain"])
    chain = read_composite(str(to_template))
    head = load_volume(str(t1w))
    warped = resample(head, fixed.grid, chain, "cubic")
    warped = warped.like(np.clip(warped.data, 0, float(head.data.max())))
    inside = resample(load_volume(str(mask)), fixed.grid, chain, "linear")
    inside = inside.like((inside.data > 0.5).astype(np.uint8))
    labels = resample(load_volume(str(dseg), np.uint8), fixed.grid, chain, "label")
    fractions = {
        name: resample(load_volume(str(f)), fixed.grid, chain, "linear")
        for name, f in (("gm", gm), ("wm", wm), ("csf", csf))
    }
    overlap = {
        name.upper(): dice(fractions[name].data > 0.5, load_volume(files[name]).data > 0.5)
        for name in ("gm", "wm", "csf")
        if name in files
    }
    template_mask = load_volume(files["mask"]) if "mask" in files else None
    if template_mask is not None:
        overlap["brain"] = dice(inside.data > 0, template_mask.data > 0.5)
    shown = fixed if "t1w" in files else warped.like(fixed.data)
    figure = plot_template_flicker(
        shown,
        warped if "t1w" in files else warped.like(warped.data * (inside.data > 0)),
        Path.cwd() / "template.svg",
        space,
        mask=template_mask,
    )
    return (
        keep_volume(warped, "t1w.nii.gz", code=4),
        keep_volume(inside, "mask.nii.gz", code=4),
        keep_volume(labels, "dseg.nii.gz", code=4),
        keep_volume(fractions["gm"], "gm.nii.gz", code=4),
        keep_volume(fractions["wm"], "wm.nii.gz", code=4),
        keep_volume(fractions["csf"], "csf.nii.gz", code=4),
        keep_volume(warp_jacobian(chain, fixed.grid), "jacobian.nii.gz", code=4),
        keep_json({"space": space, "overlap_dice": overlap}, "overlap.json"),
        File(figure),
    )


@stage(cpus=1, mem_gb=2.0, title="Anatomical figures")
@python.define(outputs=["tissues", "structures"])
def DrawSegmentation(
    t1w: File, mask: File, dseg: File, labels: File, label: str
) -> tuple[File, File]:
    """Figures of the brain mask with the tissue classes, and of the brain structures."""
    import numpy as np

    from deepprep.interfaces.nifti import load_volume
    from deepprep.reports.figures import plot_dseg, plot_structures

    head, inside = load_volume(str(t1w)), load_volume(str(mask), np.uint8)
    tissues = plot_dseg(head, inside, load_volume(str(dseg), np.uint8), Path.cwd() / "dseg.svg")
    structures = plot_structures(
        head, inside, load_volume(str(labels), np.uint8), Path.cwd() / "aseg.svg"
    )
    return File(tissues), File(structures)
