"""Spherical registration and DK parcellation of the silver heads, beside cat-surf's spherical_demon.

    python -m benchmarks.spherical_registration SHARED_DATA [--heads 01 02 06 07] [--work FOLDER]
        [--cat-python PYTHON] [--pictures FOLDER] [--labels own]

Surfaces are reconstructed from the silver T1 and aseg (evaluation only), with --labels own from the T1
alone (page spherical_registration_own.md); with --work they are kept there and used again. cat-surf runs
as one process in its own environment (`python -m venv PEER && PEER/bin/pip install cat-surf`) on the same white surface and the same sphere, with fsaverage5 of nilearn as target.
Correlation: sulcal depth of the subject with the mean of 904 people (SHARED_DATA/sugar-atlas, not in the
package and not what is registered to) at the vertices of fsaverage6. Writes
benchmarks/results/spherical_registration.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.silver import HEADS, pipeline_hemisphere, silver_volume
from deepprep.data import surface_atlases as atlases
from deepprep.data.parcellations import label_weights
from deepprep.image.volume import Volume
from deepprep.interfaces.hemisphere_files import keep_hemisphere, load_hemisphere
from deepprep.surface.barycentric import locate
from deepprep.surface.cortical_labels import HemisphereParcels, label_ribbon, with_ribbon
from deepprep.surface.distortion import measure_distortion
from deepprep.surface.landmarks import nearness
from deepprep.surface.mesh import Mesh
from deepprep.surface.parcellation import transfer_labels
from deepprep.surface.reconstruct import Hemisphere
from deepprep.surface.ribbon import ribbon_volumes
from deepprep.surface.sphere import map_to_sphere
from deepprep.surface.spherical_registration import STAGES, register_sphere, standardised

RESULTS = Path(__file__).parent / "results" / "spherical_registration.md"
OWN_RESULTS = RESULTS.with_name("spherical_registration_own.md")
STIFF = tuple(
    replace(stage, stiffness=(1.5 if stage.curvature == 0 else 5.0) * stage.stiffness)
    for stage in STAGES
)
"""About cat-surf's distortion, for a fair comparison: the two last stages 5 times as stiff."""
SIDES = {"left": "lh", "right": "rh"}
PEER = """
import sys, time, numpy as np, cat_surf
z = np.load(sys.argv[1])
began, cpu = time.perf_counter(), time.process_time()
v, f = cat_surf.spherical_demon(
    (z["white"], z["faces"]), (z["sphere"], z["faces"]),
    (z["target"], z["target_faces"]), (z["target_sphere"], z["target_faces"]), unfold=True)[:2]
np.savez(sys.argv[2], v=v, wall=time.perf_counter() - began, cpu=time.process_time() - cpu)
"""


def hemisphere_of(side: str, volumes: tuple[Volume, ...], kept: Path | None) -> Hemisphere:
    if kept is not None and kept.is_file():
        return load_hemisphere(kept)
    found = pipeline_hemisphere(side, *volumes)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        here = Path.cwd()
        os.chdir(kept.parent)
        keep_hemisphere(found, kept.name)
        os.chdir(here)
    return found


def row(
    name: str, what: str, sphere: Mesh, moved: Mesh, depth: np.ndarray, mean: np.ndarray, times: str
) -> tuple[str, float, float]:
    found = np.corrcoef(depth, mean)[0, 1]
    distortion = measure_distortion(sphere, moved)
    spread = float(np.quantile(np.abs(distortion.areal), 0.95))
    text = f"| {name} | {what} | {found:.3f} | {distortion.folded} | {spread:.2f} | {times} |"
    print(text, flush=True)
    return text, float(found), spread


def on_group(moved: Mesh, values: np.ndarray) -> np.ndarray:
    """Values of a subject at the vertices of fsaverage6."""
    return locate(moved, atlases.fsaverage_sphere(6).vertices).interpolate(values)


