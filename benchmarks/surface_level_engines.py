"""First white surface by our network (compact) and from the segmentation.

    python -m benchmarks.surface_level_engines SHARED_DATA [--heads 01 06 07]

Silver heads (evaluation only), left hemispheres, the silver aseg as labels: distance of the voxel faces
between white and cortex of the silver ribbon from the first surface and from the placed one, corrections
of topology, CPU seconds of the first surface. Analytic shapes: distance of vertices from the truth.
Writes benchmarks/results/surface_level_engines.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.surface_accuracy import voxel_faces
from benchmarks.surface_phantom import SHAPES, render
from deepprep.image.volume import Volume
from deepprep.surface.initial_white import InitialSurface, surface_of_level
from deepprep.surface.level_set import choose_level_engine, engine_level
from deepprep.surface.measures import distance_to_surface
from deepprep.surface.surroundings import cortex_vertices
from deepprep.surface.white_placement import place_white

RESULTS = Path(__file__).parent / "results" / "surface_level_engines.md"
ENGINES = ("segmentation", "compact")


def first_surface(name: str, labels: Volume, image: Volume) -> tuple[InitialSurface, float]:
    began = time.process_time()
    engine = choose_level_engine(name)
    level = engine_level(engine.name, engine.files.get("left"), "left", labels, image)
    return surface_of_level(level), time.process_time() - began


def repairs(surface: InitialSurface) -> str:
    report = surface.report
    return f"{report.count('cut')} ({report.voxels('cut')}), {report.count('fill')} ({report.voxels('fill')})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--heads", nargs="+", default=["01", "06", "07"])
    options = parser.parse_args()
    lines = [
        "# First white surface: our network beside the segmentation's level set",
        "",
        "`python -m benchmarks.surface_level_engines SHARED_DATA`. Repairs: cuts (voxels), fills (voxels).",
        "",
        "| what | engine | first mm (p95) | placed mm (p95) | repairs | vertices | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for head in options.heads:
        folder = options.shared / f"freesurfer-silver/sub-{head}/mri"
        image = nib.load(folder / "T1.mgz")
        t1w = Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)
        aseg, ribbon, parcels = (
            t1w.like(np.asarray(nib.load(folder / f"{n}.mgz").dataobj).astype(np.int32))
            for n in ("aseg", "ribbon", "aparc.DKTatlas+aseg")
        )
        cortex = (parcels.data > 1000) & (parcels.data < 1100) & (ribbon.data == 3)
        faces = voxel_faces(ribbon.data == 2, cortex, t1w.affine)
        for name in ENGINES:
            surface, seconds = first_surface(name, aseg, t1w)
            placed = place_white(surface.mesh, t1w, cortex_vertices(surface.mesh, aseg, "left"))
            cells = []
            for mesh in (surface.mesh, placed):
                away = distance_to_surface(faces, mesh)
                cells.append(f"{away.mean():.3f} ({np.percentile(away, 95):.2f})")
            lines.append(
                f"| sub-{head} left | {name} | {cells[0]} | {cells[1]} | {repairs(surface)} "
                f"| {surface.mesh.n_vertices} | {seconds:.1f} |"
            )
            print(lines[-1], flush=True)
    for shape in SHAPES.values():
        phantom = render([shape], noise=0.03)
        for name in ENGINES:
            surface, seconds = first_surface(name, phantom.labels, phantom.image)
            error = np.abs(shape.white_distance(surface.mesh.vertices, 5.0))
            far = ~np.isfinite(error)
            known = error[~far]
            lines.append(
                f"| {shape.name} | {name} | {known.mean():.3f} ({np.percentile(known, 95):.2f}), "
                f"{far.sum()} vertices beyond 5 mm | | {repairs(surface)} "
                f"| {surface.mesh.n_vertices} | {seconds:.1f} |"
            )
            print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
