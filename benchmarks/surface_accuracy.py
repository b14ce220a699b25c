"""Accuracy of white and pial surfaces: against exact phantoms and against freesurfer-silver.

    python benchmarks/surface_accuracy.py            # phantoms, and silver with its own aseg
    python benchmarks/surface_accuracy.py --subjects sub-02 --pictures FOLDER

Silver is automatic output of FreeSurfer 6, not manual truth. Its surfaces are not part of it: the
distance is taken from the voxel faces between white and cortex, and between cortex and the
outside, of its ribbon (1 mm), which alone lie 0.25 mm off a plane on average. Regional thickness
is not part of it either and is not compared here.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.surface_phantom import SHAPES, render
from deepprep.image.volume import Volume
from deepprep.surface.measures import distance_to_surface
from deepprep.surface.reconstruct import Hemisphere, reconstruct_hemisphere
from deepprep.surface.self_intersection import count_self_intersections

SHARED = Path(os.environ.get("DEEPPREP_SHARED_DATA", "../shared/data"))
RESULTS = Path(__file__).parent / "results" / "surface_accuracy.md"
SIDES = {"left": ("lh", 2, 3), "right": ("rh", 41, 42)}


def phantoms() -> list[str]:
    """Table rows of the phantoms."""
    rows = [
        "| shape | white mean / p95 mm | pial mean / p95 mm | Euler | self-intersections | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for shape in SHAPES.values():
        phantom = render([shape], zoom_mm=1.0, noise=0.03)
        mask = phantom.labels.like((phantom.labels.data > 0).astype(np.uint8))
        clock = time.process_time()
        found = reconstruct_hemisphere("left", phantom.image, phantom.labels, mask)
        cpu = time.process_time() - clock
        cells = []
        for mesh, distance in (
            (found.white, shape.white_distance),
            (found.pial, shape.pial_distance),
        ):
            error = np.abs(distance(mesh.vertices))
            cells.append(f"{error.mean():.3f} / {np.percentile(error, 95):.3f}")
        crossing = [count_self_intersections(m) for m in (found.white, found.pial)]
        rows.append(
            f"| {shape.name} | {cells[0]} | {cells[1]} | "
            f"{found.white.euler_number}, {found.pial.euler_number} | "
            f"{crossing[0]}, {crossing[1]} | {cpu:.0f} |"
        )
        print(rows[-1], flush=True)
    return rows


def silver(subjects: list[str], pictures: Path | None) -> list[str]:
    """Table rows of silver heads."""
    rows = [
        "| head | white mm (p95) | pial mm (p95) | thickness ours / silver mm | "
        "white, pial area cm2 | cortex | self-intersections | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for subject in subjects:
        folder = SHARED / "freesurfer-silver" / subject
        image = nib.load(folder / "mri" / "T1.mgz")
        t1w = Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)
        labels, mask, ribbon, parcels = (
            t1w.like(np.asarray(nib.load(folder / "mri" / f"{name}.mgz").dataobj).astype(np.int32))
            for name in ("aseg", "brainmask", "ribbon", "aparc.DKTatlas+aseg")
        )
        for side, (letter, white_value, grey_value) in SIDES.items():
            clock = time.process_time()
            found = reconstruct_hemisphere(side, t1w, labels, mask)
            cpu = time.process_time() - clock
            base = 1000 if side == "left" else 2000
            cortex = (parcels.data > base) & (parcels.data < base + 100)
            cortex &= ribbon.data == grey_value
            outside = ~np.isin(ribbon.data, (white_value, grey_value))
            inner = voxel_faces(ribbon.data == white_value, cortex, t1w.affine)
            outer = voxel_faces(cortex, outside, t1w.affine)
            cells = []
            for faces, mesh in ((inner, found.white), (outer, found.pial)):
                away = distance_to_surface(faces, mesh)
                cells.append(f"{away.mean():.3f} (p95 {np.percentile(away, 95):.2f})")
            theirs = nib.freesurfer.read_morph_data(folder / "surf" / f"{letter}.thickness")
            ours = found.overlays["thickness"][found.cortex].mean()
            area = [found.overlays[n][found.cortex].sum() / 100 for n in ("area", "area.pial")]
            crossing = [count_self_intersections(m) for m in (found.white, found.pial)]
            rows.append(
                f"| {subject} {side} | {cells[0]} | {cells[1]} | {ours:.2f} / "
                f"{theirs[theirs > 0].mean():.2f} | {area[0]:.0f}, {area[1]:.0f} | "
                f"{found.cortex.mean():.3f} | {crossing[0]}, {crossing[1]} | {cpu:.0f} |"
            )
            print(rows[-1], flush=True)
            if pictures:
                picture(t1w, found, pictures / f"{subject}_{side}.png")
    return rows


def voxel_faces(first: np.ndarray, second: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(N, 3) RAS mm of the centres of voxel faces between two masks."""
    out = []
    for axis in range(3):
        a = np.moveaxis(first, axis, 0)
        b = np.moveaxis(second, axis, 0)
        for one, two in ((a, b), (b, a)):
            at = np.argwhere(np.moveaxis(one[:-1] & two[1:], 0, axis)).astype(float)
            at[:, axis] += 0.5
            out.append(at)
    return nib.affines.apply_affine(affine, np.concatenate(out))


def picture(t1w: Volume, found: Hemisphere, path: Path) -> None:
    """Inflated surface with sulc, from both sides."""
    import matplotlib.pyplot as plt
    from nilearn import plotting

    figure, axes = plt.subplots(1, 2, figsize=(12, 5), subplot_kw={"projection": "3d"})
    mesh = [found.inflated.vertices, found.inflated.faces]
    for view, axis in zip(("lateral", "medial"), axes):
        plotting.plot_surf(mesh, found.overlays["sulc"], hemi=found.side, view=view, axes=axis,
                           figure=figure, cmap="gray_r")  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=60)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", nargs="*", default=["sub-02", "sub-06"])
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    parts = ["# Accuracy of the cortical surfaces", "", "## Phantoms, 1 mm, noise 3 %", ""]
    parts += phantoms()
    parts += ["", "## freesurfer-silver, labels: its aseg", "", *silver(options.subjects, options.pictures)]  # fmt: skip
    parts += ["", (__doc__ or "").split("\n\n")[-1].strip(), ""]
    RESULTS.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
