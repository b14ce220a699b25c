"""Dice of a checkpoint on synthetic heads never trained on, or on images with labels.

``python -m training.segmentation.validate RUN/checkpoint.pt --labels FOLDER --draws 10``
writes a table of Dice per structure (maps 15 and 16 unless told otherwise).
``--image T1.mgz --truth aseg.mgz --mask brainmask.mgz`` scores a real head instead.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.processing import resample_from_to

from deepprep.segmentation.compact.network import STRIDE, Architecture, SegmentationNet, predict
from training.segmentation.generator import USUAL, HeadGenerator, Sample
from training.segmentation.labels import CLASSES, MERGED, labels_folder, load_maps

VALIDATION_MAPS = (15, 16)
VALIDATION_SEED = 900_000
"""Seeds from here on are never used by training."""

WHOLE_HEAD = (160, 208, 176)
FREESURFER_MERGED = MERGED | {
    31: 4, 63: 43, 77: 2, 78: 2, 79: 41, 80: 0, 251: 2, 252: 2, 253: 2, 254: 2, 255: 2,
}  # fmt: skip
"""FreeSurfer aseg label -> class, beyond the classes themselves."""


def dice_per_class(predicted: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Dice of every class; NaN where it is in neither image."""
    n = len(CLASSES)
    pairs = truth.flatten().long() * n + predicted.flatten().long()
    table = torch.bincount(pairs, minlength=n * n).reshape(n, n).double().cpu().numpy()
    both = table.sum(0) + table.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(both > 0, 2 * np.diag(table) / both, np.nan)


def score(net: SegmentationNet, samples: Sequence[Sample]) -> np.ndarray:
    """(samples, classes) Dice."""
    net.eval()
    rows = []
    for sample in samples:
        image = sample.image.contiguous(memory_format=torch.channels_last_3d)
        rows.append(dice_per_class(predict(net, image, sample.origin), sample.target[0]))
    net.train()
    return np.stack(rows)


def summary(dice: np.ndarray) -> dict[str, float]:
    """Mean over structures (background left out), cortex, white matter; NaN ignored."""
    mean = np.nanmean(dice, axis=0)
    index = {label: i for i, label in enumerate(CLASSES)}
    return {
        "mean": float(np.nanmean(mean[1:])),
        "cortex": float(np.nanmean(mean[[index[3], index[42]]])),
        "white": float(np.nanmean(mean[[index[2], index[41]]])),
        "worst": float(np.nanmin(mean[1:])),
    }


def load_network(path: Path, device: str = "cpu", averaged: bool = True) -> SegmentationNet:
    """Network of a checkpoint; the running average of its weights unless told otherwise."""
    state = torch.load(path, map_location=device, weights_only=True)
    architecture = state["architecture"]
    architecture["coarse"] = tuple(architecture["coarse"])
    net = SegmentationNet(Architecture(**architecture)).to(device)
    net.load_state_dict(state["average" if averaged else "model"])
    net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return net.eval()


def real_head(image_path: Path, truth_path: Path, mask_path: Path) -> Sample:
    """A real head as the network wants it: RAS, 1 mm, outside the mask zero, cropped."""
    image = nib.as_closest_canonical(nib.load(image_path))
    size = np.ceil(np.array(image.shape) * image.header.get_zooms()[:3]).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = image.affine[:3, :3] / np.array(image.header.get_zooms()[:3])
    affine[:3, 3] = image.affine[:3, 3]
    grid = (tuple(size), affine)
    data = resample_from_to(image, grid, order=1).get_fdata(dtype=np.float32)
    mask = resample_from_to(nib.load(mask_path), grid, order=0).get_fdata() > 0
    truth = resample_from_to(nib.load(truth_path), grid, order=0).get_fdata().round().astype(int)
    index = {label: i for i, label in enumerate(CLASSES)}
    classes = np.zeros(truth.shape, dtype=np.uint8)
    for label in np.unique(truth):
        classes[truth == label] = index.get(FREESURFER_MERGED.get(int(label), int(label)), 0)
    corners = np.argwhere(mask)
    first, last = corners.min(0), corners.max(0)
    start = first - 4
    shape = -(-(last - first + 9) // STRIDE) * STRIDE
    pad = [(max(0, -a), max(0, a + n - m)) for a, n, m in zip(start, shape, data.shape)]
    box = tuple(slice(a + p[0], a + p[0] + n) for a, p, n in zip(start, pad, shape))
    top = np.percentile(data[mask], 98)
    data = np.pad(np.where(mask, data / top, 0), pad)[box].clip(0, 1.5)
    target = np.pad(classes, pad)[box]
    origin = start - (first + last) / 2
    return Sample(
        torch.from_numpy(data.astype(np.float32))[None, None],
        torch.from_numpy(target)[None],
        torch.from_numpy(origin.astype(np.float32))[None],
    )


def main(argv: list[str] | None = None) -> None:
    """Print and, with ``--out``, write a table of Dice per structure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--labels", help="folder of seg_XX.nii.gz")
    parser.add_argument("--maps", type=int, nargs="+", default=VALIDATION_MAPS)
    parser.add_argument("--draws", type=int, default=10, help="synthetic heads of each map")
    parser.add_argument("--usual", action="store_true", help="1 mm, little noise, no artefacts")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--latest", action="store_true", help="last, not averaged, weights")
    parser.add_argument("--out", type=Path, help="CSV file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    net = load_network(args.checkpoint, args.device, not args.latest)
    rows = []
    start = time.perf_counter()
    if args.image:
        rows.append(score(net, [real_head(args.image, args.truth, args.mask)])[0])
    else:
        maps = load_maps(labels_folder(args.labels), tuple(args.maps), args.device)
        make = HeadGenerator(maps, WHOLE_HEAD, args.device, USUAL if args.usual else None)
        for draw in range(args.draws):
            for which in range(len(maps)):
                sample = make(VALIDATION_SEED + draw * len(maps) + which, which)
                rows.append(score(net, [sample])[0])
    dice = np.stack(rows)
    print(f"{len(rows)} heads, {time.perf_counter() - start:.0f} s")
    print("  ".join(f"{name} {value:.3f}" for name, value in summary(dice).items()))
    table = [("label", "mean_dice", "lowest_dice")]
    for i, label in enumerate(CLASSES):
        if not np.isnan(dice[:, i]).all():
            mean, low = np.nanmean(dice[:, i]), np.nanmin(dice[:, i])
            table.append((str(label), f"{mean:.4f}", f"{low:.4f}"))
    csv.writer(sys.stdout, delimiter="\t").writerows(table)
    if args.out:
        with args.out.open("w", newline="") as stream:
            csv.writer(stream).writerows(table)


if __name__ == "__main__":
    main()
