"""Look at synthetic heads: ``python -m training.segmentation.preview --out heads.png``."""

from __future__ import annotations

import argparse

import matplotlib

matplotlib.use("Agg")
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

from training.segmentation.generator import HeadGenerator
from training.segmentation.labels import CLASSES, labels_folder, load_maps


def main(argv: list[str] | None = None) -> None:
    """Draw a sheet: a row a sample, three planes, the last with its labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", help="folder of seg_XX.nii.gz")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 192, 160))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    maps = load_maps(labels_folder(args.labels), (1, 9))
    make = HeadGenerator(maps, tuple(args.shape))
    colours = np.random.default_rng(3).uniform(0.2, 1, (len(CLASSES), 3))
    colours[0] = 0
    figure, axes = plt.subplots(args.rows, 4, figsize=(12, 3 * args.rows), facecolor="black")
    for row in range(args.rows):
        start = time.process_time()
        sample = make(args.seed + row)
        print(f"sample {row}: {time.process_time() - start:.2f} CPU s, origin {sample.origin}")
        image, target = sample.image[0, 0].numpy(), sample.target[0].numpy()
        x, y, z = (n // 2 for n in image.shape)
        planes = (image[:, :, z], image[:, y], image[x], colours[target[:, y]])
        for axis, plane in zip(axes[row], planes):
            axis.imshow(np.swapaxes(plane, 0, 1), origin="lower", cmap="gray", vmin=0, vmax=1.2)
            axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(args.out, dpi=70)


if __name__ == "__main__":
    main()
