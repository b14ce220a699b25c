"""Time and memory of both hemispheres' surfaces, beside cat-surf at its 0.5 mm.

    python -m venv PEER && PEER/bin/pip install cat-surf numpy nibabel
    python -m benchmarks.surface_speed SHARED_DATA [--head 02] [--cat-python PEER/bin/python]

Ours: from T1w, labels and mask in memory to all surfaces and measures of a hemisphere (level set
network, topology, white, pial, inflated, thickness, curvature), both hemispheres at once in two
processes of one thread. cat-surf: one hemisphere, from a map of tissue fractions at 0.5 mm (made here
from the same labels and intensities; not in its time): vol_thickness_pbt, vol_marching_cubes,
vol2surf, surf_to_pial_white. Silver heads are evaluation only. Writes
benchmarks/results/surface_speed.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from benchmarks.silver import pipeline_hemisphere, silver_head
from deepprep.image.volume import Volume
from deepprep.surface.filled import fill_hemisphere
from deepprep.surface.white_level import white_part

RESULTS = Path(__file__).parent / "results" / "surface_speed.md"
CAT_MM = 0.5
PEER = """
import resource, sys, time, numpy as np, nibabel as nib, cat_surf
image = nib.load(sys.argv[1])
label = np.asarray(image.dataobj, dtype=np.float32)
zooms = np.array(image.header.get_zooms()[:3], dtype=np.float64)
def clocked(name, call):
    began, cpu = time.perf_counter(), time.process_time()
    out = call()
    print(f"{name},{time.perf_counter() - began:.1f},{time.process_time() - cpu:.1f}", flush=True)
    return out
gmt, ppm = clocked("vol_thickness_pbt", lambda: cat_surf.vol_thickness_pbt(label, zooms))[:2]
v, f = clocked("vol_marching_cubes", lambda: cat_surf.vol_marching_cubes((ppm, image.affine)))
t = clocked("vol2surf", lambda: cat_surf.vol2surf((gmt, image.affine), v, f))[0]
t = np.ascontiguousarray(np.asarray(t, dtype=np.float64).reshape(len(v), -1)[:, 0])
clocked("surf_to_pial_white", lambda: cat_surf.surf_to_pial_white(v, f, t, (label, image.affine)))
print(f"vertices,{len(v)},{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}")
"""


def ours(side: str, shared: Path, head: str, queue: multiprocessing.Queue) -> None:
    """Reconstruct one hemisphere in this process."""
    scan = silver_head(shared, f"sub-{head}")
    began, cpu = time.perf_counter(), time.process_time()
    found = pipeline_hemisphere(side, *scan)
    queue.put(
        (
            side,
            found.white.n_vertices,
            time.perf_counter() - began,
            time.process_time() - cpu,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        )
    )


def tissue_map(t1w: Volume, labels: Volume, side: str) -> nib.Nifti1Image:
    """1 fluid, 2 grey, 3 white of a hemisphere at ``CAT_MM``, with partial volume."""
    filled = fill_hemisphere(labels, side)
    inside = np.zeros(labels.shape, dtype=bool)
    inside[filled.box] = filled.inside
    cortex = labels.data == {"left": 3, "right": 42}[side]
    box = ndimage.find_objects(
        (ndimage.binary_dilation(cortex | inside, iterations=6)).astype(int)
    )[0]
    data, numbers, inside, cortex = (x[box] for x in (t1w.data, labels.data, inside, cortex))
    white = np.clip(white_part(data, numbers, side, t1w.zooms_mm), 0, 1)
    white = np.where(inside & ~np.isin(numbers, (3, 42)), 1.0, white)
    near = ndimage.binary_dilation(inside | cortex, iterations=2)
    grey = float(np.median(data[cortex]))
    fluid = 0.4 * grey
    value = np.where(cortex | inside, 2 + white, 1 + np.clip((data - fluid) / (grey - fluid), 0, 1))
    value = np.where(near, value, 1.0).astype(np.float32)
    zoom = t1w.zooms_mm / CAT_MM
    affine = t1w.grid.part(box).affine
    affine[:3, :3] /= zoom
    return nib.Nifti1Image(ndimage.zoom(value, zoom, order=1, grid_mode=False), affine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--head", default="02")
    parser.add_argument("--cat-python")
    given = parser.parse_args()
    rows = []
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    began = time.perf_counter()
    jobs = [
        context.Process(target=ours, args=(side, given.shared, given.head, queue))
        for side in ("left", "right")
    ]
    for job in jobs:
        job.start()
    for side, vertices, wall, cpu, peak in sorted(queue.get() for _ in jobs):
        rows.append(f"| DeepPrep, {side} | {vertices} | {wall:.0f} | {cpu:.0f} | {peak:.1f} |")
    for job in jobs:
        job.join()
    rows.append(
        f"| DeepPrep, both, with start of Python and reading | | {time.perf_counter() - began:.0f} | | |"
    )
    print("\n".join(rows), flush=True)
    if given.cat_python:
        t1w, labels, _ = silver_head(given.shared, f"sub-{given.head}")
        with tempfile.TemporaryDirectory() as folder:
            nib.save(tissue_map(t1w, labels, "left"), f"{folder}/map.nii")
            done = subprocess.run(
                [given.cat_python, "-c", PEER, f"{folder}/map.nii"],
                check=True, capture_output=True, text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        steps = [line.split(",") for line in done.stdout.splitlines() if line.count(",") == 2]
        times = [s for s in steps if s[0] != "vertices"]
        for name, wall, cpu in times:
            rows.append(f"| cat-surf, left, {name} | | {wall} | {cpu} | |")
        vertices, peak = next(s[1:] for s in steps if s[0] == "vertices")
        total = [sum(float(s[k]) for s in times) for k in (1, 2)]
        rows.append(
            f"| cat-surf, left, in all | {vertices} | {total[0]:.0f} | {total[1]:.0f} | {peak} |"
        )
        print("\n".join(rows[-len(times) - 1 :]))
    RESULTS.write_text(
        "# Time and memory of cortical surfaces\n\n"
        "`python -m benchmarks.surface_speed SHARED_DATA --cat-python PYTHON`; see its docstring.\n\n"
        f"freesurfer-silver sub-{given.head}, {os.cpu_count()} cores.\n\n"
        "| what | vertices | wall s | CPU s | peak GB |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()
