"""Tasks that make the FreeSurfer-readable side of the segmentation, and publish it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage

if TYPE_CHECKING:
    from deepprep.segmentation.intracranial import TemplateBrain

VERSION_FILE = "scripts/deepprep-version.txt"
"""Its presence marks a FreeSurfer subject folder as ours, which a run may write over."""


@stage(cpus=1, mem_gb=3.0, title="FreeSurfer volumes")
@python.define(
    outputs=[
        "raw",
        "orig",
        "nu",
        "t1",
        "brain",
        "aseg",
        "stats",
        "talairach",
        "table",
        "sidecar",
        "info",
    ]
)
def WriteFreeSurferVolumes(
    original: File,
    t1w: File,
    mask: File,
    labels: File,
    segmentation_info: File | None,
    uncertainty: File | None,
    affine: File | None,
    engine: str,
    label: str,
) -> tuple[File, File, File, File, File, File, File, File, File, File, File]:
    """Conformed volumes, statistics and tables of one subject, as FreeSurfer has them.

    Parameters
    ----------
    original : File
        The T1w as acquired, or the conformed average when there were several. FreeSurfer's
        ``c_ras`` is the centre of this image.
    t1w : File
        Bias-corrected T1w, same world space.
    mask, labels : File
        Brain mask and aseg numbers on the lattice of ``t1w``.
    segmentation_info : File or None
        JSON with ``volumes_mm3`` (structure number to mm^3, from posteriors); voxels are counted
        without it.
    uncertainty : File or None
        Uncertainty map on the lattice of ``labels``.
    affine : File or None
        ITK text file of the affine ``from-T1w_to-MNI152NLin6Asym``; found here without it.
    engine : str
        Name of the segmentation engine, for the sidecar.
    label : str
        Subject, for messages and the header of aseg.stats.

    Returns
    -------
    raw, orig, nu, t1, brain, aseg : File
        MGZ: the original as it is; conformed to bytes; bias-corrected with one gain; white matter
        110 everywhere; the same inside the brain mask; labels (int32).
    stats, talairach, table, sidecar, info : File
        aseg.stats, talairach.xfm, the BIDS table of volumes with its sidecar, and what was
        chosen.
    """
    import numpy as np

    from deepprep._version import __version__
    from deepprep.errors import StageError
    from deepprep.image import freesurfer_space as space
    from deepprep.image.white_matter_scaling import global_gain, scale_white_matter
    from deepprep.interfaces.files import keep_json, read_json
    from deepprep.interfaces.mgz import save_mgz
    from deepprep.interfaces.nifti import load_volume
    from deepprep.registration.itk import read_affine
    from deepprep.registration.talairach import format_xfm
    from deepprep.segmentation import intracranial, stats_file, volume_table
    from deepprep.segmentation.brain_measures import brain_measures
    from deepprep.segmentation.volumes import structure_volumes

    acquired = load_volume(str(original), None).frame(0)
    if np.issubdtype(acquired.data.dtype, np.floating):
        acquired = acquired.like(np.nan_to_num(acquired.data.astype(np.float32)))
    corrected = load_volume(str(t1w))
    inside = load_volume(str(mask), np.uint8)
    found = load_volume(str(labels), np.uint8)
    grid = space.conformed_grid(acquired.grid)

    scaling = space.byte_scaling(acquired.data)
    orig = scaling.apply(space.conform_image(acquired, grid).data)
    aseg = space.conform_labels(found, grid).data
    brain = (space.conform_labels(inside, grid).data > 0) | (aseg > 0)
    nu = space.conform_image(corrected, grid)
    white = np.isin(aseg, (2, 41))
    try:
        one_gain = global_gain(nu, white)
        scaled = scale_white_matter(nu, white)
    except ValueError as err:
        raise StageError(f"{label}: {err}; check the T1w image and its segmentation.") from err
    t1 = space.to_byte(scaled.scaled.data)
    # brainmask > 0 is the mask: no voxel inside may be 0.
    stripped = np.where(brain, np.maximum(t1, 1), 0).astype(np.uint8)

    if affine is None:
        head = intracranial.estimate_intracranial_volume(
            corrected, inside.data > 0, template_brain()
        )
    else:
        head = intracranial.intracranial_volume_from(read_affine(str(affine)))
    posterior: dict[int, float] | None = None
    if segmentation_info is not None:
        read = read_json(segmentation_info)["volumes_mm3"]
        posterior = {int(k): float(v) for k, v in read.items()}
    voxel_mm3 = found.grid.voxel_volume_mm3
    native = structure_volumes(found.data, corrected.data, voxel_mm3, posterior)
    volumes = {row.label: row.volume_mm3 for row in native}
    measures = brain_measures(aseg, brain, 1.0, volumes, head.volume_mm3)
    rows = structure_volumes(aseg, stripped, 1.0, volumes, stats_file.EXCLUDED)
    stats = stats_file.format_stats(label, __version__, measures, rows)
    unsure = None if uncertainty is None else load_volume(str(uncertainty)).data

    def mgz(name: str, data: np.ndarray) -> File:
        return File(save_mgz(nu.like(data), Path.cwd() / name))

    def text(name: str, content: str) -> File:
        path = Path.cwd() / name
        path.write_text(content, encoding="utf-8")
        return File(path)

    cube = grid.shape[0]
    info = {
        "etiv_mm3": head.volume_mm3,
        "cube_voxels": cube,
        "cube_note": ""
        if cube == space.CUBE_VOXELS
        else f"the field of view is larger than 256 mm: the conformed cube has {cube} voxels",
        "byte_limits": [scaling.low, scaling.high],
        "white_matter_gain": one_gain,
        "engine": engine,
    }
    return (
        File(save_mgz(acquired, Path.cwd() / "001.mgz")),
        mgz("orig.mgz", orig),
        mgz("nu.mgz", space.to_byte(nu.data * np.float32(one_gain))),
        mgz("T1.mgz", t1),
        mgz("brainmask.mgz", stripped),
        mgz("aseg.mgz", aseg.astype(np.int32)),
        text("aseg.stats", stats),
        text("talairach.xfm", format_xfm(head.template_to_t1w.inverse())),
        text("volumes.tsv", volume_table.volume_table(native, found.data, unsure)),
        keep_json(
            volume_table.table_sidecar(
                measures, from_posteriors=posterior is not None, engine=engine
            ),
            "volumes.json",
        ),
        keep_json(info, "freesurfer.json"),
    )


@stage(cpus=1, mem_gb=0.5, title="Write FreeSurfer folder", always_run=True)
@python.define(outputs=["record"])
def PublishFreeSurfer(
    raw: File,
    orig: File,
    nu: File,
    t1: File,
    brain: File,
    aseg: File,
    stats: File,
    talairach: File,
    table: File,
    sidecar: File,
    info: File,
    given: str,
    subject: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """``sourcedata/freesurfer/sub-X``, the table of volumes and the look-up table of labels.

    A folder of that name that another program made (a real FreeSurfer run) is left as it is.

    Parameters
    ----------
    raw, ..., info : File
        Results of :func:`WriteFreeSurferVolumes`.
    given : str
        Folder of a finished subject that is used, or empty: it is never written to.
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    out_dir, run_uuid, label : str
        What and where.
    """
    import logging

    from deepprep._version import __version__
    from deepprep.bids.derivatives import anatomical_entities, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.reports import methods
    from deepprep.segmentation.colors import lookup_table

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    folder = root / "sourcedata" / "freesurfer" / inputs.name
    delivery = Delivery(root, inputs.name, "freesurfer", run_uuid)
    chosen = read_json(info)
    summary = {"folder": folder.relative_to(root).as_posix(), "note": chosen["cube_note"]}
    if is_input(folder, given):
        summary["note"] = f"{summary['folder']} is an input of this run and was left as it is."
    elif (folder / "mri").is_dir() and not is_ours(folder):
        summary["note"] = (
            f"{summary['folder']} was made by another program and was left as it is; remove it "
            "to have DeepPrep write its own."
        )
        logging.getLogger(__name__).warning(summary["note"])
    else:
        # First of all, so that a run that was cut off knows the folder as its own.
        version = f"DeepPrep {__version__}, segmentation engine {chosen['engine']}\n"
        delivery.text(version, folder / VERSION_FILE)
        for file, names in (
            (raw, ("mri/orig/001.mgz", "mri/rawavg.mgz")),
            (orig, ("mri/orig.mgz",)),
            (nu, ("mri/nu.mgz",)),
            (t1, ("mri/T1.mgz",)),
            (brain, ("mri/brainmask.mgz", "mri/norm.mgz")),
            # aseg.mgz gets the cortex of the surfaces in PublishCortex, if there are surfaces
            (aseg, ("mri/aseg.auto.mgz", "mri/aseg.presurf.mgz", "mri/aseg.mgz")),
            (talairach, ("mri/transforms/talairach.xfm",)),
            (stats, ("stats/aseg.stats",)),
        ):
            for name in names:
                delivery.put(file, folder / name)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery.put(
        table,
        derivative_path(
            root, entities, datatype="anat", desc="aseg", suffix="morph", extension=".tsv"
        ),
        read_json(sidecar),
    )
    delivery.text(lookup_table(), root / "desc-aseg_dseg.tsv")
    return delivery.close(
        steps=[methods.structure_volumes()],
        metrics={f"{inputs.name}_volumes": {"etiv_ml": chosen["etiv_mm3"] / 1000.0}},
        summary=summary,
    )


def is_ours(folder: Path) -> bool:
    """Whether a FreeSurfer subject folder was written by DeepPrep."""
    return (folder / VERSION_FILE).is_file()


def is_input(folder: Path, given: str) -> bool:
    """Whether a FreeSurfer subject folder is the one that surfaces are read from."""
    return bool(given) and folder.resolve() == Path(given).resolve()


def template_brain() -> TemplateBrain:
    """The bundled template that the head size is measured against, at 2 mm."""
    from deepprep.data.templates import template_files
    from deepprep.interfaces.nifti import load_volume
    from deepprep.segmentation.intracranial import TEMPLATE, TemplateBrain

    files = template_files(TEMPLATE, 2)
    assert files.t1w is not None and files.mask is not None  # bundled
    return TemplateBrain(load_volume(files.t1w), load_volume(files.mask))
