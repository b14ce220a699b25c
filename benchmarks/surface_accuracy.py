"""Accuracy of white and pial surfaces: against exact phantoms and against freesurfer-silver.

    python -m benchmarks.surface_accuracy            # phantoms, and silver with its own aseg
    python -m benchmarks.surface_accuracy --only silver --subjects sub-02 --pictures FOLDER
    python -m benchmarks.surface_accuracy --labels own    # silver segmented by us: a page of its own

Silver is automatic output of FreeSurfer 6, not manual truth. Its surfaces and their parcellation
are not part of it, only thickness per vertex, volumes and labels of voxels. Distance is therefore
taken from the voxel faces between white and cortex, and between cortex and the outside, of its
ribbon (1 mm): the faces of our own surfaces, filled into voxels, lie 0.17 mm off those surfaces.
Area is the number of such faces, of our surfaces filled into the same voxels against the ribbon's:
percent more or less than silver; the faces of banks that touch are in neither. Hemisphere
thickness is compared with silver's own files. Regional thickness of silver is the volume of a DKT
region over its faces to white matter; r is its correlation over the regions of a hemisphere with
ours, measured in the same way (first) and as our mean thickness per vertex (second).
Heads marked * were looked at while the placement was changed, the others were not.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from benchmarks.silver import HEADS, pipeline_hemisphere, silver_volume
from benchmarks.surface_phantom import SHAPES, render
from deepprep.image.volume import Volume
from deepprep.surface.measures import distance_to_surface
from deepprep.surface.reconstruct import Hemisphere, reconstruct_hemisphere
from deepprep.surface.scan_conversion import fill_mesh
from deepprep.surface.self_intersection import count_self_intersections

SHARED = Path(os.environ.get("DEEPPREP_SHARED_DATA", "../shared/data"))
RESULTS = Path(__file__).parent / "results" / "surface_accuracy.md"
OWN_RESULTS = RESULTS.with_name("surface_accuracy_own.md")
LOOKED_AT = ("sub-01", "sub-06")
"""Heads on which the placement of the pial surface was changed."""

NEAR_VOX = 2
"""Our filled surfaces are compared with the ribbon so near to its cortex: not on the medial wall."""

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


def silver(subjects: list[str], pictures: Path | None, whose: str) -> list[str]:
    """Table rows of silver heads; ``whose`` labels and mask make the surfaces: see HEADS."""
    rows = [
        "| head | white mm (p95) | pial mm (p95) | thickness ours / silver mm | "
        "white, pial area cm2 | area against silver % | regions r | cortex | self-intersections | "
        "CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for subject in subjects:
        folder = SHARED / "freesurfer-silver" / subject
        t1w, labels, mask = HEADS[whose](SHARED, subject)
        ribbon, parcels = (
            silver_volume(SHARED, subject, name) for name in ("ribbon", "aparc.DKTatlas+aseg")
        )
        for side, (letter, white_value, grey_value) in SIDES.items():
            clock = time.process_time()
            found = pipeline_hemisphere(side, t1w, labels, mask)
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
            areas, likeness = areas_and_regions(
                found, t1w, ribbon.data == white_value, np.where(cortex, parcels.data, 0)
            )
            mark = "*" if subject in LOOKED_AT else ""
            rows.append(
                f"| {subject}{mark} {side} | {cells[0]} | {cells[1]} | {ours:.2f} / "
                f"{theirs[theirs > 0].mean():.2f} | {area[0]:.0f}, {area[1]:.0f} | "
                f"{areas[0]:+.1f}, {areas[1]:+.1f} | {likeness[0]:.2f}, {likeness[1]:.2f} | "
                f"{found.cortex.mean():.3f} | {crossing[0]}, {crossing[1]} | {cpu:.0f} |"
            )
            print(rows[-1], flush=True)
            if pictures:
                picture(found, pictures / f"{subject}_{side}.png")
    return rows


def areas_and_regions(
    found: Hemisphere, t1w: Volume, white: np.ndarray, regions: np.ndarray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """White and pial area against silver (percent), and likeness of regional thickness.

    Parameters
    ----------
    found : Hemisphere
    t1w : Volume
        Lattice of silver.
    white : (X, Y, Z) bool array
        White matter of silver's ribbon.
    regions : (X, Y, Z) int array
        DKT number in silver's cortex, 0 elsewhere.
    """
    away, nearest = ndimage.distance_transform_edt(regions == 0, return_indices=True)
    named = np.where(away <= NEAR_VOX, regions[tuple(nearest)], 0)
    inner, outer = (fill_mesh(mesh, t1w.grid) for mesh in (found.white, found.pial))
    ours = np.where(outer & ~inner, named, 0)
    inside, all_inside = white | (regions > 0), inner | outer
    faces = [faces_of(white, regions), faces_of(inner, ours)]
    pial = [faces_of(~inside, regions), faces_of(~all_inside, ours)]
    counts = [np.bincount(r.ravel(), minlength=len(faces[0])) for r in (regions, ours)]
    kept = np.flatnonzero(counts[0] > 100)
    kept = kept[kept > 0]
    # two thirds of a voxel face lie on each square millimetre of a surface of any orientation
    theirs, same = (1.5 * c[kept] / np.maximum(f[kept], 1) for c, f in zip(counts, faces))
    middle = 0.5 * (found.white.vertices + found.pial.vertices)[found.cortex]
    voxels = np.rint(nib.affines.apply_affine(t1w.grid.ras2vox, middle)).astype(int)
    at = named[tuple(voxels.T)]
    depth = found.overlays["thickness"][found.cortex]
    direct = np.array([depth[at == r].mean() if (at == r).any() else np.nan for r in kept])
    likeness = [float(np.corrcoef(theirs, x)[0, 1]) for x in (same, direct)]
    more = [100.0 * (f[1][1:].sum() / f[0][1:].sum() - 1) for f in (faces, pial)]
    return (more[0], more[1]), (likeness[0], likeness[1])


def faces_of(first: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """(3000,) number of voxel faces between a mask and each region."""
    out = np.zeros(3000, dtype=int)
    for axis in range(3):
        a, b = np.moveaxis(first, axis, 0), np.moveaxis(regions, axis, 0)
        for one, two in ((a[:-1], b[1:]), (a[1:], b[:-1])):
            out += np.bincount(two[one & (two > 0)], minlength=3000)
    return out


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


def picture(found: Hemisphere, path: Path) -> None:
    """Inflated surface with sulc, from both sides."""
    from PIL import Image

    from deepprep.reports.surface_views import VIEWS, folding_grey, render, view_of

    grey = folding_grey(found.overlays["sulc"])
    views = [render(found.inflated, grey, view_of(found.side, view)) for view in VIEWS]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(views, axis=1)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", nargs="*", default=["sub-01", "sub-02", "sub-06", "sub-07"])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", choices=["phantoms", "silver"], help="print, write no page")
    parser.add_argument("--labels", choices=list(HEADS), default="silver", help="of silver heads")
    options = parser.parse_args()
    explained = ["", (__doc__ or "").split("\n\n")[-1].strip(), ""]
    heads = (options.subjects, options.pictures, options.labels)
    if options.only:
        print("\n".join(phantoms() if options.only == "phantoms" else silver(*heads)))
    elif options.labels == "own":
        parts = ["# Cortical surfaces of freesurfer-silver from its T1 alone", ""]
        parts += ["Brain mask, bias field and segmentation are ours.", "", *silver(*heads)]
        OWN_RESULTS.write_text("\n".join(parts + explained))
    else:
        parts = ["# Accuracy of the cortical surfaces", "", "## Phantoms, 1 mm, noise 3 %", ""]
        parts += phantoms()
        parts += ["", "## freesurfer-silver, labels: its aseg", "", *silver(*heads)]
        RESULTS.write_text("\n".join(parts + explained))


if __name__ == "__main__":
    main()
