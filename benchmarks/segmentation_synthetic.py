"""Segmentation of synthetic T1w heads whose labels are known exactly.

    python -m benchmarks.segmentation_synthetic SHARED_DATA [--draws 10] [--contrasts usual wide]

Heads are drawn from SynthSeg's maps 15 and 16, which no network of ours was trained on: 1 mm, little
noise, a bias field, a random gamma, brain extracted (imprecisely), and either the contrast of most
T1-weighted sequences (``usual``) or the wide ranges of the training (``wide``). Each goes through bias
correction and the engine, as in the workflow; ``network`` are the labels of the network alone, of the
head as it is. Writes benchmarks/results/segmentation_synthetic.md, anew after each draw of both maps.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.bias import correct_bias
from deepprep.image.volume import Volume
from deepprep.segmentation.compact.inference import load_network
from deepprep.segmentation.engines import choose_engine
from deepprep.segmentation.labels import STRUCTURES
from training.segmentation.generator import USUAL, HeadGenerator, Sample
from training.segmentation.labels import CLASSES, load_maps
from training.segmentation.validate import (
    VALIDATION_MAPS,
    VALIDATION_SEED,
    WHOLE_HEAD,
    dice_per_class,
    score,
    summary,
)

RESULTS = Path(__file__).parent / "results" / "segmentation_synthetic.md"
CONTRASTS = {"usual": 1.0, "wide": 0.0}
"""Contrast -> share of heads with the contrast of most sequences."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--draws", type=int, default=10, help="heads of each map and contrast")
    parser.add_argument("--contrasts", nargs="+", default=list(CONTRASTS), choices=list(CONTRASTS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    maps = load_maps(given.shared_data / "synthseg-labels", VALIDATION_MAPS, "cpu")
    _, files, _ = choose_engine("deepprep")
    net = load_network(files[0], "cpu")
    found: dict[str, np.ndarray] = {}
    for contrast in given.contrasts:
        share = CONTRASTS[contrast]
        make = HeadGenerator(maps, WHOLE_HEAD, "cpu", replace(USUAL, p_usual_contrast=share))
        alone, whole = [], []
        for draw in range(given.draws):
            for which in range(len(maps)):
                sample = make(VALIDATION_SEED + draw * len(maps) + which, which)
                alone.append(score(net, [sample])[0])
                whole.append(through_the_engine(sample))
                print(contrast, draw, which, summary(np.stack(whole)), flush=True)
            found[f"{contrast}, network"] = np.stack(alone)
            found[f"{contrast}, engine"] = np.stack(whole)
            write(found)


def through_the_engine(sample: Sample) -> np.ndarray:
    """(classes,) Dice of the labels that the workflow gives a synthetic head."""
    affine = np.eye(4)
    affine[:3, 3] = sample.origin[0].numpy()
    head = Volume(100 * sample.image[0, 0].numpy(), affine)
    mask = ndimage.binary_fill_holes(head.data > 0)
    engine, files, _ = choose_engine("deepprep")
    corrected = correct_bias(head, mask).corrected
    labels = engine.segment(corrected, mask, files, device="cpu", threshold=0.5).labels
    index = np.zeros(max(CLASSES) + 1, dtype=np.int64)
    index[list(CLASSES)] = np.arange(len(CLASSES))
    return dice_per_class(torch.from_numpy(index[labels]), sample.target[0])


def write(found: dict[str, np.ndarray]) -> None:
    """The page of results."""
    lines = [
        "# Segmentation of synthetic heads with known labels",
        "",
        (__doc__ or "").split("\n\n")[2].strip(),
        "",
        "Aims: mean 0.91, cortex 0.94.",
        "",
        "| | heads | mean over structures | cortex | white matter | worst structure |",
        "|---|---|---|---|---|---|",
    ]
    for name, dice in found.items():
        short = summary(dice)
        cells = (f"{short[key]:.3f}" for key in ("mean", "cortex", "white", "worst"))
        lines.append(f"| {name} | {len(dice)} | {' | '.join(cells)} |")
    lines += ["", f"| label | structure | {' | '.join(found)} |", "|---" * (2 + len(found)) + "|"]
    for i, label in enumerate(CLASSES):
        if label:
            cells = (f"{np.nanmean(dice[:, i]):.3f}" for dice in found.values())
            lines.append(f"| {label} | {STRUCTURES[label]} | {' | '.join(cells)} |")
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
