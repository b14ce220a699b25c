"""Surfaces of twenty heads in a row: none may fail, all must be spheres.

    python -m benchmarks.surface_topology SHARED_DATA [--heads N]

Sixteen synthesised heads (a random contrast, deformation, bias and noise for each of the label maps
of synthseg-labels; their exact labels, no posterior) and the four silver heads through our own
segmentation; the engine of the first surface is the default one. White and pial surfaces are
placed as in the pipeline. For the silver heads, distance of the first surface to FreeSurfer's white surface as its
ribbon shows it (evaluation only). Writes benchmarks/results/surface_topology.md.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage, spatial

from benchmarks.segmentation_accuracy import SILVER, process
from benchmarks.silver import pipeline_hemisphere
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.segmentation.compact.network import CLASSES
from deepprep.surface.marching_cubes import marching_cubes
from deepprep.surface.mesh import Mesh
from deepprep.surface.reconstruct import Hemisphere
from deepprep.surface.self_intersection import count_self_intersections
from training.segmentation.generator import USUAL, HeadGenerator
from training.segmentation.labels import load_map
from training.segmentation.validate import WHOLE_HEAD

RESULTS = Path(__file__).parent / "results" / "surface_topology.md"
SEED = 7
N_SYNTHETIC = 16
RIBBON_WHITE = {"left": 2, "right": 41}


def synthetic_heads(folder: Path, n: int) -> Iterator[tuple[str, Volume, Volume, None]]:
    """Name, labels and image of synthesised heads."""
    for number in range(1, n + 1):
        head = load_map(folder / f"seg_{number:02d}.nii.gz")
        sample = HeadGenerator([head], WHOLE_HEAD, settings=USUAL)(SEED + number)
        affine = np.eye(4)
        affine[:3, 3] = sample.origin[0].numpy()
        labels = np.array(CLASSES, dtype=np.uint8)[sample.target[0].numpy()]
        yield f"synth-{number:02d}", Volume(labels, affine), Volume(sample.image[0, 0].numpy(), affine), None  # fmt: skip


def silver_heads(folder: Path) -> Iterator[tuple[str, Volume, Volume, np.ndarray]]:
    """Name, our labels, bias-corrected image and white posterior of the silver heads."""
    for name in SILVER:
        image, found, _, _ = process(
            load_volume(folder / name / "mri" / "T1.mgz"), "deepprep", None
        )
        yield name, image.like(found.labels), image, found.white


def samples(mesh: Mesh) -> np.ndarray:
    """Vertices, centres of triangles and of edges: about 0.4 mm apart."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return np.concatenate([mesh.vertices, (a + b + c) / 3, (a + b) / 2])


def distances(mesh: Mesh, ribbon: Volume, side: str) -> tuple[float, float, float]:
    """Mean distance, mm: ours to FreeSurfer's white, back, and the 95th percentile of back."""
    white = (ribbon.data == RIBBON_WHITE[side]).astype(np.float32)
    # the ribbon is made of voxels; half a voxel of smoothing gives the surface they came from
    theirs = marching_cubes(ribbon.like(0.5 - ndimage.gaussian_filter(white, 0.6)))
    there = spatial.cKDTree(samples(theirs)).query(mesh.vertices)[0]
    back = spatial.cKDTree(samples(mesh)).query(theirs.vertices)[0]
    return float(there.mean()), float(back.mean()), float(np.percentile(back, 95))


def row(name: str, found: Hemisphere) -> str:
    """A line of the table; raises where a surface is not a sphere."""
    qc = found.qc
    for what, mesh in (("white", found.white), ("pial", found.pial)):
        crossing = count_self_intersections(mesh)
        if mesh.euler_number != 2 or not mesh.is_closed or crossing or mesh.enclosed_volume_mm3 < 0:
            raise SystemExit(
                f"{name} {found.side} {what}: Euler {mesh.euler_number}, {crossing} self-intersections"
            )
    return (
        f"| {name} | {found.side} | {found.white.n_vertices} | 2, 2 | 0, 0 "
        f"| {qc['handles_cut']:.0f} ({qc['voxels_cut']:.0f}) "
        f"| {qc['holes_filled']:.0f} ({qc['voxels_filled']:.0f}) | {qc['largest_repair_voxels']:.0f} "
        f"| {qc['islands']:.0f} | {qc['cavities']:.0f} | {qc['crossings_white_pial']:.0f} "
        f"| {found.white.face_areas.sum() / 100:.0f}, {found.pial.face_areas.sum() / 100:.0f} "
        f"| {found.overlays['thickness'][found.cortex].mean():.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--heads", type=int, default=N_SYNTHETIC, help="synthesised heads")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = given.shared_data
    lines, accuracy, cpu, wall = [], [], [], []
    heads = (
        head
        for source in (
            synthetic_heads(data / "synthseg-labels", given.heads),
            silver_heads(data / "freesurfer-silver"),
        )
        for head in source
    )
    for name, labels, image, white in heads:
        started = time.process_time(), time.perf_counter()
        mask = labels.like((np.asarray(labels.data) > 0).astype(np.uint8))
        surfaces = {}
        for side in ("left", "right"):
            surfaces[side] = pipeline_hemisphere(side, image, labels, mask, white)
        cpu.append(time.process_time() - started[0])
        wall.append(time.perf_counter() - started[1])
        for found in surfaces.values():
            lines.append(row(name, found))
            print(lines[-1], flush=True)
        if name in SILVER:
            image_file = nib.load(data / "freesurfer-silver" / name / "mri" / "ribbon.mgz")
            ribbon = Volume(np.asarray(image_file.dataobj), image_file.affine)
            for side, found in surfaces.items():
                assert found.orig is not None
                there, back, tail = distances(found.orig, ribbon, side)
                accuracy.append(f"| {name} | {side} | {there:.2f} | {back:.2f} | {tail:.2f} |")
                print(accuracy[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    # the first head also loads compiled functions
    cost = (
        f"Both hemispheres: {np.median(cpu[1:]):.1f} CPU-s ({max(cpu[1:]):.1f} at most), "
        f"{np.median(wall[1:]):.1f} s on the clock of a shared 2-core machine; peak {peak:.1f} GB "
        "with segmentation and this script."
    )
    print(cost)
    RESULTS.write_text(
        "# Surfaces of twenty heads in a row\n\n"
        "`python -m benchmarks.surface_topology SHARED_DATA`\n\n"
        f"{len(cpu)} heads, {len(lines)} hemispheres, none failed: every surface is closed, has "
        f"Euler number 2 and no self-intersection. {cost}\n\n"
        "| head | side | vertices | Euler, white and pial | self-intersections | cuts (voxels) "
        "| fills (voxels) | largest | islands | cavities | white triangles that meet pial ones "
        "| area cm2 | thickness mm |\n|"
        + "---|" * 13
        + "\n"
        + "\n".join(lines)
        + "\n\nDistance to FreeSurfer's white surface (from its ribbon), before placement, mm; part "
        "of it is the labels' (hippocampus, medial wall) and the 0.1-0.2 mm of the method.\n\n"
        "| head | side | ours to theirs | theirs to ours | 95th percentile of the latter |\n"
        "|---|---|---|---|---|\n" + "\n".join(accuracy) + "\n"
    )


if __name__ == "__main__":
    main()
