"""Whole-brain segmentation of real heads against FreeSurfer 6, and pictures of others.

    python benchmarks/segmentation_accuracy.py SHARED_DATA [--pictures FOLDER] [--engine NAME]

Four heads with FreeSurfer labels ("silver": another tool's automatic output, never used in
training): Dice per structure, volumes, brain mask. Their image is FreeSurfer's T1.mgz, in which control
points of white matter are exactly 110: the part of a structure that is blank in this way is given too
(FreeSurfer labelled another image, in which it was not). Each head goes through brain extraction, N4 and
the engine as in the workflow. With --pictures, contours on these and on other real heads are drawn.
Writes benchmarks/results/segmentation_accuracy.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from deepprep.image.bias import correct_bias
from deepprep.image.brain_mask import extract_brain
from deepprep.image.conform import to_ras
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.quality.segmentation import segmentation_metrics
from deepprep.segmentation.brain import choose_brain
from deepprep.segmentation.engines import choose_engine
from deepprep.segmentation.labels import STRUCTURES
from deepprep.segmentation.partial_volume import tissue_maps

RESULTS = Path(__file__).parent / "results" / "segmentation_accuracy.md"
SILVER = ("sub-01", "sub-02", "sub-06", "sub-07")
OTHERS = {
    "forrest": "bids-forrest/sub-02/anat/sub-02_T1w.nii.gz",
    "chris": "heads/chris_t1.nii.gz",
    "bids-ci": "bids-ci/sub-001/anat/sub-001_T1w.nii.gz",
    "ds002748-01": "ds002748/sub-01/anat/sub-01_T1w.nii.gz",
    "ds002748-05": "ds002748/sub-05/anat/sub-05_T1w.nii.gz",
}
MERGED = {31: 4, 63: 43, 78: 2, 79: 41, 30: 2, 62: 41, 72: 24, 85: 0}
"""FreeSurfer label -> structure it is scored with (vessels, hypointensities: as the side they lie in)."""

WITHOUT_SIDE = (77, 80, 251, 252, 253, 254, 255)
"""Callosum and hypointensities: scored as white matter of the side whose white matter is nearer."""

WHITE_LEVEL = 110
"""What FreeSurfer makes of the control points of white matter."""

SCORED = tuple(k for k in STRUCTURES if k not in (24, 31, 63, 77, 85))
"""FreeSurfer labels no sulcal CSF, and the network has no class of its own for the others."""


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else float("nan")


def silver_labels(path: Path) -> np.ndarray:
    """(X, Y, Z) labels of FreeSurfer with the structures that are scored."""
    labels = np.asarray(nib.load(path).dataobj).astype(int)
    for label, target in MERGED.items():
        labels[labels == label] = target
    sideless = np.isin(labels, WITHOUT_SIDE)
    away = [ndimage.distance_transform_edt(labels != white)[sideless] for white in (2, 41)]
    labels[sideless] = np.where(away[0] <= away[1], 2, 41)
    return labels


def process(head: Volume, engine_name: str, models_dir: Path | None = None):
    """Mask, bias and segmentation as in the workflow."""
    engine, files, _ = choose_engine(engine_name, models_dir)
    extracted = extract_brain(head).mask
    corrected = correct_bias(head, extracted).corrected
    started = time.perf_counter()
    found = engine.segment(corrected, extracted, files, device="cpu", threshold=0.5)
    seconds = time.perf_counter() - started
    brain = choose_brain(extracted, found.labels, head.zooms_mm)
    return corrected, found, brain, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--only", nargs="+", default=[*SILVER, *OTHERS])
    given = parser.parse_args()
    scores: dict[int, list[float]] = {k: [] for k in SCORED}
    volumes: dict[int, list[tuple[float, float]]] = {k: [] for k in SCORED}
    blank: dict[int, list[float]] = {k: [] for k in SCORED}
    lines = []
    for name in [n for n in SILVER if n in given.only]:
        folder = given.shared_data / "freesurfer-silver" / name
        mri = next(folder.rglob("T1.mgz")).parent
        head = load_volume(mri / "T1.mgz")
        corrected, found, brain, seconds = process(head, given.engine, given.models_dir)
        truth = silver_labels(mri / "aseg.mgz")
        reference = np.asarray(nib.load(mri / "brainmask.mgz").dataobj) > 0
        reference = ndimage.binary_fill_holes(ndimage.binary_closing(reference, iterations=3))
        for k in SCORED:
            scores[k].append(dice(truth == k, found.labels == k))
            blank[k].append(float((head.data[truth == k] == WHITE_LEVEL).mean()))
            volumes[k].append((float((truth == k).sum()), found.volumes_mm3[k]))
        lines.append(
            f"| {name} | {np.nanmean([scores[k][-1] for k in SCORED]):.3f} "
            f"| {dice(brain.mask, reference):.3f} | {brain.dice:.3f} | {seconds:.1f} |"
        )
        print(lines[-1], flush=True)
        if given.pictures:
            draw(given.pictures / f"{name}.png", corrected, found, brain.mask)
    table = []
    for k in SCORED:
        if scores[k]:
            true, own = np.array(volumes[k]).T
            ratio = own.sum() / true.sum()
            correlation = np.corrcoef(true, own)[0, 1] if len(true) > 2 else np.nan
            table.append(
                f"| {k} | {STRUCTURES[k]} | {np.mean(scores[k]):.3f} | {np.min(scores[k]):.3f} "
                f"| {ratio:.2f} | {correlation:.2f} | {100 * np.mean(blank[k]):.0f} |"
            )
            print(table[-1])
    if scores[2]:
        mean = np.mean([np.mean(v) for v in scores.values()])
        print(f"mean over structures {mean:.4f}")
        if all(n in given.only for n in SILVER):
            write(given.engine, lines, table, float(mean), volumes)
    for name in [n for n in OTHERS if n in given.only]:
        head = to_ras(load_volume(given.shared_data / OTHERS[name]))
        corrected, found, brain, seconds = process(head, given.engine, given.models_dir)
        _, summary, warnings = segmentation_metrics(corrected.like(found.labels), found)
        print(
            f"{name}: {seconds:.1f} s, mask Dice {brain.dice:.3f}, uncertainty "
            f"{summary['seg_uncertainty']:.3f}, worst {summary['seg_uncertainty_worst']:.3f}",
            *warnings,
            flush=True,
        )
        if given.pictures:
            draw(given.pictures / f"{name}.png", corrected, found, brain.mask)


def write(
    engine: str,
    lines: list[str],
    table: list[str],
    mean: float,
    volumes: dict[int, list[tuple[float, float]]],
) -> None:
    """The page of results."""
    pairs = np.log(np.array([p for v in volumes.values() for p in v]))
    RESULTS.write_text(
        "# Segmentation of real heads against FreeSurfer 6 (silver)\n\n"
        f"`python benchmarks/segmentation_accuracy.py SHARED_DATA --engine {engine}`. "
        "Never used in training.\n\n"
        f"Mean Dice over {len(SCORED)} structures **{mean:.3f}**; correlation of all "
        f"{len(pairs)} log volumes {np.corrcoef(pairs.T)[0, 1]:.3f}.\n\n"
        "| head | mean Dice | brain mask against brainmask>0 closed | against deepbet | s |\n"
        "|---|---|---|---|---|\n" + "\n".join(lines) + "\n\n"
        "Blank: voxels of FreeSurfer's structure that are exactly 110 in T1.mgz, which is what its control\n"
        "points of white matter were made; the structure was labelled in another image, where they were not.\n\n"
        "| label | structure | mean Dice | lowest | volume ratio | volume correlation (4 heads) | blank, % |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(table) + "\n"
    )


def draw(path: Path, head: Volume, found, mask: np.ndarray) -> None:
    """Contours of the structures and of the tissues, as in the report, as one PNG."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    ras, labels = to_ras(head), to_ras(head.like(found.labels)).data
    maps = tissue_maps(head, found, mask)
    tissue = to_ras(head.like(maps.dseg)).data
    where = np.argwhere(labels > 0)
    low, high = where.min(0), where.max(0)
    top = np.percentile(ras.data[labels > 0], 99.5)
    codes = np.zeros(256, int)
    codes[list(STRUCTURES)] = np.arange(1, len(STRUCTURES) + 1)
    figure, axes = plt.subplots(3, 5, figsize=(20, 12), facecolor="black")
    for line, axis in zip(axes, (2, 1, 0)):
        for cell, part in zip(line, (0.25, 0.38, 0.5, 0.62, 0.75)):
            cut = int(low[axis] + part * (high[axis] - low[axis]))
            box = [slice(a, b + 1) for a, b in zip(low - 3, high + 3)]
            box = [slice(max(0, s.start), s.stop) for s in box]
            index: list = list(box)
            index[axis] = cut
            view = tuple(index)
            cell.imshow(ras.data[view].T, origin="lower", cmap="gray", vmin=0, vmax=top)
            shown = codes[labels[view]].T
            cell.imshow(
                np.ma.masked_equal(shown, 0), origin="lower", cmap="nipy_spectral", alpha=0.3,
                vmin=1, vmax=len(STRUCTURES), interpolation="nearest",
            )  # fmt: skip
            cell.contour((tissue[view] == 2).T, [0.5], colors="cyan", linewidths=0.5)
            outer = np.isin(tissue[view], (1, 2))
            cell.contour(outer.T, [0.5], colors="yellow", linewidths=0.5)
            cell.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=55)
    plt.close(figure)


if __name__ == "__main__":
    main()
