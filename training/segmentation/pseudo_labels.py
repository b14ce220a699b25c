"""From votes of an atlas, the network's posterior and the image to labels a network may learn.

``python -m training.segmentation.pseudo_labels WORK OUT --heads NAME ...`` after
:mod:`training.segmentation.atlas_fusion`. Fluid is what the network says: the ventricles of a
dozen heads of all ages say nothing about those of another head. Around structures whose border the
image hides (amygdala, accumbens, hippocampus, thalamus, ventral diencephalon) the atlas has its say
about the shape. Then the borders between cortex, white matter and sulcal fluid move to where the
image has them (:mod:`deepprep.segmentation.follow_image`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.segmentation.atlas_prior import FLUID
from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.follow_image import follow_image
from deepprep.segmentation.islands import clear_islands
from training.segmentation.atlas_fusion import Brain
from training.segmentation.labels import enlarge_pallidum
from training.segmentation.real_heads import save_head

BY_ATLAS = (10, 17, 18, 26, 28, 49, 53, 54, 58, 60)
"""Structures for whose shape the atlas is asked."""

SHARE = 0.6
"""Weight of the atlas in the middle of such a structure."""

SOFT_MM = 0.7
"""Blur of the votes: a dozen heads are few."""


def with_atlas(votes: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """The network's posterior with the atlas's opinion; (classes, X, Y, Z) float32, sums to 1.

    Parameters
    ----------
    votes, posterior : (classes, X, Y, Z) float32 arrays
        Each sums to 1.
    """
    deep = [CLASSES.index(c) for c in BY_ATLAS]
    near = ndimage.gaussian_filter(votes[deep].sum(0) + posterior[deep].sum(0), 1.0)
    share = SHARE * np.minimum(near, 1)
    solid = [c for c, label in enumerate(CLASSES) if label not in FLUID]
    own = posterior[solid].sum(0)
    soft = np.stack([ndimage.gaussian_filter(votes[c], SOFT_MM) for c in solid])
    theirs = soft.sum(0)
    share = share * np.minimum(theirs, 1)
    soft *= own / np.maximum(theirs, 1e-3)
    out = posterior.copy()
    out[solid] = share * soft + (1 - share) * posterior[solid]
    return out / np.maximum(out.sum(0), 1e-6)


def labels_of(
    brain: Brain, votes: np.ndarray, posterior: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Class index of each voxel; uint8."""
    now = with_atlas(votes, posterior)
    follow_image(brain.image.data, now, inside, CLASSES, brain.image.zooms_mm)
    classes = (now.argmax(0) * inside).astype(np.uint8)
    clear_islands(classes, now, CLASSES)
    names = np.array(CLASSES, dtype=np.int16)[classes]
    enlarge_pallidum(names)
    for label in (13, 52):
        classes[names == label] = CLASSES.index(label)
    return classes


def read(work: Path, name: str) -> tuple[Brain, np.ndarray, np.ndarray, np.ndarray]:
    """Brain, votes, posterior and shown voxels of a head."""
    brain = Brain.load(work / f"{name}_brain.npz")
    votes, posterior = (
        np.load(work / f"{name}_{kind}.npy").astype(np.float32) / 255
        for kind in ("votes", "posterior")
    )
    return brain, votes, posterior, np.load(work / f"{name}_inside.npy")


def main() -> None:
    """Write OUT/NAME.npz with ``image`` float16 and ``classes`` uint8."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", nargs="+", required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.heads:
        if name.startswith("silver"):
            raise SystemExit("freesurfer-silver is for evaluation only")
        brain, votes, posterior, inside = read(given.work, name)
        classes = labels_of(brain, votes, posterior, inside)
        save_head(given.out, name, brain.image.data * inside, classes)
        print(name, flush=True)


if __name__ == "__main__":
    main()