def group_picture(depths: dict[str, dict[str, list[np.ndarray]]], out: Path) -> list[str]:
    """Draw the averages of sulcal depth; how alike the heads are, pair by pair, in words.

    Parameters
    ----------
    depths : dict of dict of list
        Hemisphere -> map -> depth of each head at the vertices of fsaverage6; ``904`` holds the mean of
        904 people.
    out : Path
        PNG: rows as in ``depths``, left outside and inside, right outside and inside. Shown on the inflated
        fsaverage5, whose vertices are the first of fsaverage6.
    """
    from nilearn.datasets import fetch_surf_fsaverage
    from PIL import Image

    from deepprep.reports.surface_views import folding_grey, render, view_of

    files = fetch_surf_fsaverage("fsaverage5")
    pictures, said = [], []
    for what in depths["lh"]:
        line, alike = [], []
        for side, hemi in SIDES.items():
            points, faces = (a.data for a in nib.load(files[f"infl_{side}"]).darrays)
            mesh = Mesh(points.astype(float), faces)
            heads = np.stack(depths[hemi][what])
            if len(heads) > 1:
                pairs = np.corrcoef(heads)[np.triu_indices(len(heads), 1)]
                alike.append(f"{pairs.mean():.3f}")
            grey = folding_grey(heads.mean(axis=0)[: mesh.n_vertices])
            line += [render(mesh, grey, view_of(side, v)) for v in ("lateral", "medial")]
        pictures.append(np.concatenate(line, axis=1))
        if alike:
            said.append(f"| {what} | {' | '.join(alike)} |")
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(pictures)).save(out)
    return said


def with_cat(python: str, hemi: str, white: Mesh, sphere: Mesh) -> tuple[Mesh, str]:
    from nilearn.datasets import fetch_surf_fsaverage

    files = fetch_surf_fsaverage("fsaverage5")
    target = nib.load(files[f"white_{'left' if hemi == 'lh' else 'right'}"])
    points, faces = (a.data for a in target.darrays)
    with tempfile.TemporaryDirectory() as folder:
        given, made = f"{folder}/given.npz", f"{folder}/made.npz"
        np.savez(
            given,
            white=white.vertices,
            sphere=sphere.vertices,
            faces=white.faces.astype(np.int32),
            target=points.astype(float),
            target_faces=faces.astype(np.int32),
            target_sphere=atlases.fsaverage_sphere(5).vertices,
        )
        subprocess.run([python, "-c", PEER, given, made], check=True)
        with np.load(made) as peer:
            return sphere.moved(peer["v"]), f"{float(peer['wall']):.1f} | {float(peer['cpu']):.1f}"


