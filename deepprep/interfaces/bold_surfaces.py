"""Tasks that sample BOLD series on cortical surfaces and write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage
from deepprep.interfaces.bold import bold_gb

VERTICES = 180_000
"""Of a hemisphere with many, for the estimate of memory."""


def _series_gb(bold: Any) -> float:
    """Memory of the series of one hemisphere, GB."""
    import nibabel as nib

    shape = nib.load(str(bold)).shape  # type: ignore[attr-defined]
    return 4e-9 * VERTICES * (shape[3] if len(shape) > 3 else 1)


@stage(cpus=2, mem_gb=lambda t: 1.5 + 2 * bold_gb(t.bold) + _series_gb(t.bold), title="Sampling")
@python.define(outputs=["series"])
def SampleBold(bold: File, motion: File, coreg: File, surfaces: File, label: str) -> File:
    """A series at the vertices of a hemisphere, interpolated once from the original frames.

    Parameters
    ----------
    bold : File
        Series after slice timing (or the original).
    motion, coreg : File
        Of the run.
    surfaces : File
        Result of ``ReconstructHemisphere``.
    label : str
        Run, for messages.

    Returns
    -------
    series : File
        ``series`` (V, T) float32.
    """
    import numpy as np

    from deepprep.bold.surface_sampling import sample_on_surface
    from deepprep.interfaces.files import keep_arrays, read_json
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.registration.transforms import Affine

    hemisphere = load_hemisphere(str(surfaces))
    t1w_to_bold = Affine(np.array(read_json(coreg)["t1w_to_bold"]))
    affines = np.load(str(motion))["affines"]
    series = sample_on_surface(
        load_volume(str(bold)), affines, hemisphere.white, hemisphere.pial, t1w_to_bold
    )
    return keep_arrays("series.npz", series=series)


@stage(
    cpus=1,
    mem_gb=lambda t: 1.0 + 3e-9 * Path(str(t.left_series)).stat().st_size,
    title="Write BOLD surfaces",
    always_run=True,
)
@python.define(outputs=["record"])
def PublishBoldSurfaces(
    left: File,
    right: File,
    left_spheres: File,
    right_spheres: File,
    left_series: File,
    right_series: File,
    spaces: list[str],
    medial_surface_nan: bool,
    run: str,
    subject_name: str,
    bids_dir: str,
    out_dir: str,
    run_uuid: str,
    label: str,
) -> str:
    """``hemi-{L,R}_space-S_bold.func.gii`` in every space asked for.

    Parameters
    ----------
    left, right, left_spheres, right_spheres : File
        Surfaces and registered spheres.
    left_series, right_series : File
        Results of :func:`SampleBold`.
    spaces : list of str
        Output spaces on the surface.
    medial_surface_nan : bool
        Whether the medial wall gets NaN.
    run : str
        JSON of :class:`deepprep.bids.records.Run`.
    subject_name, bids_dir, out_dir, run_uuid, label : str
        What and where.
    """
    import numpy as np

    from deepprep.bids.derivatives import bids_uri, derivative_path
    from deepprep.bids.records import run_from_json
    from deepprep.bids.spaces import parse_spaces
    from deepprep.interfaces.delivery import Delivery
    from deepprep.interfaces.group_maps import OnGroup
    from deepprep.interfaces.hemisphere_files import load_hemisphere
    from deepprep.interfaces.mesh_files import write_func_gii
    from deepprep.interfaces.publish_bold import series_sidecar
    from deepprep.interfaces.sphere_files import load_spheres
    from deepprep.reports import methods

    image = run_from_json(run)
    root = Path(out_dir)
    delivery = Delivery(root, subject_name, f"{image.name}_surfaces", run_uuid)
    sidecar = series_sidecar(image, {"Sources": [bids_uri(image.path, bids_dir)]})
    wanted = parse_spaces(spaces)
    for side, (surfaces, spheres, kept) in {
        "L": (left, left_spheres, left_series),
        "R": (right, right_spheres, right_series),
    }.items():
        hemisphere, laid = load_hemisphere(str(surfaces)), load_spheres(str(spheres))
        with np.load(str(kept)) as file:
            series = file["series"]
        for space in wanted:
            if space.name == "fsnative":
                values = series.copy() if medial_surface_nan else series
                cortex = hemisphere.cortex
            else:
                both = np.column_stack([series, hemisphere.cortex])
                values = OnGroup(space, side, hemisphere, laid).maps(both).astype(np.float32)
                values, cortex = values[:, :-1], values[:, -1] >= 0.5
            if medial_surface_nan:
                values[~cortex] = np.nan
            file_name = derivative_path(
                root, image, datatype="func", suffix="bold", extension=".func.gii",
                hemi=side, **space.entities,
            )  # fmt: skip
            delivery.noted(
                write_func_gii(file_name, values, side, image.tr_s),
                {**sidecar, "MedialWall": "NaN" if medial_surface_nan else "kept"},
            )
    return delivery.close(steps=[methods.surface_sampling([str(s) for s in wanted])])
