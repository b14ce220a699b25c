"""Give a level set the topology of a sphere, changing as little as possible.

The inside is grown from its deepest voxel, deepest voxels first, adding only simple points
(:mod:`deepprep.surface.simple_points`): whatever the input, the result is one piece without
handles or cavities. Where two fronts meet around a handle a cut stays open, at the thinnest
place of the handle since that is reached last. A cut is the right repair of a bridge between two
banks of a sulcus, and the wrong one of a small hole through a blade of white matter, which it
slits open up to its edge; so for each cut the other repair, filling the hole, is tried too (grow
everything nearby, then shrink again to the level set, both through simple points), and the one
that disagrees less with the level set is kept.

References
----------
Bazin P-L, Pham DL. Topology correction of segmented medical images using a fast marching
algorithm. Computer Methods and Programs in Biomedicine 88:182-190, 2007.
Segonne F. Active contours under topology control - genus preserving level sets. IJCV 79:107-117,
2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.compiled import compiled
from deepprep.surface.priority_queue import pop, push
from deepprep.surface.simple_points import is_simple, neighbour_offsets

REACH_VOXELS = 4
"""A hole is looked for within so many voxels of a cut."""

CHANGED_LEVEL = 0.2
"""Level given to a voxel that changes sides, in voxels: the banks of a cut stay apart."""

LEAST_LEVEL = 0.02
"""Least level of any voxel, in voxels: vertices stay off the lattice points."""

SHALLOW = 0.1
"""Cost of changing a voxel beyond its level, in voxels: of two repairs at no depth the one with
fewer voxels wins."""


@dataclass(frozen=True)
class Repair:
    """One change to the level set.

    Attributes
    ----------
    kind : str
        ``cut`` (a handle was opened) or ``fill`` (a hole was closed).
    voxels : int
        How many voxels changed sides.
    depth : float
        Largest distance from the surface of a voxel that changed, in the units of the level set.
    centre_vox : tuple of float
        Mean index of the changed voxels.
    """

    kind: str
    voxels: int
    depth: float
    centre_vox: tuple[float, float, float]


@dataclass(frozen=True)
class TopologyReport:
    """What it took to make a sphere; for quality control.

    Attributes
    ----------
    repairs : tuple of Repair
        Cuts and fills, largest first.
    islands, cavities : int
        Pieces that were dropped, and closed holes inside that were filled.
    island_voxels, cavity_voxels : int
        Their voxels.
    inside_voxels : int
        Voxels inside in the end.
    """

    repairs: tuple[Repair, ...]
    islands: int
    island_voxels: int
    cavities: int
    cavity_voxels: int
    inside_voxels: int

    def count(self, kind: str) -> int:
        """Number of repairs of a kind (``cut`` or ``fill``)."""
        return sum(r.kind == kind for r in self.repairs)

    def voxels(self, kind: str) -> int:
        """Voxels changed by the repairs of a kind."""
        return sum(r.voxels for r in self.repairs if r.kind == kind)

    @property
    def largest(self) -> int:
        """Voxels of the largest repair; 0 without any."""
        return max((r.voxels for r in self.repairs), default=0)


def correct_topology(level: np.ndarray) -> tuple[np.ndarray, TopologyReport]:
    """The nearest level set whose inside is a ball: one piece, no handle, no cavity.

    Parameters
    ----------
    level : (X, Y, Z) float array
        Signed distance to the surface or the like, in voxels, negative inside. The inside is
        joined through faces, the outside through faces and edges.

    Returns
    -------
    corrected : (X, Y, Z) float32 array
        Equal to ``level`` except where a voxel changed sides, and where it was closer to 0 than
        ``LEAST_LEVEL``.
    report : TopologyReport

    Raises
    ------
    ValueError
        If nothing is inside, or a value is not finite.
    """
    level = np.asarray(level, dtype=np.float32)
    if level.ndim != 3:
        raise ValueError(f"a level set has 3 dimensions, this array has {level.ndim}")
    if not np.isfinite(level).all():
        raise ValueError("the level set has values that are not finite")
    if not (level < 0).any():
        raise ValueError("the level set has no inside: no value is negative")
    # one layer for the search of neighbours, one so that the outside surrounds everything
    padded = np.pad(level, 2, constant_values=max(float(level.max()), 1.0))
    wanted, pieces = _one_piece(padded)
    inside = _grow_from_deepest(padded, wanted)
    filled = _fill_small_holes(padded, wanted, inside)
    repairs = _describe(padded, wanted & ~inside, "cut") + _describe(padded, filled, "fill")
    corrected = _with_signs(padded, inside)[2:-2, 2:-2, 2:-2]
    report = TopologyReport(
        tuple(sorted(repairs, key=lambda r: (-r.voxels, r.centre_vox))),
        *pieces,
        inside_voxels=int(inside.sum()),
    )
    return np.ascontiguousarray(corrected), report


def _one_piece(level: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Largest piece of the inside with its cavities filled; counts of islands and cavities."""
    inside = level < 0
    labels, n_inside = ndimage.label(inside)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    wanted = labels == int(sizes.argmax())
    island_voxels = int(sizes.sum() - sizes.max())
    labels, n_outside = ndimage.label(~wanted, ndimage.generate_binary_structure(3, 2))
    cavity = (labels != labels[0, 0, 0]) & ~wanted
    # an island may lie in a cavity
    cavity_voxels = int((cavity & ~inside).sum())
    wanted |= cavity
    return wanted, (n_inside - 1, island_voxels, n_outside - 1, cavity_voxels)


