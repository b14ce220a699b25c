"""Thickness of one head scanned twice: turned by 7 degrees, resampled, with new noise.

    python benchmarks/surface_repeatability.py                 # freesurfer-silver sub-02
    python benchmarks/surface_repeatability.py --subjects sub-02 sub-07

The second scan is the first one turned about all three axes by 7 degrees in all, interpolated by
cubic splines onto a lattice that is shifted by a third of a voxel, plus Gaussian noise of 2 % of
the intensity of white matter. Its labels and mask are those of the first, turned too: the
difference is that of the surfaces, not of the segmentation. Each vertex of the first surface is
compared with the second one, brought back: with its nearest vertex, and with the mean of its three
nearest vertices, weighted by the inverse of their distance (vertices of two meshes never lie at the
same place).
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from benchmarks.silver import pipeline_hemisphere, silver_head
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Affine
from deepprep.surface.curvature import smoothed
from deepprep.surface.measures import distance_to_surface

SHARED = Path(os.environ.get("DEEPPREP_SHARED_DATA", "../shared/data"))
RESULTS = Path(__file__).parent / "results" / "surface_repeatability.md"

DEGREES = 7.0
AXIS = np.array([1.0, 1.0, 1.0]) / np.sqrt(3.0)
SHIFT_MM = np.array([0.33, -0.33, 0.33])
NOISE = 0.02
"""Standard deviation of the noise that is added, in parts of the intensity of white matter."""

SMOOTH_MM = 10.0
"""Thickness is also compared after smoothing over the surface by about this width."""


def turned() -> Affine:
    """Points of the second scan to points of the first."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(DEGREES) * AXIS).as_matrix()
    matrix[:3, 3] = SHIFT_MM
    return Affine(matrix)


def scans(subject: str) -> tuple[tuple[Volume, ...], tuple[Volume, ...]]:
    """T1w, labels and mask of the first scan, and of the second."""
    t1w, labels, mask = silver_head(SHARED, subject)
    grid = Grid(t1w.shape[:3], t1w.affine)
    there = turned()
    second = resample(t1w, grid, there, "cubic")
    white = float(np.median(t1w.data[np.isin(labels.data, (2, 41))]))
    noise = np.random.default_rng(0).normal(0, NOISE * white, second.shape)
    data = np.where(second.data > 1, np.maximum(second.data + noise, 0), 0).astype(np.float32)
    return (t1w, labels, mask), (
        second.like(data),
        resample(labels, grid, there, "label"),
        resample(mask, grid, there, "nearest"),
    )


def row(subject: str, side: str, first: tuple[Volume, ...], second: tuple[Volume, ...]) -> str:
    """One line of the table."""
    clock = time.process_time()
    one, two = (pipeline_hemisphere(side, *scan) for scan in (first, second))
    cpu = time.process_time() - clock
    back = two.white.moved(turned().map_points(two.white.vertices))
    pial = two.pial.moved(turned().map_points(two.pial.vertices))
    moved = [
        float(distance_to_surface(a.vertices[one.cortex], b).mean())
        for a, b in ((one.white, back), (one.pial, pial))
    ]
    # the place half-way out: banks of two gyri never lie at the same one
    middle = 0.5 * (one.white.vertices + one.pial.vertices)
    away, near = cKDTree(0.5 * (back.vertices + pial.vertices)).query(middle, k=3)
    nearest = near[:, 0]
    weights = 1.0 / (away + 1e-3)
    weights /= weights.sum(axis=1, keepdims=True)
    both = one.cortex & two.cortex[near].all(axis=1)
    cells = []
    for rounds in (0, 60):
        a, b = (
            smoothed(h.white, h.overlays["thickness"].astype(float), rounds) for h in (one, two)
        )
        cells.append(float(np.abs(a - b[nearest])[both].mean()))
        if not rounds:
            cells.append(float(np.abs(a - (b[near] * weights).sum(axis=1))[both].mean()))
    means = [h.overlays["thickness"][h.cortex].mean() for h in (one, two)]
    return (
        f"| {subject} {side} | {cells[0]:.3f} | {cells[1]:.3f} | {cells[2]:.3f} | {means[0]:.3f}, {means[1]:.3f} | "
        f"{moved[0]:.3f} | {moved[1]:.3f} | {cpu:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", nargs="*", default=["sub-02"])
    parser.add_argument("--sides", nargs="*", default=["left", "right"])
    options = parser.parse_args()
    lines = [
        "# Repeatability of the cortical surfaces",
        "",
        "`python benchmarks/surface_repeatability.py`",
        "",
        "| head | thickness, mean absolute difference mm, nearest vertex | between vertices | smoothed about 10 mm | mean thickness of "
        "both mm | white, mean distance mm | pial, mean distance mm | CPU s of both |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for subject in options.subjects:
        first, second = scans(subject)
        for side in options.sides:
            lines.append(row(subject, side, first, second))
            print(lines[-1], flush=True)
            RESULTS.write_text(
                "\n".join([*lines, "", (__doc__ or "").split("\n\n")[-1].strip(), ""])
            )


if __name__ == "__main__":
    main()
