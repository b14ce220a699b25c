"""Task that writes spheres, parcels, their statistics and the group spaces of a participant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage
from deepprep.interfaces.hemisphere_files import HEMISPHERES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from deepprep.bids.spaces import OutputSpace
    from deepprep.data.surface_atlases import Parcellation
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.sphere_files import HemisphereSpheres
    from deepprep.surface.reconstruct import Hemisphere
    from deepprep.surface.surface_stats import HemisphereStats

METRICS = ("thickness", "curv", "sulc")
"""Maps of ``space-fsLR_den-91k``."""
SURFACES = ("white", "pial", "midthickness")
"""Meshes of ``space-fsLR_den-32k``."""


@stage(cpus=1, mem_gb=1.5, title="Write spheres and parcels", always_run=True)
@python.define(outputs=["record"])
def PublishCortex(
    left: File,
    right: File,
    left_spheres: File,
    right_spheres: File,
    left_parcels: File,
    right_parcels: File,
    left_info: File,
    right_info: File,
    dseg: File,
    aseg: File,
    aparc_aseg: File,
    wmparc: File,
    a2009s_aseg: File | None,
    figure: File,
    orig: File,
    freesurfer_info: File,
    freesurfer_record: str,
    engine: str,
    engine_reason: str,
    given: str,
    spaces: list[str],
    subject: str,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """Spheres, annotations, statistics, labelled volumes, and maps of group spaces.

    Parameters
    ----------
    left, right : File
        Results of ``ReconstructHemisphere``.
    left_spheres, right_spheres, left_info, right_info : File
        Results of ``RegisterHemisphere``.
    left_parcels, right_parcels : File
        Results of ``ParcellateHemisphere``.
    dseg, aseg, aparc_aseg, wmparc, a2009s_aseg, figure : File
        Results of ``LabelCortexVolumes``.
    orig, freesurfer_info : File
        ``orig.mgz``; measures of the conformed volumes.
    freesurfer_record : str
        Record of ``PublishFreeSurfer``: it comes first, because ``aseg.mgz`` here takes the place of its.
    engine : {'refine', 'sugar'}
        How the spheres were registered.
    engine_reason : str
        Why the spheres were registered this way, in a sentence.
    given : str
        Folder of the finished subject that surfaces are read from, or empty: never written to.
    spaces : list of str
        Output spaces; those on the surface of a group get the maps of the cortex too.
    subject : str
        JSON of :class:`deepprep.bids.records.SubjectInputs`.
    bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    from deepprep._version import __version__
    from deepprep.bids.derivatives import anatomical_entities, bids_uri, derivative_path
    from deepprep.bids.records import SubjectInputs
    from deepprep.bids.spaces import parse_spaces
    from deepprep.data.parcellations import ANNOTATIONS
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.files import read_json
    from deepprep.interfaces.freesurfer import is_input, is_ours
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.interfaces.sphere_files import load_parcels, load_spheres
    from deepprep.quality.surfaces import shown_sphere_measures, sphere_metrics, sphere_warnings
    from deepprep.reports import methods
    from deepprep.reports.summaries import surface_summary
    from deepprep.segmentation.colors import aparc_lookup_table

    inputs = SubjectInputs.from_json(subject)
    root = Path(out_dir)
    entities = anatomical_entities(inputs.t1w, inputs.anatomical_session)
    delivery = Delivery(root, inputs.name, "cortex", run_uuid)
    sources = [bids_uri(i.path, bids_dir) for i in inputs.t1w]
    folder = root / "sourcedata" / "freesurfer" / inputs.name
    sides = {s: load_hemisphere(str(f)) for s, f in (("L", left), ("R", right))}
    spheres = {s: load_spheres(str(f)) for s, f in (("L", left_spheres), ("R", right_spheres))}
    parcels = {s: load_parcels(str(f)) for s, f in (("L", left_parcels), ("R", right_parcels))}

    def path(suffix: str, extension: str, **names: str) -> Path:
        return derivative_path(
            root, entities, **{"datatype": "anat", **names}, suffix=suffix, extension=extension
        )  # type: ignore[arg-type]

    stats = {
        name: {s: _measure(s, sides[s], parcels[s][name]) for s in HEMISPHERES}
        for name in parcels["L"]
    }
    etiv = float(read_json(freesurfer_info)["etiv_mm3"])
    _write_meshes(delivery, path, spheres, sources)
    _write_group_maps(delivery, path, sides, spheres, sources)
    _write_space_maps(delivery, path, sides, spheres, parse_spaces(spaces), sources)
    for name, measured in stats.items():
        file = path("morph", ".tsv", seg=entity(name))
        _write_table(delivery, file, name, list(measured.values()), sources)
        for side in HEMISPHERES:
            file = path("dseg", ".label.gii", hemi=side, seg=entity(name))
            _write_label_gii(delivery, file, side, name, parcels[side][name], sources)
    delivery.put(dseg, path("dseg", ".nii.gz", desc="aparcaseg"), {"Sources": sources})
    delivery.text(aparc_lookup_table(), root / "desc-aparcaseg_dseg.tsv")

    if is_ours(folder) and not is_input(folder, given):
        grid = load_volume(str(orig), None).grid
        for side in HEMISPHERES:
            _write_freesurfer_side(delivery, folder, side, spheres[side], grid)
            for name, measured in stats.items():
                _write_freesurfer_parcels(
                    delivery, folder, side, name, parcels[side][name],
                    measured[side], inputs.name, __version__, etiv,
                )  # fmt: skip
        for source, name in (
            (aseg, "aseg"),
            (aparc_aseg, "aparc+aseg"),
            (a2009s_aseg, "aparc.a2009s+aseg"),
            (wmparc, "wmparc"),
        ):
            if source is not None:
                delivery.put(source, folder / "mri" / f"{name}.mgz")
    delivery.put(figure, path("T1w", ".svg", datatype="figures", desc="parcels"))
    info = {"L": read_json(left_info), "R": read_json(right_info)}
    metrics, warnings = sphere_metrics(info), sphere_warnings(info)
    delivery.text(
        surface_summary(shown_sphere_measures(metrics), warnings, engine_reason),
        path("T1w", ".html", datatype="figures", desc="parcels"),
    )
    return delivery.close(
        steps=[methods.spheres(engine), methods.parcels([ANNOTATIONS[name] for name in stats])],
        metrics={f"{inputs.name}_spheres": metrics},
        summary={"warnings": warnings, "parcellations": list(stats)},
    )


