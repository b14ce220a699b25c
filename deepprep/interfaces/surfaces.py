"""Tasks that reconstruct the cortical surfaces, draw them, and write them."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage
from deepprep.interfaces.hemisphere_files import HEMISPHERES, SIDES

SHAPES = ("thickness", "curv", "sulc")
"""Overlays that are derivatives of their own, as in fMRIPrep."""

MORPHS = {
    "thickness": "thickness",
    "curv": "curv",
    "curv.pial": "curv.pial",
    "sulc": "sulc",
    "area": "area",
    "area.mid": "area.mid",
    "area.pial": "area.pial",
    "volume": "volume",
}
"""Overlay -> FreeSurfer's file in ``surf/`` (after ``lh.`` or ``rh.``)."""


@stage(cpus=1, mem_gb=4.0, title="Cortical surfaces")
@python.define(outputs=["surfaces", "info"])
def ReconstructHemisphere(
    side: str,
    t1w: File,
    mask: File,
    labels: File,
    engine: str,
    files: list[str],
    weights: list[str],
    device: str,
    label: str,
) -> tuple[File, File]:
    """White and pial surface of a hemisphere, and what is measured on them.

    Parameters
    ----------
    side : {'L', 'R'}
        Hemisphere.
    t1w, mask, labels : File
        Bias-corrected T1w, brain mask, FreeSurfer numbers on its lattice.
    engine : str
        Name of the engine of the level set (:mod:`deepprep.surface.level_set`).
    files : list of str
        Its weights for this side, if it has any.
    weights : list of str
        Stamps of these files: other weights are another input.
    device : str
        Torch device of a network and of the placement of vertices, if the task has a GPU slot.
    label : str
        Subject, for messages.

    Returns
    -------
    surfaces, info : File
        :func:`deepprep.interfaces.hemisphere_files.keep_hemisphere`; measures of quality.
    """
    import numpy as np

    from deepprep.errors import StageError
    from deepprep.interfaces.files import keep_json
    from deepprep.interfaces.hemisphere_files import keep_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.nn.device import usable_device
    from deepprep.surface.level_set import SEGMENTATION, engine_level
    from deepprep.surface.reconstruct import reconstruct_hemisphere
    from deepprep.surface.white_sheet import with_white_sheet

    device = usable_device(device)
    head = load_volume(str(t1w))
    inside = load_volume(str(mask), np.uint8)
    try:
        found = with_white_sheet(load_volume(str(labels), np.uint8), head, SIDES[side])
        level = None
        if engine != SEGMENTATION:
            level = engine_level(engine, files[0], SIDES[side], found, head, device=device)
        hemisphere = reconstruct_hemisphere(
            SIDES[side], head, found, inside, level=level, device=device
        )
    except ValueError as err:
        raise StageError(
            f"The surfaces of the {SIDES[side]} hemisphere could not be made: {err}; check the T1w image "
            "and its segmentation. Volumetric outputs do not need them."
        ) from err
    return (
        keep_hemisphere(hemisphere, f"hemi-{side}.npz"),
        keep_json(hemisphere.qc, f"hemi-{side}.json"),
    )


