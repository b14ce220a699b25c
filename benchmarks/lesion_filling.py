"""Does filling a lesion keep the segmentation of what lies around it?

    python -m benchmarks.lesion_filling SHARED_DATA WORK [--head sub-01] [--places 10]

The lesions of ``registration_lesion`` (40 ml, ten places of one real head; WORK is that of
``registration_overlap``). The head is segmented healthy, with the lesion, and with the lesion filled
(``--lesion-fill mirror`` and ``white``); Dice of the structures with those of the healthy head,
beyond 2 mm from the lesion and within it. Writes results/lesion_filling.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.registration_lesion import arguments, paint, places, segment
from benchmarks.registration_overlap import overlap
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.lesion import LESION_RIM_MM
from deepprep.registration.lesion_filling import fill_lesion

RESULTS = Path(__file__).parent / "results" / "lesion_filling.md"
FILLINGS = ("none", "mirror", "white")
HEADER = """# Segmentation of a head whose lesion is filled

`python -m benchmarks.lesion_filling SHARED_DATA WORK`. Lesions of 40 ml painted into silver {head}. Mean Dice
of the brain structures with those of the healthy head further than 2 mm from the lesion; share of the voxels within the lesion that have the healthy head's label.

| centre (RAS mm) | from the other side | around: not filled | mirror | white | within: not filled | mirror | white |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    given = arguments(__doc__)
    head = load_volume(given.work / f"{given.head}_brain.nii")
    brain = head.data > 0
    truth = segment(head, brain).data
    rows: list[str] = []
    scores: list[list[float]] = []
    for centre in places(head, given.places):
        sick, lesion = paint(head, centre)
        inside = lesion.data > 0.5
        around = ndimage.distance_transform_edt(~inside, sampling=head.zooms_mm) > LESION_RIM_MM
        outside, within, share = [], [], 0.0
        for how in FILLINGS:
            seen, mask, started = sick, brain, time.process_time()
            if how != "none":
                filled = fill_lesion(sick, brain, lesion, how)  # type: ignore[arg-type]
                seen, mask = filled.t1w, filled.mask
                share = max(share, filled.mirrored_share)
            print(how, np.round(centre), f"{time.process_time() - started:.0f} CPU s", flush=True)
            found = segment(seen, mask).data
            outside.append(overlap(found[around], truth[around]))
            within.append((found == truth)[inside & brain].mean())
        scores.append([*outside, *within])
        where = " ".join(f"{c:.0f}" for c in centre)
        rows.append(line(f"{where} | {100 * share:.0f} %", scores[-1]))
        table = [*rows, line("mean | ", np.mean(scores, axis=0))]
        RESULTS.write_text(HEADER.format(head=given.head) + "\n".join(table) + "\n")
    print("\n".join(table))


def line(head: str, scores: Sequence[float] | np.ndarray) -> str:
    """One row: Dice around the lesion, then agreement within it."""
    n = len(FILLINGS)
    cells = [f"{x:.4f}" for x in scores[:n]] + [f"{x:.2f}" for x in scores[n:]]
    return f"| {head} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
