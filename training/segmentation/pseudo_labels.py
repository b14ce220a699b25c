"""From votes of an atlas, the network's posterior and the image to labels a network may learn.

``python -m training.segmentation.pseudo_labels WORK OUT --heads NAME ...`` after
:mod:`training.segmentation.atlas_fusion`. Fluid is what the network says: the ventricles of a
dozen heads of all ages say nothing about those of another head. Around structures whose border the
image hides (amygdala, accumbens, hippocampus, thalamus, ventral diencephalon) the atlas has its say
about the shape. Then the borders between cortex, white matter and sulcal fluid move to where the
image has them: expectation-maximisation with local means (Van Leemput et al., IEEE TMI 1999; 18:897) and
neighbours that agree (mean field), within the part of a voxel that belongs to these three.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.islands import clear_islands
from deepprep.segmentation.partial_volume import local_mean
from training.segmentation.atlas_fusion import Brain

BY_ATLAS = (10, 17, 18, 26, 28, 49, 53, 54, 58, 60)
"""Structures for whose shape the atlas is asked."""

FLUID = (0, 24, 4, 5, 14, 15, 43, 44)
"""Classes about which only the network is asked."""

SHARE = 0.6
"""Weight of the atlas in the middle of such a structure."""

SOFT_MM = 0.7
"""Blur of the votes: a dozen heads are few."""

TISSUES = {(24,): 0, (3, 42): 1, (2, 41): 2}
"""Classes whose borders follow the image, darkest first."""

ROUNDS = 4
LIKELIHOOD_POWER = 0.6
"""Neighbouring voxels share noise and blur: a voxel is worth less than its density says."""

NEIGHBOURS = 1.5
"""Strength of the wish to be as the neighbours are."""


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


def follow_image(image: np.ndarray, posterior: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Posterior in which cortex, white matter and sulcal fluid share anew what they have together.

    Parameters
    ----------
    image : (X, Y, Z) float32 array
        1 mm.
    posterior : (classes, X, Y, Z) float32 array
    inside : (X, Y, Z) bool array
        Where the image shows something.

    Returns
    -------
    (classes, X, Y, Z) float32 array
    """
    classes = [CLASSES.index(label) for group in TISSUES for label in group]
    tissue = [t for group, t in TISSUES.items() for _ in group]
    total = posterior[classes].sum(0)
    log_prior = np.log(np.maximum(posterior[classes] / np.maximum(total, 1e-6), 1e-4))
    now = np.exp(log_prior)
    for _ in range(ROUNDS):
        penalty = []
        for t in range(len(TISSUES)):
            share = sum(now[i] for i, of in enumerate(tissue) if of == t)
            sure = inside & (total > 0.8) & (share > 0.8)
            if sure.sum() < 200:
                return posterior
            middle = float(np.median(image[sure]))
            spread = 1.4826 * float(np.median(np.abs(image[sure] - middle)))
            sure &= np.abs(image - middle) < 2.5 * spread
            mean = local_mean(image, sure, middle, np.ones(3))
            spread = max(float(np.std((image - mean)[sure])), 0.03)
            z = ((image - mean) / spread) ** 2
            penalty.append(LIKELIHOOD_POWER * (0.5 * np.minimum(z, 16.0) + np.log(spread)))
        score = np.stack([
            log_prior[i] + NEIGHBOURS * ndimage.uniform_filter(now[i] * total, 3) - penalty[t]
            for i, t in enumerate(tissue)
        ])  # fmt: skip
        score -= score.max(0)
        now = np.exp(score)
        now /= now.sum(0)
    out = posterior.copy()
    out[classes] = now * total
    return out


def labels_of(
    brain: Brain, votes: np.ndarray, posterior: np.ndarray, inside: np.ndarray
) -> np.ndarray:
    """Class index of each voxel; uint8."""
    now = follow_image(brain.image.data, with_atlas(votes, posterior), inside)
    classes = (now.argmax(0) * inside).astype(np.uint8)
    clear_islands(classes, now, CLASSES)
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
        image = (brain.image.data * inside).astype(np.float16)
        np.savez_compressed(given.out / f"{name}.npz", image=image, classes=classes)
        print(name, flush=True)


if __name__ == "__main__":
    main()
