"""What the anatomical stages say to images that are no good T1w head.

    python benchmarks/bad_inputs.py SHARED_DATA [--only NAME ...]

Each case goes through brain extraction, N4, segmentation, tissues and quality measures as in the
workflow. Wanted: one sentence (an error of a stage) or warnings in the report; never a crash with
a traceback of a library, and never silence. Writes benchmarks/results/bad_inputs.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks.segmentation_accuracy import process
from deepprep.image.conform import to_ras
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.quality.segmentation import segmentation_metrics
from deepprep.segmentation.partial_volume import tissue_maps

RESULTS = Path(__file__).parent / "results" / "bad_inputs.md"
HEAD = "bids-ci/sub-001/anat/sub-001_T1w.nii.gz"
BOLD = "bids-ci/sub-001/func/sub-001_task-rest_bold.nii.gz"


def ct(head: Volume) -> Volume:
    """Soft tissue almost uniform, bone bright, air -1000 shifted to 0."""
    data = head.data / np.percentile(head.data, 99)
    body = ndimage.binary_fill_holes(ndimage.gaussian_filter(data, 1) > 0.1)
    inner = ndimage.binary_erosion(body, iterations=4)
    bone = inner & ~ndimage.binary_erosion(inner, iterations=3)
    values = np.where(body, 1040.0 - 4 * data, 0.0)
    values[bone] = 1900.0
    noise = np.random.default_rng(0).normal(0, 5, data.shape)
    return head.like((values + noise).astype(np.float32))


def inverted(head: Volume) -> Volume:
    """T2-like: fluid bright, white matter dark."""
    top = np.percentile(head.data, 99.5)
    return head.like(np.where(head.data > 0.08 * top, 1.1 * top - head.data.clip(0, top), 0))


def half(head: Volume) -> Volume:
    """The right half only."""
    data = head.data.copy()
    data[: data.shape[0] // 2] = 0
    return head.like(data)


def lower_cut(head: Volume) -> Volume:
    """The upper third of the field of view is missing."""
    return Volume(head.data[:, :, : int(head.shape[2] * 0.62)], head.affine)


def upside_down(head: Volume) -> Volume:
    """The header says that the head stands on its top."""
    affine = head.affine.copy()
    affine[:3, 2] *= -1
    return to_ras(Volume(head.data, affine))


def thick(head: Volume) -> Volume:
    """Slices of 5 mm (6 for a 2 mm image)."""
    keep = max(1, round(5 / float(head.zooms_mm[2])))
    n = head.shape[2] // keep * keep
    data = head.data[:, :, :n].reshape(*head.shape[:2], n // keep, keep).mean(3)
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (keep - 1) / 2
    affine[:3, 2] *= keep
    return Volume(data.astype(np.float32), affine)


CASES: dict[str, Callable[[Volume], Volume]] = {
    "good": lambda head: head,
    "CT": ct,
    "T2 contrast": inverted,
    "right half only": half,
    "upper third missing": lower_cut,
    "upside-down header": upside_down,
    "5 mm slices": thick,
    "noise": lambda head: head.like(
        np.random.default_rng(0).normal(100, 10, head.shape).astype(np.float32)
    ),
    "all zero": lambda head: head.like(np.zeros_like(head.data)),
}


def outcome(head: Volume) -> str:
    """What a user would be told."""
    try:
        corrected, found, brain, _ = process(head, "deepprep", None)
        tissue_maps(corrected, found, brain.mask)
    except ValueError as err:
        return f"error: {err}"
    labels = corrected.like(np.where(brain.mask, found.labels, 0).astype(np.uint8))
    _, summary, warnings = segmentation_metrics(labels, found)
    said = [*([brain.warning] if brain.warning else []), *warnings]
    unsure = f"uncertainty {summary['seg_uncertainty']:.3f}, mask Dice {brain.dice:.3f}"
    return f"{unsure}; " + (" / ".join(said) if said else "no warning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--only", nargs="+", default=[*CASES, "EPI"])
    given = parser.parse_args()
    head = to_ras(load_volume(given.shared_data / HEAD))
    lines = []
    for name in given.only:
        if name == "EPI":
            image = to_ras(load_volume(given.shared_data / BOLD).frame(5))
        else:
            image = CASES[name](head)
        lines.append(f"| {name} | {outcome(image)} |")
        print(lines[-1], flush=True)
    if set(given.only) == {*CASES, "EPI"}:
        RESULTS.write_text(
            "# Images that are no good T1w head\n\n`python -m benchmarks.bad_inputs SHARED_DATA`\n\n"
            "| case | what is said |\n|---|---|\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
