"""Maps to the sphere: folds, distortion and time, beside cat-surf's surf_to_sphere.

    python -m benchmarks.sphere_distortion SHARED_DATA [--heads 01 02 06 07] [--cat-python PYTHON]

White surfaces are made from the silver labels (evaluation only). cat-surf runs as one process in its
own environment (`python -m venv PEER && PEER/bin/pip install cat-surf`), given by --cat-python; without
it there are only our rows. Writes benchmarks/results/sphere_distortion.md.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.silver import silver_head
from deepprep.surface.distortion import measure_distortion
from deepprep.surface.initial_white import initial_white
from deepprep.surface.mesh import Mesh
from deepprep.surface.sphere import map_to_sphere

RESULTS = Path(__file__).parent / "results" / "sphere_distortion.md"
PEER = """
import sys, time, numpy as np, cat_surf
z = np.load(sys.argv[1])
began, cpu = time.perf_counter(), time.process_time()
v, f = cat_surf.surf_to_sphere(z["v"].astype(float), z["f"].astype(np.int32), 5, False, sys.argv[3] == "relax")
np.savez(sys.argv[2], v=v, f=f, wall=time.perf_counter() - began, cpu=time.process_time() - cpu)
"""


def row(name: str, what: str, white: Mesh, sphere: Mesh, wall: float, cpu: float) -> str:
    d = measure_distortion(white, sphere)
    p95 = float(np.quantile(np.abs(d.areal), 0.95))
    return (
        f"| {name} | {white.n_vertices} | {what} | {d.folded} | {d.mean_areal:.3f} | {p95:.2f} "
        f"| {d.mean_angular_deg:.1f} | {wall:.1f} | {cpu:.1f} |"
    )


def white_surfaces(shared: Path, head: str) -> dict[str, Mesh]:
    t1w, labels, _ = silver_head(shared, f"sub-{head}")
    return {side: s.mesh for side, s in initial_white(labels, t1w).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--heads", nargs="+", default=["01", "02", "06", "07"])
    parser.add_argument("--cat-python")
    arguments = parser.parse_args()
    lines = [
        "# Maps to the sphere",
        "",
        "`python benchmarks/sphere_distortion.py SHARED_DATA`. Areal: mean and 95th percentile of",
        "abs(log2 area on the sphere / area on the white surface), both of one total area, weighted by",
        "area. Angular: mean change of a triangle's angles. Other processes shared the two cores: compare",
        "CPU seconds.",
        "",
        "| hemisphere | vertices | map | folds | areal | areal p95 | angular, deg | wall s | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    map_to_sphere(
        Mesh(
            [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]],
            [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]],
        )
    )
    for head in arguments.heads:
        for side, white in white_surfaces(arguments.shared, head).items():
            name = f"sub-{head} {side}"
            began, cpu = time.perf_counter(), time.process_time()
            sphere = map_to_sphere(white)
            times = time.perf_counter() - began, time.process_time() - cpu
            lines.append(row(name, "DeepPrep", white, sphere, *times))
            if arguments.cat_python:
                with tempfile.TemporaryDirectory() as folder:
                    given, made = f"{folder}/white.npz", f"{folder}/sphere.npz"
                    np.savez(given, v=white.vertices, f=white.faces)
                    for mode in ("plain", "relax"):
                        subprocess.run(
                            [arguments.cat_python, "-c", PEER, given, made, mode], check=True
                        )
                        with np.load(made) as peer:
                            there = Mesh(peer["v"], peer["f"])
                            lines.append(
                                row(
                                    name,
                                    f"cat-surf, {mode}",
                                    white,
                                    white.moved(there.vertices),
                                    float(peer["wall"]),
                                    float(peer["cpu"]),
                                )
                            )
            print("\n".join(lines[-3:]), flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
