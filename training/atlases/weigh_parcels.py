"""How much a vote of each DK parcel counts, so that parcels are as large as FreeSurfer's on average.

    python -m training.atlases.weigh_parcels SHARED_DATA WORK [--heads 01 02 ...]

An atlas drawn on the average sphere gives some parcels a size that FreeSurfer's own classifier does not
give them in people: frontal poles too small, transverse temporal gyri too large. ``FREESURFER`` is the
share of the white surface of each parcel, percent, mean of both hemispheres of five adults whose
``aparc.stats`` lie in public repositories (FreeSurfer 5.3 to 7.4: Neuro-iX/FS741, an HCP subject and another;
mhaid/datalad_MRIpreprocessing-pipeline LJ001, LJ002; dddd1007/NfMRIx sub-01). The shares of our transfer are
measured on heads of ds002748 (CC0); FreeSurfer's labels of the heads that we are evaluated on have no part in
this. Parcels along the medial wall keep their votes: their area is as much that wall's affair. The logarithm
of the ratio of a parcel is drawn towards zero by its own uncertainty, and the weights are
adjusted until the shares move by as much. What is in WORK is not computed again. Writes
deepprep/data/atlases/aparc_weights.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.segmentation_accuracy import process
from benchmarks.silver import pipeline_hemisphere
from deepprep.data import surface_atlases as atlases
from deepprep.interfaces.nifti import load_volume
from deepprep.surface.landmarks import nearness
from deepprep.surface.mesh import Mesh
from deepprep.surface.parcellation import transfer_labels
from deepprep.surface.sphere import map_to_sphere
from deepprep.surface.spherical_registration import register_sphere, standardised

OUT = Path(atlases.__file__).parent / "atlases" / "aparc_weights.json"
SIDES = {"left": "lh", "right": "rh"}
HEADS = ("01", "02", "03", "04", "06", "07")
ROUNDS = 6
FREESURFER = {
    "bankssts": (1.19, 0.16, 0.98, 0.09),
    "caudalmiddlefrontal": (2.56, 0.28, 2.54, 0.23),
    "cuneus": (1.80, 0.33, 1.88, 0.21),
    "fusiform": (3.82, 0.27, 3.59, 0.17),
    "inferiorparietal": (5.32, 0.33, 6.69, 0.31),
    "inferiortemporal": (4.31, 0.32, 3.71, 0.29),
    "lateraloccipital": (6.01, 0.39, 6.10, 0.95),
    "lateralorbitofrontal": (3.12, 0.09, 2.97, 0.12),
    "lingual": (3.76, 0.32, 3.95, 0.52),
    "middletemporal": (3.94, 0.21, 4.57, 0.37),
    "paracentral": (1.54, 0.16, 1.62, 0.27),
    "parsopercularis": (2.03, 0.29, 1.58, 0.12),
    "parsorbitalis": (0.74, 0.04, 0.96, 0.08),
    "parstriangularis": (1.52, 0.10, 1.82, 0.26),
    "pericalcarine": (1.68, 0.25, 1.86, 0.29),
    "postcentral": (4.79, 0.19, 4.39, 0.27),
    "precentral": (5.58, 0.50, 5.37, 0.31),
    "precuneus": (4.57, 0.53, 4.66, 0.28),
    "rostralmiddlefrontal": (6.58, 0.48, 6.72, 0.24),
    "superiorfrontal": (8.27, 0.70, 8.00, 0.43),
    "superiorparietal": (6.06, 0.40, 6.36, 0.34),
    "superiortemporal": (4.54, 0.15, 4.35, 0.20),
    "supramarginal": (4.79, 0.84, 3.85, 0.31),
    "frontalpole": (0.28, 0.03, 0.37, 0.05),
    "temporalpole": (0.53, 0.04, 0.53, 0.06),
    "transversetemporal": (0.53, 0.04, 0.35, 0.03),
    "insula": (2.72, 0.20, 2.77, 0.31),
}
"""Parcel -> share of the white surface in percent and standard deviation over people, left; right. What is
compared is the share of these parcels among each other."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    hemispheres: dict[str, list[dict[str, np.ndarray]]] = {"lh": [], "rh": []}
    for head in given.heads:
        for hemi, found in measured(given.shared_data, given.work, head).items():
            hemispheres[hemi].append(found)
    weights = fitted(hemispheres)
    OUT.write_text(json.dumps({k: round(float(v), 2) for k, v in weights.items()}, indent=1) + "\n")


