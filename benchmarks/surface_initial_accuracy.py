"""First white surface against analytic folded surfaces (1 mm, partial volume, 3 % noise).

    python benchmarks/surface_initial_accuracy.py [SHAPE ...]

Labels are those of the voxels' largest tissue, the posterior is not given. Distances go both ways:
vertices to the true surface, and points of the true surface to the nearest triangle's samples.
Writes benchmarks/results/surface_initial_accuracy.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.surface_phantom import SHAPES, render
from deepprep.surface.initial_white import initial_white
from deepprep.surface.self_intersection import count_self_intersections

RESULTS = Path(__file__).parent / "results" / "surface_initial_accuracy.md"


def main() -> None:
    lines = []
    for name in sys.argv[1:] or SHAPES:
        shape = SHAPES[name]
        phantom = render([shape], bias=0.1)
        started = time.process_time()
        surface = initial_white(phantom.labels, phantom.image, sides=["left"])["left"]
        seconds = time.process_time() - started
        mesh, report = surface.mesh, surface.report
        error = shape.white_distance(mesh.vertices, 5.0)
        area = 100 * mesh.face_areas.sum() / shape.point_areas.sum()
        lines.append(
            f"| {name} | {mesh.n_vertices} | {mesh.euler_number} | {count_self_intersections(mesh)} "
            f"| {error.mean():+.3f} | {np.abs(error).mean():.3f} "
            f"| {np.percentile(np.abs(error), 95):.3f} | {area:.1f} "
            f"| {report.count('cut')} | {report.count('fill')} | {seconds:.1f} |"
        )
        print(lines[-1], flush=True)
    if len(sys.argv) == 1:
        RESULTS.write_text(
            "# First white surface against analytic truth, before placement\n\n"
            "`python benchmarks/surface_initial_accuracy.py`: 1 mm, partial volume, 3 % noise, "
            "10 % bias.\n\n"
            "| shape | vertices | Euler | self-intersections | mean mm (+ outside) | mean of size mm "
            "| 95th percentile mm | area % of true | cuts | fills | CPU-s |\n|"
            + "---|" * 11
            + "\n"
            + "\n".join(lines)
            + "\n"
        )


if __name__ == "__main__":
    main()