@stage(cpus=1, mem_gb=3.0, title="Ribbon and figure of the surfaces")
@python.define(
    outputs=["mask", "ribbon", "left_ribbon", "right_ribbon", "wm", "filled", "figure", "native"]
)
def SurfaceVolumes(
    left: File, right: File, t1w: File, mask: File, orig: File, aseg: File, label: str
) -> tuple[File, File, File, File, File, File, File, File]:
    """Volumes that follow from the surfaces, and their figure.

    Parameters
    ----------
    left, right : File
        Results of :func:`ReconstructHemisphere`.
    t1w, mask : File
        Bias-corrected T1w and brain mask.
    orig, aseg : File
        ``orig.mgz`` and ``aseg.mgz``.
    label : str
        Subject, for messages.

    Returns
    -------
    mask : File
        Cortical ribbon on the lattice of the T1w.
    ribbon, left_ribbon, right_ribbon, wm, filled : File
        FreeSurfer's volumes of these names.
    figure : File
        Lines of the surfaces over slices.
    native : File
        Ribbon with white matter, left and right, on the lattice of the T1w.
    """
    import numpy as np

    from deepprep.interfaces.files import keep_volume
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.mgz import save_mgz
    from deepprep.interfaces.nifti import load_volume
    from deepprep.reports.figures import plot_surfaces
    from deepprep.surface.ribbon import ribbon_volumes

    first, second = load_hemisphere(str(left)), load_hemisphere(str(right))
    head = load_volume(str(t1w))
    conformed = load_volume(str(orig), None)
    structures = load_volume(str(aseg), None)
    native = ribbon_volumes(first, second, head.grid)
    freesurfer = ribbon_volumes(first, second, conformed.grid)
    cortex = np.isin(native.ribbon, (3, 42)).astype(np.uint8)

    def mgz(name: str, data: np.ndarray) -> File:
        return File(save_mgz(conformed.like(data.astype(np.uint8)), Path.cwd() / name))

    figure = plot_surfaces(
        head,
        load_volume(str(mask), np.uint8),
        [first.white, second.white],
        [first.pial, second.pial],
        Path.cwd() / "surfaces.svg",
    )
    return (
        keep_volume(head.like(cortex), "ribbon.nii"),
        mgz("ribbon.mgz", freesurfer.ribbon),
        mgz("lh.ribbon.mgz", freesurfer.ribbon == 3),
        mgz("rh.ribbon.mgz", freesurfer.ribbon == 42),
        mgz("wm.mgz", freesurfer.wm(structures.data)),
        mgz("filled.mgz", freesurfer.filled),
        File(figure),
        keep_volume(head.like(native.ribbon.astype(np.uint8)), "ribbon-native.nii"),
    )