def entity(parcellation: str) -> str:
    """Value of ``seg`` in file names: letters and digits."""
    return {"a2009s": "aparca2009s"}.get(parcellation, parcellation.replace("-", ""))


def _measure(side: str, hemisphere: Hemisphere, parcels: Parcellation) -> HemisphereStats:
    """Statistics of one hemisphere, on its own surfaces."""
    from deepprep.surface.curvature import principal_curvatures
    from deepprep.surface.surface_stats import measure_parcels

    hemi = HEMISPHERES[side]
    return measure_parcels(
        hemi,
        hemisphere.white,
        hemisphere.pial,
        hemisphere.overlays["thickness"],
        *principal_curvatures(hemisphere.white),
        parcels.labels,
        parcels.names,
        hemisphere.cortex,
    )


def _write_meshes(
    delivery: Delivery, path: Any, spheres: dict[str, HemisphereSpheres], sources: list[str]
) -> None:
    from deepprep.interfaces import mesh_files

    for side, found in spheres.items():
        for mesh, kind, names in (
            (found.sphere, "sphere", {}),
            (found.fsaverage, "reg_sphere", {"desc": "reg"}),
            (found.fslr, "reg_sphere", {"space": "fsLR", "desc": "reg"}),
        ):
            file = path("sphere", ".surf.gii", hemi=side, **names)
            delivery.noted(mesh_files.write_surf_gii(file, mesh, side, kind), {"Sources": sources})


def _write_group_maps(
    delivery: Delivery,
    path: Any,
    sides: dict[str, Hemisphere],
    spheres: dict[str, HemisphereSpheres],
    sources: list[str],
) -> None:
    """Meshes with the triangles of fsLR 32k, and the maps of the 91k grayordinates' cortex."""
    import numpy as np

    from deepprep.bids.spaces import OutputSpace
    from deepprep.data.surface_atlases import fslr_cortex
    from deepprep.interfaces import mesh_files
    from deepprep.interfaces.cifti import write_dscalar
    from deepprep.interfaces.group_maps import OnGroup

    maps: dict[str, np.ndarray] = {}
    for side, hemisphere in sides.items():
        group = OnGroup(OutputSpace("fsLR", den="32k"), side, hemisphere, spheres[side])
        for kind in SURFACES:
            file = path(kind, ".surf.gii", hemi=side, space="fsLR", den="32k")
            mesh_files.write_surf_gii(file, group.surface(kind), side, kind)
            delivery.noted(file, {"Sources": sources})
        maps[HEMISPHERES[side]] = group.maps(_metrics(hemisphere), hemisphere.cortex)
    cortex = {hemi: fslr_cortex(hemi) for hemi in maps}
    for column, name in enumerate(METRICS):
        file = path(name, ".dscalar.nii", space="fsLR", den="91k")
        # Where the participant's medial wall reaches into the file's cortex there is no value.
        kept = {h: np.nan_to_num(m[cortex[h], column], nan=0.0) for h, m in maps.items()}
        delivery.noted(
            write_dscalar(file, kept, cortex, name),
            {
                "Sources": sources,
                "Density": "91k: cortex of the 91,282 grayordinates",
                "SpatialReference": "fsLR, 32k vertices a hemisphere",
                "Resampling": "adaptive barycentric, by areas of the midthickness",
            },
        )


