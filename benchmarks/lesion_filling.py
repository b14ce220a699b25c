"""Does filling a lesion keep the segmentation of what lies around it?

    python -m benchmarks.lesion_filling SHARED_DATA WORK [--head sub-01] [--places 10]

The lesions of ``registration_lesion`` (40 ml, ten places of one real head; WORK is that of
``registration_overlap``). The head is segmented healthy, with the lesion, and with the lesion filled
(``--lesion-fill mirror`` and ``white``); Dice of the structures with those of the healthy head,
beyond 2 mm from the lesion and within it. Writes results/lesion_filling.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.registration_lesion import paint, places, segment
from benchmarks.registration_overlap import prepare
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.lesion import LESION_RIM_MM
from deepprep.registration.lesion_filling import fill_lesion

RESULTS = Path(__file__).parent / "results" / "lesion_filling.md"
SMALLEST_ML = 0.2
"""A structure that the lesion leaves less of does not count."""
FILLINGS = ("none", "mirror", "white")
HEADER = """# Segmentation of a head whose lesion is filled

`python -m benchmarks.lesion_filling SHARED_DATA WORK`. Lesions of 40 ml painted into silver {head}. Mean Dice
(lowest structure) of the brain structures with those of the healthy head further than 2 mm from the lesion;
share of the voxels within the lesion that have the healthy head's label.

| centre (RAS mm) | from the other side | around: not filled | mirror | white | within: not filled | mirror | white |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--head", default="sub-01")
    parser.add_argument("--places", type=int, default=10)
    given = parser.parse_args()
    prepare((given.head,), given.shared_data, given.work)
    head = load_volume(given.work / f"{given.head}_brain.nii")
    brain = head.data > 0
    truth = segment(head, brain).data
    rows, all_scores = [], []
    for centre in places(head, given.places):
        sick, lesion = paint(head, centre)
        inside = lesion.data > 0.5
        around = ndimage.distance_transform_edt(~inside, sampling=head.zooms_mm) > LESION_RIM_MM
        scores, share = {}, 0.0
        for how in FILLINGS:
            seen, mask, started = sick, brain, time.process_time()
            if how != "none":
                filled = fill_lesion(sick, brain, lesion, how)  # type: ignore[arg-type]
                seen, mask = filled.t1w, filled.mask
                share = max(share, filled.mirrored_share)
            print(how, np.round(centre), f"{time.process_time() - started:.0f} CPU s", flush=True)
            found = segment(seen, mask).data
            dice = structure_dice(found, truth, around, head.grid.voxel_volume_mm3)
            scores[how] = (dice.mean(), dice.min(), (found == truth)[inside & brain].mean())
        all_scores.append([[*scores[how]] for how in FILLINGS])
        where = " ".join(f"{c:.0f}" for c in centre)
        outside = [f"{scores[how][0]:.4f} ({scores[how][1]:.2f})" for how in FILLINGS]
        within = [f"{scores[how][2]:.2f}" for how in FILLINGS]
        rows.append("| " + " | ".join([where, f"{100 * share:.0f} %", *outside, *within]) + " |")
        mean = np.mean(all_scores, axis=0)
        last = [f"{m[0]:.4f} ({m[1]:.2f})" for m in mean] + [f"{m[2]:.2f}" for m in mean]
        table = [*rows, "| mean | | " + " | ".join(last) + " |"]
        RESULTS.write_text(HEADER.format(head=given.head) + "\n".join(table) + "\n")
    print("\n".join(table))


def structure_dice(
    found: np.ndarray, truth: np.ndarray, where: np.ndarray, voxel_mm3: float
) -> np.ndarray:
    """Dice of each structure of which ``where`` holds enough."""
    found, truth = found[where].astype(int), truth[where].astype(int)
    size = max(found.max(), truth.max()) + 1
    a, b = np.bincount(found, minlength=size), np.bincount(truth, minlength=size)
    both = np.bincount(truth[found == truth], minlength=size)
    kept = b * voxel_mm3 / 1000.0 >= SMALLEST_ML
    kept[0] = False
    return 2 * both[kept] / (a[kept] + b[kept])


if __name__ == "__main__":
    main()
