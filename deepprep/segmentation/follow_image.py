"""Borders between cortex, white matter and fluid where the image has them.

A network that is small draws them smoothly; the image says more. Expectation-maximisation with a
local mean for each tissue (after Van Leemput et al., IEEE TMI 1999; 18:897) and neighbours that agree
(mean field), within the part of a voxel that belongs to these tissues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
from scipy import ndimage

from deepprep.image.compiled import compiled, each
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

LEAST_TOTAL = 1e-3
"""Where the tissues have less of a voxel together, there is nothing to share anew."""

LEAST_PART = 1e-6
"""Structures of a tissue that was not there share what it gets as if each had had so much."""

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
    box = _box(posterior, inside, classes, zooms_mm, borders)
    if box is None:
        return False
    shown = inside[box]
    data = np.ascontiguousarray(image[box], dtype=np.float32)
    places = [[classes.index(label) for label in tissue] for tissue in borders.tissues]
    prior = np.stack([posterior[c, *box].sum(0, dtype=np.float32) for c in places])
    total = prior.sum(0)
    now = np.maximum(prior / np.maximum(total, 1e-6), LEAST_PRIOR)
    log_prior = np.log(now)
    active = total > LEAST_TOTAL
    for _ in range(ROUNDS):
        looks = _appearance(data, now, total, shown, zooms_mm, borders)
        if looks is None:
            return False
        near = np.stack(each(lambda share: ndimage.uniform_filter(share * total, 3), now))
        _update(now, active, data, log_prior, near, looks.means, looks.spreads)
    if borders.first_only:
        rest = np.exp(log_prior[1:])
        now[1:] = rest / rest.sum(0) * (1 - now[0])
    now *= total
    changed = shown & active
    for share, before, tissue in zip(now, prior, places):
        share /= before + len(tissue) * LEAST_PART
        for c in tissue:
            own = posterior[c][box].astype(np.float32)
            np.copyto(posterior[c][box], share * (own + LEAST_PART), "same_kind", where=changed)
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
    room = np.ceil(AROUND_MM / np.asarray(zooms_mm)).astype(int) if borders.around else 0
    return bounding_box(where, 1 + room)


class _Looks(NamedTuple):
    """Mean (T, X, Y, Z) of each tissue at each voxel, and its spread (T,); float32."""

    means: np.ndarray
    spreads: np.ndarray


def _appearance(
    data: np.ndarray,
    now: np.ndarray,
    total: np.ndarray,
    shown: np.ndarray,
    zooms_mm: np.ndarray,
    borders: Borders,
) -> _Looks | None:
    """How each tissue looks; None if one has too few sure voxels or they are not in ascending order."""
    shown = shown & (total > SURE)
    sure = [np.flatnonzero(shown & (share > SURE)) for share in now]
    if min(map(len, sure)) < LEAST_VOXELS:
        return None
    middles = [float(np.median(data.flat[where])) for where in sure]
    brightest = middles[-1]
    if not all(a < b for a, b in pairwise(middles)):
        return None

    def look(where: np.ndarray, middle: float) -> tuple[np.ndarray, float]:
        values = data.flat[where]
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        near = np.abs(values - middle) < 2.5 * max(spread, LEAST_SPREAD * brightest)
        core = np.zeros(data.shape, dtype=bool)
        core.flat[where[near]] = True
        mean = local_mean(data, core, middle, zooms_mm)
        spread = float(np.std(values[near] - mean.flat[where[near]]))
        return mean, max(spread, LEAST_SPREAD * brightest)

    looks = each(look, sure, middles)
    means, spreads = np.stack([mean for mean, _ in looks]), [spread for _, spread in looks]
    if borders.scaled is not None:
        means[borders.scaled] = middles[borders.scaled] * means[-1] / brightest
    common = float(np.exp(np.mean([np.log(spreads[t]) for t in borders.halfway])))
    for t in borders.halfway:
        spreads[t] = common
    return _Looks(means, np.array(spreads, dtype=np.float32))


@compiled(parallel=True)
def _update(now, active, data, log_prior, near, means, spreads):  # type: ignore[no-untyped-def]
    """Shares of T tissues anew, in place, where ``active``: prior, likelihood and neighbours."""
    tissues, nx, ny, nz = now.shape
    constant = LIKELIHOOD_POWER * np.log(spreads)
    for x in numba.prange(nx):
        score = np.empty(tissues, np.float32)
        for y in range(ny):
            for z in range(nz):
                if not active[x, y, z]:
                    continue
                best = np.float32(-np.inf)
                for t in range(tissues):
                    far = ((data[x, y, z] - means[t, x, y, z]) / spreads[t]) ** 2
                    unlike = LIKELIHOOD_POWER * 0.5 * min(far, 16.0) + constant[t]
                    score[t] = NEIGHBOURS * near[t, x, y, z] + log_prior[t, x, y, z] - unlike
                    best = max(best, score[t])
                whole = np.float32(0)
                for t in range(tissues):
                    score[t] = np.exp(score[t] - best)
                    whole += score[t]
                for t in range(tissues):
                    now[t, x, y, z] = score[t] / whole
