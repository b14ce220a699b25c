"""The bundled atlas of structures: the average of the training label maps in template space.

``python -m training.segmentation.structure_atlas WORK OUT.npz`` after :mod:`training.segmentation.
atlas_fusion` has registered the maps. Small pallida are enlarged to one definition first, as in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Grid
from deepprep.segmentation.compact.network import CLASSES
from training.segmentation.atlas_fusion import Brain
from training.segmentation.labels import enlarge_pallidum

BLUR_MM = 0.7
"""A dozen brains are few."""

STEP = 2
"""Voxels of the template (1 mm) joined along each axis."""


def average(paths: list[Path]) -> tuple[np.ndarray, Grid]:
    """(C, X, Y, Z) uint8 shares in 255ths on joined voxels, without empty margins."""
    index = np.zeros(256, np.int64)
    index[list(CLASSES)] = np.arange(len(CLASSES))
    shares: np.ndarray | None = None
    for path in paths:
        labels = Brain.load(path).labels
        numbers = labels.data.astype(np.int16)
        enlarge_pallidum(numbers)
        if shares is None:
            shares = np.zeros((len(CLASSES), *numbers.shape), np.float32)
        for c in range(len(CLASSES)):
            shares[c] += index[numbers] == c
    assert shares is not None, "no map"
    joined = [_join(ndimage.gaussian_filter(part / len(paths), BLUR_MM)) for part in shares]
    out = np.rint(255 * np.stack(joined)).astype(np.uint8)
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.full(3, (STEP - 1) / 2)
    affine[:3, :3] *= STEP
    used = np.argwhere(out[1:].max(0) > 0)
    box = tuple(slice(a, b + 1) for a, b in zip(used.min(0), used.max(0)))
    grid = Grid(out.shape[1:], affine).part(box)
    return out[(slice(None), *box)], grid


def _join(values: np.ndarray) -> np.ndarray:
    """Means of blocks of ``STEP`` voxels; what does not fill a block is left out."""
    x, y, z = (n // STEP for n in values.shape)
    blocks = values[: x * STEP, : y * STEP, : z * STEP].reshape(x, STEP, y, STEP, z, STEP)
    return blocks.mean((1, 3, 5))


def main() -> None:
    """Average the maps and write the atlas."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    paths = sorted(given.work.glob("atlas_[0-9][0-9].npz"))
    shares, grid = average(paths)
    np.savez_compressed(given.out, shares=shares, classes=np.array(CLASSES), affine=grid.affine)
    print(f"{len(paths)} maps, {shares.shape}, {given.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
