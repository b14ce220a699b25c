"""Tasks that lay hemispheres on spheres, register and parcellate them, and label the volume."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage
from deepprep.interfaces.hemisphere_files import HEMISPHERES, SIDES


@stage(cpus=1, mem_gb=2.0, title="Spherical registration")
@python.define(outputs=["spheres", "info"])
def RegisterHemisphere(
    side: str,
    surfaces: File,
    labels: File,
    engine: str,
    files: dict[str, str],
    weights: list[str],
    device: str,
    label: str,
) -> tuple[File, File]:
    """Sphere of a hemisphere, registered to fsaverage and fsLR by its folding.

    Parameters
    ----------
    side : {'L', 'R'}
        Hemisphere.
    surfaces : File
        Result of :func:`deepprep.interfaces.surfaces.ReconstructHemisphere`.
    labels : File
        FreeSurfer numbers (aseg) in the space of the T1w.
    engine : {'refine', 'sugar'}
        How the sphere is registered.
    files : dict of str to str
        Weights of the networks of this hemisphere, for ``sugar``.
    weights : list of str
        Stamps of those files, so that other weights give another result.
    device : str
        Torch device.
    label : str
        Subject, for messages.

    Returns
    -------
    spheres, info : File
        :func:`deepprep.interfaces.sphere_files.keep_spheres`; measures of quality.
    """
    import numpy as np

    from deepprep.data import surface_atlases as atlases
    from deepprep.errors import StageError
    from deepprep.interfaces.files import keep_json
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.interfaces.sphere_files import HemisphereSpheres, keep_spheres
    from deepprep.nn.device import usable_device
    from deepprep.surface.distortion import measure_distortion
    from deepprep.surface.group_spaces import jacobian, onto_other_space
    from deepprep.surface.landmarks import nearness
    from deepprep.surface.sphere import map_to_sphere
    from deepprep.surface.spherical_registration import register_sphere

    hemi = HEMISPHERES[side]
    hemisphere = load_hemisphere(str(surfaces))
    sulc, curv = hemisphere.overlays["sulc"], hemisphere.overlays["curv"]
    target = atlases.folding_target(hemi)
    try:
        sphere = map_to_sphere(hemisphere.white)
        if engine == "sugar":
            from deepprep.surface.sugar.inference import load_networks, register_with_sugar

            grids = [atlases.fsaverage_sphere(level) for level in range(7)]
            networks = load_networks({k: Path(v) for k, v in files.items()}, grids)
            found = register_with_sugar(sphere, sulc, target, networks, usable_device(device))
        else:
            structures = load_volume(str(labels), np.uint8)
            landmarks = nearness(hemisphere.white.vertices, structures, SIDES[side])
            found = register_sphere(sphere, sulc, curv, target, landmarks=landmarks)
        fslr = onto_other_space(
            found.sphere, atlases.fsaverage_sphere(7), atlases.fsaverage_on_fslr(hemi)
        )
    except ValueError as err:
        raise StageError(
            f"The {SIDES[side]} hemisphere could not be laid on the sphere and registered: {err}; "
            "look at the figure of its surfaces. Nothing else needs the sphere but parcellations "
            "and group spaces."
        ) from err
    spheres = HemisphereSpheres(
        sphere,
        found.sphere,
        fslr,
        found.parcel_sphere,
        jacobian(hemisphere.white, found.sphere),
    )
    own = measure_distortion(hemisphere.white, sphere)
    moved = measure_distortion(sphere, found.sphere)
    info = {
        "sphere_areal_distortion": own.mean_areal,
        "sphere_angular_distortion_deg": own.mean_angular_deg,
        "folded_triangles": int(own.folded + moved.folded),
        "rigid_correlation": found.rigid_correlation,
        "folding_correlation": found.correlation,
        "registration_areal_p95": float(np.quantile(np.abs(moved.areal), 0.95)),
    }
    return keep_spheres(spheres, f"spheres-{side}.npz"), keep_json(info, f"spheres-{side}.json")


@stage(cpus=1, mem_gb=2.0, title="Cortical parcellation")
@python.define(outputs=["parcels"])
def ParcellateHemisphere(
    side: str,
    surfaces: File,
    spheres: File,
    parcellations: list[str],
    annotations: dict[str, str],
    weights: list[str],
    label: str,
) -> File:
    """Parcels of a hemisphere, by atlases on fsaverage's sphere and its own folding.

    Parameters
    ----------
    side : {'L', 'R'}
        Hemisphere.
    surfaces, spheres : File
        Results of ``ReconstructHemisphere`` and :func:`RegisterHemisphere`.
    parcellations : list of str
        Names of :data:`deepprep.data.parcellations.PARCELLATIONS`.
    annotations : dict of str to str
        Files of those that are not in the package, of this hemisphere of fsaverage.
    weights : list of str
        Stamps of these files: other files are another input.
    label : str
        Subject, for messages.

    Returns
    -------
    parcels : File
        Rows of the colour tables, and these, by parcellation.
    """
    from dataclasses import replace

    import numpy as np

    from deepprep.data import surface_atlases as atlases
    from deepprep.data.parcellations import label_weights
    from deepprep.interfaces.annotation_files import read_annotation
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.sphere_files import keep_parcels, load_spheres
    from deepprep.surface.parcellation import transfer_labels
    from deepprep.surface.spherical_registration import standardised

    hemi = HEMISPHERES[side]
    hemisphere, registered = load_hemisphere(str(surfaces)), load_spheres(str(spheres))
    both = [hemisphere.overlays[name] for name in ("sulc", "curv")]
    folding = np.stack([standardised(values, registered.sphere) for values in both], axis=1)
    parcels = {}
    for name in parcellations:
        if name in annotations:
            path = annotations[name]
            atlas = atlases.parcellation_of(path, *read_annotation(path), hemi)
        else:
            atlas = atlases.parcellation(name, hemi)
        labels = transfer_labels(
            registered.parcel_sphere,
            folding,
            atlases.atlas_sphere(hemi),
            atlas.labels,
            atlases.atlas_folding(hemi),
            hemisphere.cortex,
            label_weights(name, atlas.names),
        )
        parcels[name] = replace(atlas, labels=labels)
    return keep_parcels(parcels, f"parcels-{side}.npz")


@stage(cpus=1, mem_gb=3.0, title="Parcels in the volume")
@python.define(outputs=["dseg", "aseg", "aparc_aseg", "wmparc", "a2009s_aseg", "figure"])
def LabelCortexVolumes(
    left: File,
    right: File,
    left_parcels: File,
    right_parcels: File,
    labels: File,
    native_ribbon: File,
    aseg: File,
    ribbon: File,
    label: str,
) -> tuple[File, File, File, File, File | None, File]:
    """Volumes that name the cortex by parcels, and the figure of the parcels.

    Parameters
    ----------
    left, right : File
        Results of ``ReconstructHemisphere``.
    left_parcels, right_parcels : File
        Results of :func:`ParcellateHemisphere`.
    labels, native_ribbon : File
        FreeSurfer numbers and ribbon on the lattice of the T1w.
    aseg, ribbon : File
        Segmentation before surfaces and ``ribbon.mgz``, on one lattice.
    label : str
        Subject, for messages.

    Returns
    -------
    dseg : File
        ``aparc+aseg`` on the lattice of the T1w.
    aseg : File
        ``aseg.mgz``: its cortex is that of the surfaces.
    aparc_aseg, wmparc : File
        FreeSurfer's volumes of these names.
    a2009s_aseg : File or None
        ``aparc.a2009s+aseg``, where that parcellation was asked for.
    figure : File
        Inflated surfaces with the parcels.
    """
    from deepprep.image.volume import Volume
    from deepprep.interfaces.files import keep_volume
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.mgz import save_mgz
    from deepprep.interfaces.nifti import load_volume
    from deepprep.interfaces.sphere_files import load_parcels
    from deepprep.reports.surface_views import plot_parcels
    from deepprep.surface.cortical_labels import (
        HemisphereParcels,
        label_ribbon,
        label_white_matter,
        with_ribbon,
    )

    sides = {"lh": load_hemisphere(str(left)), "rh": load_hemisphere(str(right))}
    parcels = {"lh": load_parcels(str(left_parcels)), "rh": load_parcels(str(right_parcels))}

    def named(parcellation_name: str) -> dict[str, HemisphereParcels]:
        return {
            hemi: HemisphereParcels(h.white, h.pial, parcels[hemi][parcellation_name].labels)
            for hemi, h in sides.items()
        }

    def volume(file: File) -> Volume:
        return load_volume(str(file), None)

    def mgz(found: Volume, name: str) -> File:
        return File(save_mgz(found, Path.cwd() / name))

    native = with_ribbon(volume(labels), volume(native_ribbon).data)
    conformed = with_ribbon(volume(aseg), volume(ribbon).data)
    aparc = label_ribbon(conformed, named("aparc"))
    a2009s = None
    if "a2009s" in parcels["lh"]:
        a2009s = mgz(label_ribbon(conformed, named("a2009s"), "a2009s"), "a2009s.mgz")
    figure = plot_parcels(
        list(sides.values()),
        [parcels[hemi]["aparc"].labels for hemi in sides],
        [parcels[hemi]["aparc"].colours for hemi in sides],
        Path.cwd() / "parcels.svg",
    )
    return (
        keep_volume(label_ribbon(native, named("aparc")), "aparcaseg.nii"),
        mgz(conformed, "aseg.mgz"),
        mgz(aparc, "aparc+aseg.mgz"),
        mgz(label_white_matter(aparc, named("aparc")), "wmparc.mgz"),
        a2009s,
        File(figure),
    )
