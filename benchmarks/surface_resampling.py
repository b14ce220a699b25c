"""Resampling of metrics between spheres against Connectome Workbench's.

    python -m benchmarks.surface_resampling

A subject's sphere is made of fsaverage's by a smooth random warp; a metric of noise and of waves is
carried to each group mesh by ADAP_BARY_AREA, by this package and by `wb_command -metric-resample` (Debian's
connectome-workbench), with and without a region of interest. Writes
benchmarks/results/surface_resampling.md.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.data import surface_atlases as atlases
from deepprep.interfaces.mesh_files import write_shape_gii, write_surf_gii
from deepprep.surface.group_spaces import GROUP_SPACES, metric_on_group
from deepprep.surface.mesh import Mesh
from deepprep.surface.spherical_registration import unit_length

RESULTS = Path(__file__).parent / "results" / "surface_resampling.md"
WARP = 0.08
"""Amplitude of the waves that move the subject's vertices, in radii."""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    draw = np.random.default_rng(0)
    sphere = atlases.fsaverage_sphere(7)
    unit = unit_length(sphere.vertices)
    moved = unit + WARP * np.sin(5 * unit @ draw.normal(size=(3, 3)) + draw.uniform(0, 6, 3))
    subject = sphere.moved(100 * unit_length(moved))
    anatomy = dented(sphere)
    metric = 2.5 + np.sin(30 * unit[:, 2]) + draw.normal(0, 0.5, len(unit))
    region = unit[:, 0] > -0.6
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for space in GROUP_SPACES:
            target = atlases.group_sphere(space.freesurfer_name, space.density, "lh")
            group = dented(target)
            for mask in (None, region):
                ours = metric_on_group(
                    metric, subject, target, anatomy.vertex_areas, group.vertex_areas, mask=mask
                )
                theirs = by_workbench(Path(folder), metric, subject, target, anatomy, group, mask)
                both = np.isfinite(ours) & (theirs != 0)
                off = np.abs(ours - theirs)[both]
                missing = int((np.isfinite(ours) != (theirs != 0)).sum())
                rows.append(
                    f"| {space.space} {space.density} | {'yes' if mask is not None else 'no'} "
                    f"| {both.sum()} | {off.mean():.1e} | {off.max():.1e} | {missing} |"
                )
                print(rows[-1], flush=True)
    RESULTS.write_text(
        "# Resampling of metrics against Connectome Workbench\n\n"
        + (__doc__ or "").split("\n\n")[2].strip()
        + f" Spread of the metric: {metric.std():.2f}.\n\n"
        "| group mesh | region | vertices | mean difference | largest | values only one has |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
    )


def dented(sphere: Mesh) -> Mesh:
    """A sphere pulled in and out: any surface will do for the areas."""
    unit = unit_length(sphere.vertices)
    radius = 60 + 10 * np.sin(20 * unit[:, 0]) + 5 * np.cos(25 * unit[:, 1])
    return sphere.moved(unit * radius[:, None])


def by_workbench(
    folder: Path,
    metric: np.ndarray,
    subject: Mesh,
    target: Mesh,
    anatomy: Mesh,
    group: Mesh,
    mask: np.ndarray | None,
) -> np.ndarray:
    """What ``wb_command -metric-resample`` makes of a metric."""
    for name, mesh in {"s": subject, "t": target, "sa": anatomy, "ta": group}.items():
        kind = "midthickness" if "a" in name else "sphere"
        write_surf_gii(folder / f"{name}.surf.gii", mesh, "L", kind)
    write_shape_gii(folder / "in.shape.gii", metric, "L", "metric")
    roi: list[str] = []
    if mask is not None:
        write_shape_gii(folder / "roi.shape.gii", mask, "L", "region")
        roi = ["-current-roi", "roi.shape.gii"]
    subprocess.run(
        [
            "wb_command", "-metric-resample", "in.shape.gii", "s.surf.gii", "t.surf.gii",
            "ADAP_BARY_AREA", "out.shape.gii", "-area-surfs", "sa.surf.gii", "ta.surf.gii", *roi,
        ],
        check=True, cwd=folder,
    )  # fmt: skip
    return np.asarray(nib.load(folder / "out.shape.gii").darrays[0].data, dtype=float)


if __name__ == "__main__":
    main()