def _write_space_maps(
    delivery: Delivery,
    path: Any,
    sides: dict[str, Hemisphere],
    spheres: dict[str, HemisphereSpheres],
    spaces: Sequence[OutputSpace],
    sources: list[str],
) -> None:
    """Maps of the cortex on the group meshes asked for; NaN on the participant's medial wall."""
    from deepprep.interfaces.group_maps import OnGroup
    from deepprep.interfaces.mesh_files import write_shape_gii

    for space in spaces:
        if not space.surface or space.name == "fsnative":
            continue
        for side, hemisphere in sides.items():
            group = OnGroup(space, side, hemisphere, spheres[side])
            maps = group.maps(_metrics(hemisphere), hemisphere.cortex)
            for column, name in enumerate(METRICS):
                file = path(name, ".shape.gii", hemi=side, **space.entities)
                write_shape_gii(file, maps[:, column], side, name)
                delivery.noted(file, {"Sources": sources})


def _metrics(hemisphere: Hemisphere) -> np.ndarray:
    """(V, 3) the maps of ``METRICS``."""
    import numpy as np

    return np.stack([hemisphere.overlays[name] for name in METRICS], axis=1)


def _write_table(
    delivery: Delivery, file: Path, name: str, pair: list[HemisphereStats], sources: list[str]
) -> None:
    from deepprep.data.parcellations import ANNOTATIONS
    from deepprep.surface.surface_stats import format_table, table_sidecar

    delivery.text(format_table(pair), file)
    delivery.noted(file, {"Sources": sources, "Parcellation": ANNOTATIONS[name], **table_sidecar()})


def _write_label_gii(
    delivery: Delivery, file: Path, side: str, name: str, found: Parcellation, sources: list[str]
) -> None:
    from deepprep.data.parcellations import ANNOTATIONS
    from deepprep.interfaces.mesh_files import write_label_gii

    table = {
        key: (text, (red / 255, green / 255, blue / 255, float(key > 0)))
        for key, (text, (red, green, blue, _)) in enumerate(zip(found.names, found.colours))
    }
    delivery.noted(
        write_label_gii(file, found.labels, side, ANNOTATIONS[name], table), {"Sources": sources}
    )


def _write_freesurfer_side(
    delivery: Delivery, folder: Path, side: str, spheres: HemisphereSpheres, grid: Any
) -> None:
    from deepprep.interfaces import mesh_files

    start = folder / "surf" / HEMISPHERES[side]
    for name, mesh in (("sphere", spheres.sphere), ("sphere.reg", spheres.fsaverage)):
        file = start.with_name(f"{start.name}.{name}")
        delivery.noted(mesh_files.write_freesurfer_surface(file, mesh, grid, head=False))
    file = start.with_name(f"{start.name}.jacobian_white")
    delivery.noted(mesh_files.write_morph(file, spheres.jacobian, spheres.sphere.n_faces))


def _write_freesurfer_parcels(
    delivery: Delivery,
    folder: Path,
    side: str,
    name: str,
    found: Parcellation,
    stats: HemisphereStats,
    subject: str,
    version: str,
    etiv_mm3: float,
) -> None:
    from deepprep.data.parcellations import ANNOTATIONS
    from deepprep.interfaces.annotation_files import write_annotation
    from deepprep.surface.surface_stats import format_aparc_stats

    hemi, annotation = HEMISPHERES[side], f"{HEMISPHERES[side]}.{ANNOTATIONS[name]}.annot"
    file = folder / "label" / annotation
    file.parent.mkdir(parents=True, exist_ok=True)
    write_annotation(file, found.labels, found.names, found.colours)
    delivery.noted(file)
    head = (
        "EstimatedTotalIntraCranialVol, eTIV, Estimated Total Intracranial Volume, "
        f"{etiv_mm3:.6f}, mm^3"
    )
    delivery.text(
        format_aparc_stats(stats, subject, annotation, version, [head]),
        folder / "stats" / f"{hemi}.{ANNOTATIONS[name]}.stats",
    )
