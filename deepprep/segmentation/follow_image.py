"""Borders between cortex, white matter and sulcal fluid where the image has them.

A network that is small draws them smoothly; the image says more. Expectation-maximisation with a
local mean for each tissue (after Van Leemput et al., IEEE TMI 1999; 18:897) and neighbours that agree
(mean field), within the part of a voxel that belongs to these three.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from deepprep.segmentation.partial_volume import local_mean
from deepprep.segmentation.tissue import bounding_box

TISSUES = ((24,), (3, 42), (2, 41))
"""FreeSurfer numbers of each tissue: sulcal fluid, cortex, white matter."""

ROUNDS = 4

LIKELIHOOD_POWER = 0.6
"""Neighbouring voxels share noise and blur: a voxel is worth less than its density says."""

NEIGHBOURS = 1.5
"""Strength of the wish to be as the neighbours are."""

LEAST_PRIOR = 1e-4
"""No intensity, however telling, outweighs more than this: lesions stay white matter."""

SURE = 0.8
"""Posterior from which a voxel helps to say what its tissue looks like."""

LEAST_VOXELS = 200
"""With fewer sure voxels of a tissue nothing is changed."""

LEAST_SPREAD = 0.03
"""Smallest standard deviation of a tissue, as a part of the brightest tissue's median."""


def follow_image(
    image: np.ndarray,
    posterior: np.ndarray,
    inside: np.ndarray,
    classes: Sequence[int],
    zooms_mm: np.ndarray,
) -> bool:
    """Let cortex, white matter and sulcal fluid share anew what they have together, in place.

    Parameters
    ----------
    image : (X, Y, Z) float array
        T1w.
    posterior : (C, X, Y, Z) float array
        Changed in place; its sum over the classes stays what it was.
    inside : (X, Y, Z) bool array
        Where the image shows something.
    classes : sequence of int
        FreeSurfer number of each of the C classes.
    zooms_mm : (3,) array

    Returns
    -------
    bool
        False if a tissue has too few sure voxels or the image is not T1-weighted (fluid, grey and
        white matter not in ascending order); the posterior is then as it was.
    """
    if not inside.any():
        return False
    box = bounding_box(inside)
    shown = inside[box]
    data = np.ascontiguousarray(image[box], dtype=np.float32)
    members = [(classes.index(label), t) for t, group in enumerate(TISSUES) for label in group]
    prior = np.stack([posterior[c][box].astype(np.float32) for c, _ in members])
    total = prior.sum(0)
    log_prior = np.log(np.maximum(prior / np.maximum(total, 1e-6), LEAST_PRIOR))
    now = np.exp(log_prior)
    for _ in range(ROUNDS):
        looks = _appearance(data, now, total, [t for _, t in members], shown, zooms_mm)
        if looks is None:
            return False
        for i, (_, t) in enumerate(members):
            now[i] = NEIGHBOURS * ndimage.uniform_filter(now[i] * total, 3)
            now[i] += log_prior[i] - looks[t]
        now -= now.max(0)
        np.exp(now, out=now)
        now /= now.sum(0)
    now *= total
    for i, (c, _) in enumerate(members):
        posterior[c][box] = np.where(shown, now[i], posterior[c][box])
    return True


def _appearance(
    data: np.ndarray,
    now: np.ndarray,
    total: np.ndarray,
    tissue: list[int],
    shown: np.ndarray,
    zooms_mm: np.ndarray,
) -> list[np.ndarray] | None:
    """Negative log-likelihood of each tissue at each voxel."""
    sure, middles = [], []
    for t in range(len(TISSUES)):
        share = sum(now[i] for i, of in enumerate(tissue) if of == t)
        sure.append(shown & (total > SURE) & (share > SURE))
        if sure[-1].sum() < LEAST_VOXELS:
            return None
        middles.append(float(np.median(data[sure[-1]])))
    if not middles[0] < middles[1] < middles[2]:
        return None
    out = []
    for where, middle in zip(sure, middles):
        spread = 1.4826 * float(np.median(np.abs(data[where] - middle)))
        core = where & (np.abs(data - middle) < 2.5 * max(spread, LEAST_SPREAD * middles[2]))
        mean = local_mean(data, core, middle, zooms_mm)
        spread = max(float(np.std((data - mean)[core])), LEAST_SPREAD * middles[2])
        z = np.minimum(((data - mean) / spread) ** 2, 16.0)
        out.append(LIKELIHOOD_POWER * (0.5 * z + np.log(spread / middles[2])))
    return out
