"""Borders between cortex, white matter and fluid where the image has them.

A network that is small draws them smoothly; the image says more. Expectation-maximisation with a
local mean for each tissue (after Van Leemput et al., IEEE TMI 1999; 18:897) and neighbours that agree
(mean field), within the part of a voxel that belongs to these tissues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from deepprep.segmentation.partial_volume import local_mean
from deepprep.segmentation.tissue import bounding_box


@dataclass(frozen=True)
class Borders:
    """Tissues that share anew what they have together.

    Attributes
    ----------
    tissues : tuple of tuple of int
        FreeSurfer numbers of the structures of each tissue, the darkest tissue first. The image does
        not tell structures of one tissue apart.
    halfway : tuple of int
        Tissues (by place) with one spread, that of their geometric mean: the border between them is
        half-way between their local means, where a voxel holds as much of the one as of the other.
        Each with its own, the border would move towards the tissue of even intensity.
    around : tuple of int
        Structures near which it is done; everywhere if there is none.
    first_only : bool
        What is not the first tissue keeps its shares of the rest: the borders between the others
        stay where they were.
    scaled : int, optional
        Tissue (by place) whose local mean is its mean in the head times how bright the last tissue is
        there. Cortex with much myelin is brighter than other cortex: a mean of its own would move the
        border further into white matter.
    """

    tissues: tuple[tuple[int, ...], ...]
    halfway: tuple[int, ...]
    around: tuple[int, ...] = ()
    first_only: bool = False
    scaled: int | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """FreeSurfer numbers of all structures."""
        return tuple(label for tissue in self.tissues for label in tissue)


CORTEX = Borders(((24,), (3, 42), (2, 41)), halfway=(1, 2), scaled=1)
"""Sulcal fluid, cortex and white matter."""

VENTRICLES = Borders(
    ((4, 43, 14), (11, 50, 10, 49, 28, 60), (2, 41)),
    halfway=(0, 1, 2),
    around=(4, 43, 14),
    first_only=True,
)
"""Lateral and third ventricles against caudate, thalamus, ventral diencephalon and white matter."""

AROUND_MM = 12.0
"""Room around the structures that are ``around``."""

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
    borders: Borders = CORTEX,
) -> bool:
    """Let some tissues share anew what they have together, in place.

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
    borders : Borders
        Which tissues.

    Returns
    -------
    bool
        False if a tissue has too few sure voxels or the image is not T1-weighted (tissues not in
        ascending order); the posterior is then as it was.
    """
    index = [classes.index(label) for label in borders.labels]
    tissue = [t for t, group in enumerate(borders.tissues) for _ in group]
    box = _box(posterior, inside, classes, zooms_mm, borders)
    if box is None:
        return False
    shown = inside[box]
    data = np.ascontiguousarray(image[box], dtype=np.float32)
    prior = np.stack([posterior[c][box].astype(np.float32) for c in index])
    total = prior.sum(0)
    log_prior = np.log(np.maximum(prior / np.maximum(total, 1e-6), LEAST_PRIOR))
    now = np.exp(log_prior)
    for _ in range(ROUNDS):
        looks = _appearance(data, now, total, tissue, shown, zooms_mm, borders)
        if looks is None:
            return False
        for i, t in enumerate(tissue):
            now[i] = NEIGHBOURS * ndimage.uniform_filter(now[i] * total, 3)
            now[i] += log_prior[i] - looks[t]
        now -= now.max(0)
        np.exp(now, out=now)
        now /= now.sum(0)
    if borders.first_only:
        first = np.array(tissue) == 0
        rest = np.exp(log_prior[~first])
        now[~first] = rest / rest.sum(0) * now[~first].sum(0)
    now *= total
    for i, c in enumerate(index):
        posterior[c][box] = np.where(shown, now[i], posterior[c][box])
    return True


def _box(
    posterior: np.ndarray,
    inside: np.ndarray,
    classes: Sequence[int],
    zooms_mm: np.ndarray,
    borders: Borders,
) -> tuple[slice, slice, slice] | None:
    """Where to work; None if there is nothing."""
    where = inside
    if borders.around:
        near = sum(posterior[classes.index(label)].astype(np.float32) for label in borders.around)
        where = inside & (near > 0.5)
    if not where.any():
        return None
    box = bounding_box(where)
    if not borders.around:
        return box
    margin = np.ceil(AROUND_MM / np.asarray(zooms_mm)).astype(int)
    a, b, c = (slice(max(s.start - m, 0), s.stop + m) for s, m in zip(box, margin))
    return a, b, c


def _appearance(
    data: np.ndarray,
    now: np.ndarray,
    total: np.ndarray,
    tissue: list[int],
    shown: np.ndarray,
    zooms_mm: np.ndarray,
    borders: Borders,
) -> list[np.ndarray] | None:
    """Negative log-likelihood of each tissue at each voxel."""
    sure, middles = [], []
    for t in range(max(tissue) + 1):
        share = sum(now[i] for i, of in enumerate(tissue) if of == t)
        sure.append(shown & (total > SURE) & (share > SURE))
        if sure[-1].sum() < LEAST_VOXELS:
            return None
        middles.append(float(np.median(data[sure[-1]])))
    brightest = middles[-1]
    if not all(a < b for a, b in pairwise(middles)):
        return None
    means, spreads = [], []
    for where, middle in zip(sure, middles):
        spread = 1.4826 * float(np.median(np.abs(data[where] - middle)))
        core = where & (np.abs(data - middle) < 2.5 * max(spread, LEAST_SPREAD * brightest))
        means.append(local_mean(data, core, middle, zooms_mm))
        spread = float(np.std((data - means[-1])[core]))
        spreads.append(max(spread, LEAST_SPREAD * brightest))
    if borders.scaled is not None:
        means[borders.scaled] = middles[borders.scaled] * means[-1] / brightest
    common = float(np.exp(np.mean([np.log(spreads[t]) for t in borders.halfway])))
    for t in borders.halfway:
        spreads[t] = common
    out = []
    for mean, spread in zip(means, spreads):
        z = np.minimum(((data - mean) / spread) ** 2, 16.0)
        out.append(LIKELIHOOD_POWER * (0.5 * z + np.log(spread / brightest)))
    return out
