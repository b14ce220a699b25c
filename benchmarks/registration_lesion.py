"""Does a lesion of 40 ml pull the normalisation? With its mask left out of the cost, and without.

    python -m benchmarks.registration_lesion SHARED_DATA WORK [--head sub-01] [--places 10]

WORK is that of ``registration_overlap`` (its heads are made if they are not there). A sphere of
40 ml as dark as fluid, with a grey rim and a swelling that is not modelled, is painted into one
real head at ten places, and the sick head is segmented as any other (``filled``: after its lesion
was filled by ``--lesion-fill mirror``). The map to MNI152NLin2009cAsym is compared to that of the
healthy head over the brain further than 2 mm from the lesion. Writes results/registration_lesion.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.registration_overlap import TEMPLATE, load, prepare
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.affine import register_affine
from deepprep.registration.diffeomorphic import register_diffeomorphic
from deepprep.registration.flow import DeformableResult
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.lesion import labels_outside
from deepprep.registration.lesion_filling import fill_lesion
from deepprep.segmentation.engines import choose_engine

RESULTS = Path(__file__).parent / "results" / "registration_lesion.md"
LESION_ML = 40.0
WAYS = ("masked", "filled", "unmasked")
"""With the mask; with the mask and the lesion filled; without."""
SEED = 7
HEADER = """# Synthetic lesions of 40 ml

`python -m benchmarks.registration_lesion SHARED_DATA WORK`. Mean (95th percentile) distance in mm
between the map to MNI152NLin2009cAsym of the head with a lesion and that of the same head ({head},
silver) without, over the brain further than 2 mm from the lesion. Centres are in RAS mm of the head.

| centre (RAS mm) | ml in the brain | with the mask | with the mask, filled | without the mask |
|---|---|---|---|---|
"""


def main() -> None:
    given = arguments(__doc__)
    fixed, moving = (load_volume(given.work / f"{n}_brain.nii") for n in (TEMPLATE, given.head))
    structures = load(given.work, TEMPLATE, "seg")
    brain = moving.data > 0
    healthy = normalise(fixed, moving, LabelPair(structures, segment(moving, brain)), None)
    centres = places(moving, given.places)
    found: dict[tuple[int, str], np.ndarray] = {}
    # all places with the mask first, so that a run that is cut short has them
    for way in WAYS:
        for number, centre in enumerate(centres):
            sick, lesion = paint(moving, centre)
            seen, mask = sick, brain
            if way == "filled":
                filled = fill_lesion(sick, brain, lesion, "mirror")
                seen, mask = filled.t1w, filled.mask
            own = segment(seen, mask)
            hole = None if way == "unmasked" else lesion
            if hole is not None:
                own = labels_outside(own, lesion)
            started = time.process_time()
            result = normalise(fixed, seen, LabelPair(structures, own), hole)
            cpu = time.process_time() - started
            error = distance(healthy, result, fixed, moving, lesion)
            found[number, way] = error
            print(number, way, np.round(centre), f"{error.mean():.3f} mm, {cpu:.0f} CPU s",
                  flush=True)  # fmt: skip
            RESULTS.write_text(HEADER.format(head=given.head) + table(centres, moving, found))


def arguments(description: str | None) -> argparse.Namespace:
    """Command line; the head is there afterwards."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--head", default="sub-01")
    parser.add_argument("--places", type=int, default=10)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    prepare((given.head,), given.shared_data, given.work)
    return given


def table(centres: np.ndarray, head: Volume, found: dict[tuple[int, str], np.ndarray]) -> str:
    """A line for each place, and the means over places."""
    rows = []
    for number, centre in enumerate(centres):
        ml = paint(head, centre)[1].data.sum() * head.grid.voxel_volume_mm3 / 1000
        errors = [found.get((number, way)) for way in WAYS]
        cells = [
            "" if e is None else f"{e.mean():.2f} ({np.percentile(e, 95):.2f})" for e in errors
        ]
        where = " ".join(f"{c:.0f}" for c in centre)
        rows.append(f"| {where} | {ml:.0f} | " + " | ".join(cells) + " |")
    means = []
    for way in WAYS:
        own = [e.mean() for (_, w), e in found.items() if w == way]
        means.append(f"{np.mean(own):.2f} ({len(own)} places)" if own else "")
    return "\n".join([*rows, "| mean of the means | | " + " | ".join(means) + " |"]) + "\n"


def normalise(
    fixed: Volume, moving: Volume, labels: LabelPair, lesion: Volume | None
) -> DeformableResult:
    """Affine and deformable, as the workflow does."""
    affine = register_affine(fixed, moving, labels=labels, lesion=lesion)
    return register_diffeomorphic(fixed, moving, affine, labels=labels, lesion=lesion)


def places(head: Volume, n: int) -> np.ndarray:
    """(n, 3) RAS mm well inside the brain, far from each other."""
    depth = ndimage.distance_transform_edt(head.data > 0, sampling=head.zooms_mm)
    voxels = np.argwhere((depth > 18) & (depth < 40))
    points = voxels @ head.affine[:3, :3].T + head.affine[:3, 3]
    rng = np.random.default_rng(SEED)
    chosen = [points[rng.integers(len(points))]]
    while len(chosen) < n:
        nearest = np.min([np.linalg.norm(points - c, axis=1) for c in chosen], axis=0)
        chosen.append(points[nearest.argmax()])
    return np.array(chosen)


def radius_mm(volume: Volume, centre: np.ndarray) -> np.ndarray:
    """Distance of each voxel from the centre."""
    return np.linalg.norm(volume.grid.points_ras() - centre, axis=-1)


def paint(head: Volume, centre: np.ndarray) -> tuple[Volume, Volume]:
    """The head with the lesion, and its mask."""
    radius = (3 * LESION_ML * 1000 / (4 * np.pi)) ** (1 / 3)
    away = radius_mm(head, centre)
    inside = (away < radius) & (head.data > 0)
    top = float(np.percentile(head.data[head.data > 0], 98))
    rng = np.random.default_rng(SEED)
    texture = ndimage.gaussian_filter(rng.normal(size=head.shape), 2.0)
    dark = top * (np.where(away < radius - 4, 0.25, 0.6) + 0.15 * texture / texture.std())
    data = np.where(inside, np.clip(dark, 0.02 * top, top), head.data)
    return head.like(data.astype(np.float32)), head.like(inside.astype(np.float32))


def segment(head: Volume, mask: np.ndarray) -> Volume:
    """Brain structures by the engine that a user gets."""
    engine, weights, _ = choose_engine("deepprep")
    return head.like(engine.segment(head, mask, weights, device="cpu", threshold=0.5).labels)


def distance(
    reference: DeformableResult,
    found: DeformableResult,
    fixed: Volume,
    moving: Volume,
    lesion: Volume,
) -> np.ndarray:
    """mm between two maps at points of the fixed brain that the reference takes outside the lesion."""
    points = np.argwhere(fixed.data > 0)[::23] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    there = reference.fixed_to_moving().map_points(points)
    away = ndimage.distance_transform_edt(lesion.data < 0.5, sampling=lesion.zooms_mm)
    vox = there @ moving.grid.ras2vox[:3, :3].T + moving.grid.ras2vox[:3, 3]
    keep = ndimage.map_coordinates(away, vox.T, order=1, mode="nearest") > 2.0
    return np.linalg.norm(found.fixed_to_moving().map_points(points[keep]) - there[keep], axis=1)


if __name__ == "__main__":
    main()