def measured(shared: Path, work: Path, head: str) -> dict[str, dict[str, np.ndarray]]:
    """Where the vertices of both hemispheres of a head look up labels, and what else that takes."""
    files = {hemi: work / f"{head}-{hemi}.npz" for hemi in SIDES.values()}
    if not all(file.is_file() for file in files.values()):
        path = next((shared / "ds002748" / f"sub-{head}").rglob("*_T1w.nii.gz"))
        corrected, found, brain, _ = process(load_volume(path), "deepprep")
        labels = corrected.like(found.labels)
        mask = corrected.like(brain.mask.astype(np.uint8))
        for side, hemi in SIDES.items():
            hemisphere = pipeline_hemisphere(side, corrected, labels, mask)
            white = hemisphere.white
            np.savez(
                files[hemi],
                sphere=map_to_sphere(white).vertices,
                faces=white.faces,
                sulc=hemisphere.overlays["sulc"],
                curv=hemisphere.overlays["curv"],
                landmarks=nearness(white.vertices, labels, side),
                cortex=hemisphere.cortex,
                area=white.vertex_areas,
            )
        print(f"sub-{head} is measured", flush=True)
    return {hemi: placed(dict(np.load(file)), hemi) for hemi, file in files.items()}


def placed(person: dict[str, np.ndarray], hemi: str) -> dict[str, np.ndarray]:
    """A hemisphere with the place of its vertices on the atlas and its folding."""
    sphere = Mesh(person["sphere"], person["faces"])
    sulc, curv = (person[name].astype(float) for name in ("sulc", "curv"))
    found = register_sphere(
        sphere, sulc, curv, atlases.folding_target(hemi), landmarks=person["landmarks"]
    )
    folding = np.stack([standardised(v, sphere) for v in (sulc, curv)], axis=1)
    return {**person, "place": found.parcel_sphere.vertices, "folding": folding}


def shares(
    hemispheres: dict[str, list[dict[str, np.ndarray]]], weights: dict[str, float]
) -> np.ndarray:
    """(2, N, P) share of the white surface of each parcel of ``FREESURFER``: left and right of each head."""
    out = []
    for hemi, people in hemispheres.items():
        atlas = atlases.parcellation("aparc", hemi)
        rows = [atlas.names.index(name) for name in FREESURFER]
        log_votes = np.array([weights.get(name, 0.0) for name in atlas.names])
        of_side = []
        for person in people:
            labels = transfer_labels(
                Mesh(person["place"], person["faces"]), person["folding"],
                atlases.atlas_sphere(hemi), atlas.labels, atlases.atlas_folding(hemi),
                person["cortex"], log_votes,
            )  # fmt: skip
            area = np.bincount(labels, weights=person["area"], minlength=len(atlas.names))[rows]
            of_side.append(area / area.sum())
        out.append(of_side)
    return np.array(out)


def fitted(hemispheres: dict[str, list[dict[str, np.ndarray]]]) -> dict[str, float]:
    """Weight of each parcel, one for both sides."""
    reference = np.array(list(FREESURFER.values())).reshape(-1, 2, 2)
    theirs, spread = reference[..., 0].T, reference[..., 1].T
    first = shares(hemispheres, {})
    ours = first.mean(axis=1)
    ratio = np.log(ours * theirs.sum(axis=1, keepdims=True) / theirs).mean(axis=0)
    people = first.shape[1]
    doubt = (first.std(axis=1, ddof=1) / ours) ** 2 / people + (spread / theirs) ** 2 / 5
    doubt = doubt.sum(axis=0) / 4
    wanted = ratio * ratio**2 / (ratio**2 + doubt)
    weights = dict.fromkeys(FREESURFER, 0.0)
    for _ in range(ROUNDS):
        now = shares(hemispheres, weights).mean(axis=1)
        left = np.log(now / ours).mean(axis=0) + wanted
        print(f"largest difference of a share that is left: {np.abs(left).max():.3f}", flush=True)
        for name, step in zip(FREESURFER, left):
            weights[name] -= float(step)
    for name, was, want in zip(FREESURFER, ratio, wanted):
        print(f"{name:26s} ours / FreeSurfer {np.exp(was):.2f}, wanted {np.exp(-want):.2f}, "
              f"weight {weights[name]:+.2f}")  # fmt: skip
    return weights


if __name__ == "__main__":
    main()