def _grow_from_deepest(level: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    inside = np.zeros(level.shape, dtype=bool)
    seed = int(np.where(wanted, level, np.inf).argmin())
    inside.ravel()[seed] = True
    offsets = neighbour_offsets(level.shape)
    n = int(wanted.sum())
    _march(
        level.ravel(), 1.0, wanted.ravel(), inside.ravel(), True, seed + offsets,
        np.zeros(level.size, dtype=np.uint8), np.empty(n + 27), np.empty(n + 27, dtype=np.int64),
        offsets,
    )  # fmt: skip
    return inside


def _fill_small_holes(level: np.ndarray, wanted: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Replace cuts by fills where that changes less, in place; the voxels that were filled."""
    cuts, n = ndimage.label(wanted & ~inside, np.ones((3, 3, 3)))
    if n:
        free = np.zeros(level.shape, dtype=bool)
        free[2:-2, 2:-2, 2:-2] = True
        at = np.flatnonzero(cuts)
        number = cuts.ravel()[at]
        at = at[np.argsort(number, kind="stable")]
        ends = np.cumsum(np.bincount(number, minlength=n + 1))
        _try_fills(
            level.ravel(), wanted.ravel(), inside.ravel(), free.ravel(), at, ends,
            neighbour_offsets(level.shape),
        )  # fmt: skip
    return inside & ~wanted


def _describe(level: np.ndarray, changed: np.ndarray, kind: str) -> tuple[Repair, ...]:
    labels, _ = ndimage.label(changed, np.ones((3, 3, 3)))
    out = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        here = labels[box] == number
        centre = np.argwhere(here).mean(axis=0) + [s.start for s in box] - 2
        x, y, z = (float(c) for c in centre)
        depth = float(np.abs(level[box][here]).max())
        out.append(Repair(kind, int(here.sum()), depth, (x, y, z)))
    return tuple(out)


def _with_signs(level: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The level set with the signs of ``inside``."""
    least = np.where((level < 0) == inside, LEAST_LEVEL, CHANGED_LEVEL).astype(np.float32)
    return np.where(inside, np.minimum(level, -least), np.maximum(level, least))


@compiled()
def _neighbourhood(inside: np.ndarray, at: int, offsets: np.ndarray) -> int:
    bits = 0
    for b in range(27):
        bits |= int(inside[at + offsets[b]]) << b
    return bits


@compiled()
def _march(
    level: np.ndarray,
    sign: float,
    allowed: np.ndarray,
    inside: np.ndarray,
    value: bool,
    starts: np.ndarray,
    queued: np.ndarray,
    keys: np.ndarray,
    items: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Move simple points of ``allowed`` to ``inside = value``, lowest ``sign * level`` first.

    All arrays are raveled; ``inside`` changes in place. ``starts`` are looked at first, then the
    neighbours of what moved. ``queued`` is 0 everywhere before and after; ``keys`` and ``items``
    hold the queue.
    """
    n, order = 0, 0
    for at in starts:
        if allowed[at] and inside[at] != value and not queued[at]:
            queued[at] = 1
            n = push(keys, items, n, sign * np.float64(level[at]), at)
    while n > 0:
        at = items[0]
        n = pop(keys, items, n)
        queued[at] = 0
        if not is_simple(_neighbourhood(inside, at, offsets)):
            continue
        inside[at] = value
        # what was refused may have become simple
        for b in range(27):
            near = at + offsets[b]
            if allowed[near] and inside[near] != value and not queued[near]:
                queued[near] = 1
                # where the level is flat, first come first served keeps the front round
                order += 1
                n = push(keys, items, n, sign * np.float64(level[near]) + 1e-12 * order, near)


@compiled()
def _try_fills(
    level: np.ndarray,
    wanted: np.ndarray,
    inside: np.ndarray,
    free: np.ndarray,
    cut_voxels: np.ndarray,
    ends: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """For each cut: grow everything around it, shrink to what is wanted, keep if it costs less."""
    size = len(level)
    queued = np.zeros(size, dtype=np.uint8)
    allowed = np.zeros(size, dtype=np.bool_)
    for c in range(1, len(ends)):
        cut = cut_voxels[ends[c - 1] : ends[c]]
        region = _around(cut, free, allowed, offsets)
        before = _cost(level, wanted, inside, region)
        if before > 0:  # not joined while an earlier cut was repaired
            old = inside[region]
            keys = np.empty(len(region) + 1, dtype=np.float64)
            items = np.empty(len(region) + 1, dtype=np.int64)
            _march(level, 1.0, allowed, inside, True, region, queued, keys, items, offsets)
            for at in region:
                allowed[at] = not wanted[at]
            _march(level, -1.0, allowed, inside, False, region, queued, keys, items, offsets)
            for at in region:
                allowed[at] = wanted[at]
            _march(level, 1.0, allowed, inside, True, region, queued, keys, items, offsets)
            if _cost(level, wanted, inside, region) >= before - 1e-9:
                inside[region] = old
        for at in region:
            allowed[at] = False


@compiled()
def _around(cut: np.ndarray, free: np.ndarray, seen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Free voxels within ``REACH_VOXELS`` steps of a cut; they are marked in ``seen``."""
    capacity = 64 * len(cut) + 1024
    out = np.empty(capacity, dtype=np.int64)
    n = 0
    for at in cut:
        if free[at]:
            seen[at] = True
            out[n] = at
            n += 1
    start = 0
    for _ in range(REACH_VOXELS):
        stop = n
        for i in range(start, stop):
            for b in range(27):
                near = out[i] + offsets[b]
                if free[near] and not seen[near]:
                    seen[near] = True
                    if n == capacity:
                        larger = np.empty(2 * capacity, dtype=np.int64)
                        larger[:capacity] = out
                        out = larger
                        capacity *= 2
                    out[n] = near
                    n += 1
        start = stop
    return out[:n].copy()


@compiled()
def _cost(level: np.ndarray, wanted: np.ndarray, inside: np.ndarray, region: np.ndarray) -> float:
    total = 0.0
    for at in region:
        if wanted[at] != inside[at]:
            total += abs(level[at]) + SHALLOW
    return total