@stage(cpus=1, mem_gb=1.0, title="Write surfaces", always_run=True)
@python.define(outputs=["record"])
def PublishSurfaces(
    left: File,
    right: File,
    left_info: File,
    right_info: File,
    mask: File,
    ribbon: File,
    left_ribbon: File,
    right_ribbon: File,
    wm: File,
    filled: File,
    figure: File,
    orig: File,
    freesurfer_record: str,
    engine_reason: str,
    given: str,
    subject: str,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """GIFTI derivatives, FreeSurfer's ``surf`` and ``label``, ribbon, figure and measures.

    Parameters
    ----------
    left, right, left_info, right_info : File
        Results of :func:`ReconstructHemisphere`.
    mask, ribbon, left_ribbon, right_ribbon, wm, filled, figure : File
        Results of :func:`SurfaceVolumes`.
    orig : File
        ``orig.mgz``.
    freesurfer_record : str
        Record of ``PublishFreeSurfer``: it comes first, and tells whose the folder is.
    engine_reason : str
        Where the surfaces come from and why, in a sentence, when they were computed.
    given : str
        Folder of the finished subject that they are of, or empty: it is never written to.
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    from deepprep.bids.derivatives import anatomical_entities, bids_uri, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.interfaces import mesh_files
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.interfaces.freesurfer import is_input, is_ours
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.quality.surfaces import shown_measures, surface_metrics, surface_warnings
    from deepprep.reports import methods
    from deepprep.reports.summaries import surface_summary

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery = Delivery(root, inputs.name, "surfaces", run_uuid)
    sources = [bids_uri(i.path, bids_dir) for i in inputs.t1w]
    folder = root / "sourcedata" / "freesurfer" / inputs.name
    grid = load_volume(str(orig), None).grid
    sides = {side: load_hemisphere(str(file)) for side, file in (("L", left), ("R", right))}

    def path(extension: str, suffix: str, **names: str) -> Path:
        return derivative_path(
            root, entities, datatype="anat", suffix=suffix, extension=extension, **names
        )

    for side, hemisphere in sides.items():
        meshes = {
            "white": hemisphere.white,
            "pial": hemisphere.pial,
            "midthickness": hemisphere.midthickness,
            "inflated": hemisphere.inflated,
        }
        for kind, mesh in meshes.items():
            file = path(".surf.gii", kind, hemi=side)
            delivery.noted(mesh_files.write_surf_gii(file, mesh, side, kind), {"Sources": sources})
        for name in SHAPES:
            file = path(".shape.gii", name, hemi=side)
            mesh_files.write_shape_gii(file, hemisphere.overlays[name], side, name)
            delivery.noted(file, {"Sources": sources})
        file = path(".label.gii", "mask", hemi=side, desc="cortex")
        delivery.noted(mesh_files.write_cortex_gii(file, hemisphere.cortex, side))
    delivery.put(mask, path(".nii.gz", "mask", desc="ribbon"), {"Type": "ROI", "Sources": sources})

    note = ""
    if is_input(folder, given):
        note = (
            f"{folder.relative_to(root).as_posix()} is an input of this run and was left as it is"
        )
    elif is_ours(folder):
        for side, hemisphere in sides.items():
            hemi = HEMISPHERES[side]
            surf = folder / "surf"
            written = {
                "white": hemisphere.white,
                "smoothwm": hemisphere.smoothwm,
                "pial": hemisphere.pial,
                "inflated": hemisphere.inflated,
            }
            if hemisphere.orig is not None:
                written["orig"] = hemisphere.orig
            for name, mesh in written.items():
                head = name != "inflated"
                file = surf / f"{hemi}.{name}"
                delivery.noted(mesh_files.write_freesurfer_surface(file, mesh, grid, head=head))
            for overlay, name in MORPHS.items():
                values = hemisphere.overlays[overlay]
                file = surf / f"{hemi}.{name}"
                delivery.noted(mesh_files.write_morph(file, values, hemisphere.white.n_faces))
            file = surf / f"{hemi}.w-g.pct.mgh"
            delivery.noted(mesh_files.write_morph_mgh(file, hemisphere.overlays["w-g.pct"]))
            file = folder / "label" / f"{hemi}.cortex.label"
            delivery.noted(
                mesh_files.write_label(file, hemisphere.cortex, hemisphere.white, grid, inputs.name)
            )
        for source, name in (
            (ribbon, "ribbon"),
            (left_ribbon, "lh.ribbon"),
            (right_ribbon, "rh.ribbon"),
            (wm, "wm"),
            (filled, "filled"),
        ):
            delivery.put(source, folder / "mri" / f"{name}.mgz")
    else:
        note = f"{folder.relative_to(root).as_posix()} is of another program and was left as it is"
    delivery.put(
        figure,
        derivative_path(
            root, entities, datatype="figures", suffix="T1w", extension=".svg", desc="reconall"
        ),
    )
    info = {"L": read_json(left_info), "R": read_json(right_info)}
    source = info["L"].get("source", engine_reason)
    metrics, warnings = surface_metrics(sides, info), surface_warnings(sides, info)
    delivery.text(
        surface_summary(shown_measures(metrics), warnings, note, source),
        derivative_path(
            root, entities, datatype="figures", suffix="T1w", extension=".html", desc="reconall"
        ),
    )
    return delivery.close(
        steps=[methods.given_surfaces() if given else methods.surfaces()],
        metrics={f"{inputs.name}_surfaces": metrics},
        summary={"warnings": warnings, "note": note, "source": source},
    )


@stage(cpus=1, mem_gb=0.2, title="Wait for the surfaces")
@python.define(outputs=["mask"])
def RequireSurfaces(mask: File, record: str) -> File:
    """The brain mask, once the surfaces are there: ``--surf-recon-fallback none``.

    Parameters
    ----------
    mask : File
        Passed on as it is.
    record : str
        What :func:`PublishSurfaces` returned.
    """
    return mask