def dice_of(ours: np.ndarray, theirs: np.ndarray) -> dict[int, float]:
    """Dice of each cortical parcel (1001-1035, 2001-2035) of the reference."""
    out = {}
    for label in np.unique(theirs):
        if label % 1000 and 1000 < label < 2100 and label % 1000 < 100:
            a, b = ours == label, theirs == label
            out[int(label)] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--heads", nargs="+", default=["01", "02", "06", "07"])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--cat-python")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--labels", choices=list(HEADS), default="silver", help="and masks used")
    options = parser.parse_args()
    rows: list[str] = []
    found: dict[str, list[tuple[float, float]]] = {}
    scores: dict[int, list[float]] = {}
    depths: dict[str, dict[str, list[np.ndarray]]] = {h: {} for h in SIDES.values()}
    for head in options.heads:
        hemispheres, parcels = {}, {}
        volumes = HEADS[options.labels](options.shared, f"sub-{head}")
        for side, hemi in SIDES.items():
            kept = options.work / f"{options.labels}-{head}-{side}.npz" if options.work else None
            hemisphere = hemisphere_of(side, volumes, kept)
            sulc, curv = (hemisphere.overlays[n].astype(float) for n in ("sulc", "curv"))
            mean = nib.freesurfer.read_morph_data(
                options.shared / f"sugar-atlas/{hemi}.904_weight.mean.sulc"
            )
            name = f"sub-{head} {side}"
            clock, cpu = time.perf_counter(), time.process_time()
            sphere = map_to_sphere(hemisphere.white)
            laid = f"{time.perf_counter() - clock:.1f} | {time.process_time() - cpu:.1f}"
            clock, cpu = time.perf_counter(), time.process_time()
            landmarks = nearness(hemisphere.white.vertices, volumes[1], side)
            target = atlases.folding_target(hemi)
            result = register_sphere(sphere, sulc, curv, target, landmarks=landmarks)
            times = f"{time.perf_counter() - clock:.1f} | {time.process_time() - cpu:.1f}"
            turned = sphere.moved(sphere.vertices @ result.rotation.T)
            triples = []
            for what, moved, took in (
                ("sphere, rotation", turned, laid),
                ("DeepPrep", result.sphere, times),
            ):
                depth = on_group(moved, sulc)
                triples.append(row(name, what, sphere, moved, depth, mean, took))
                depths[hemi].setdefault(what, []).append(depth)
            depths[hemi]["904"] = [mean]
            stiff = register_sphere(sphere, sulc, curv, target, STIFF, landmarks).sphere
            depth = on_group(stiff, sulc)
            triples.append(row(name, "DeepPrep, stiff", sphere, stiff, depth, mean, " | "))
            if options.cat_python:
                warped, cat_times = with_cat(options.cat_python, hemi, hemisphere.white, sphere)
                depth = on_group(warped, sulc)
                triples.append(row(name, "cat-surf", sphere, warped, depth, mean, cat_times))
            for text, correlation, spread in triples:
                rows.append(text)
                found.setdefault(text.split("|")[2].strip(), []).append((correlation, spread))
            clock = time.process_time()
            folding = np.stack([standardised(sulc, sphere), standardised(curv, sphere)], axis=1)
            atlas = atlases.parcellation("aparc", hemi)
            labels = transfer_labels(
                result.parcel_sphere,
                folding,
                atlases.atlas_sphere(hemi),
                atlas.labels,
                atlases.atlas_folding(hemi),
                hemisphere.cortex,
                label_weights("aparc", atlas.names),
            )
            print(f"parcellation {time.process_time() - clock:.1f} CPU-s", flush=True)
            hemispheres[hemi] = hemisphere
            parcels[hemi] = HemisphereParcels(hemisphere.white, hemisphere.pial, labels)
        aseg = volumes[1]
        ribbon = ribbon_volumes(hemispheres["lh"], hemispheres["rh"], aseg.grid).ribbon
        ours = label_ribbon(with_ribbon(aseg, ribbon), parcels).data
        theirs = silver_volume(options.shared, f"sub-{head}", "aparc+aseg").data
        dice = dice_of(ours, theirs)
        for label, value in dice.items():
            scores.setdefault(label, []).append(value)
        for base, side in ((1000, "left"), (2000, "right")):
            mean_dice = np.mean([v for k, v in dice.items() if k // 1000 == base // 1000])
            print(f"sub-{head} {side}: DK Dice {mean_dice:.3f}", flush=True)
        if options.pictures:
            from deepprep.reports.surface_views import plot_parcels

            options.pictures.mkdir(parents=True, exist_ok=True)
            plot_parcels(
                list(hemispheres.values()),
                [parcels[h].labels for h in hemispheres],
                [atlases.parcellation("aparc", h).colours for h in hemispheres],
                options.pictures / f"sub-{head}.svg",
            )
    alike = []
    if options.pictures and len(options.heads) > 1:
        alike = group_picture(depths, options.pictures / "group_sulc.png")
    write(rows, found, scores, options.heads, options.labels, alike)


def write(
    rows: list[str],
    found: dict[str, list[tuple[float, float]]],
    scores: dict[int, list[float]],
    heads: list[str],
    whose: str,
    alike: list[str],
) -> None:
    """The page of results."""
    names = atlases.parcellation("aparc", "lh").names
    lines = [
        "# Spherical registration and parcellation of the silver heads",
        "",
        f"`python -m benchmarks.spherical_registration SHARED_DATA --labels {whose}`, heads "
        f"{', '.join(heads)}. See its",
        "docstring for what is compared. p95 areal: 95th percentile of abs(log2 area ratio), registered",
        "over unregistered sphere. Times of the first row of each hemisphere are those of the map to",
        "the sphere. Other processes may have shared the two cores: compare CPU seconds.",
        "",
        "| hemisphere | map | correlation with 904 | folds | p95 areal | wall s | CPU s |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "| mean of all | correlation | p95 areal |",
        "|---|---|---|",
    ]
    for what, values in found.items():
        mean = np.mean(values, axis=0)
        lines.append(f"| {what} | {mean[0]:.3f} | {mean[1]:.2f} |")
    if alike:
        lines += ["", "| correlation of sulc between heads, mean of pairs | left | right |"]
        lines += ["|---|---|---|", *alike]
    lines += [
        "",
        "## Dice of DK parcels in the volume with silver aparc+aseg",
        "",
        "Silver is FreeSurfer 6's automatic output. Labels and brain mask that gave the surfaces: "
        f"{whose}; the parcels and the ribbon are ours.",
        "",
        "| parcel | left | right |",
        "|---|---|---|",
    ]
    means: dict[int, list[float]] = {1: [], 2: []}
    for row_number, name in enumerate(names):
        cells = []
        for side in (1, 2):
            values = scores.get(1000 * side + row_number)
            cells.append(f"{np.mean(values):.3f}" if values else "")
            if values:
                means[side].append(float(np.mean(values)))
        if any(cells):
            lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines.append(f"| **mean** | **{np.mean(means[1]):.3f}** | **{np.mean(means[2]):.3f}** |")
    page = OWN_RESULTS if whose == "own" else RESULTS
    page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-40:]))


if __name__ == "__main__":
    main()
