"""From a lattice to a finer or coarser one with parallel axes: separable trilinear interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepprep.image.volume import Grid

NEGLIGIBLE = 2e-3
"""Values up to this are taken as 0, so that a small structure costs little."""


@dataclass(frozen=True)
class AxisWeights:
    """Where the voxels of a target lattice lie between those of a source, axis by axis.

    All arrays are in the order of the source's axes.

    Attributes
    ----------
    low : tuple of three (n,) int arrays
        Source voxel below each target voxel of the box.
    part : tuple of three (n,) float32 arrays
        How far it is on the way to the next, 0 to 1.
    start, step : tuple of three int
        Target voxel of the box's first corner, and +1 or -1: the direction along the target axis.
    axes : tuple of three int
        Target axis of each source axis.
    """

    low: tuple[np.ndarray, ...]
    part: tuple[np.ndarray, ...]
    start: tuple[int, ...]
    step: tuple[int, ...]
    axes: tuple[int, ...]

    @property
    def box_shape(self) -> tuple[int, int, int]:
        """Size of the box of target voxels that the source covers."""
        a, b, c = (len(index) for index in self.low)
        return a, b, c

    def place(self, values: np.ndarray, grid: Grid) -> np.ndarray:
        """Put the box into an array of the whole target lattice; 0 elsewhere."""
        out = np.zeros(grid.shape, dtype=values.dtype)
        view = out.transpose(self.axes)
        where = []
        for first, step, n in zip(self.start, self.step, values.shape):
            stop = first + step * n
            where.append(slice(first, None if stop < 0 else stop, step))
        view[tuple(where)] = values
        return out


def axis_weights(source: Grid, target: Grid) -> AxisWeights:
    """Prepare the interpolation from ``source`` to ``target``.

    Raises
    ------
    ValueError
        If the axes of the lattices are not parallel.
    """
    matrix = source.ras2vox @ target.affine
    axes = np.abs(matrix[:3, :3]).argmax(axis=1)
    rest = matrix[:3, :3].copy()
    rest[range(3), axes] = 0
    if sorted(axes) != [0, 1, 2] or np.abs(rest).max() * max(target.shape) > 0.05:
        raise ValueError("the lattices' axes are not parallel")
    low, part, start, step = [], [], [], []
    for i, axis in enumerate(axes):
        at = matrix[i, axis] * np.arange(target.shape[axis]) + matrix[i, 3]
        nearest = np.round(at)
        at = np.where(np.abs(at - nearest) < 1e-3, nearest, at)
        covered = np.flatnonzero((at >= 0) & (at <= source.shape[i] - 1))
        if not covered.size:
            raise ValueError("the lattices do not overlap")
        forward = matrix[i, axis] > 0
        index = covered if forward else covered[::-1]
        below = np.minimum(np.floor(at[index]).astype(int), source.shape[i] - 1)
        low.append(below)
        part.append((at[index] - below).astype(np.float32))
        start.append(int(index[0]))
        step.append(1 if forward else -1)
    return AxisWeights(
        tuple(low), tuple(part), tuple(start), tuple(step), tuple(int(a) for a in axes)
    )


def order_bits(values: np.ndarray) -> np.ndarray:
    """Floating-point numbers, none negative, as integers in the same order: faster to compare."""
    return values.view(f"u{values.itemsize}")


def onto_lattice(
    values: np.ndarray, weights: AxisWeights
) -> tuple[tuple[slice, slice, slice], np.ndarray] | None:
    """Interpolate a map that is zero in most places.

    Parameters
    ----------
    values : (X, Y, Z) float array
        On the source lattice; none negative.
    weights : AxisWeights

    Returns
    -------
    where, array
        Part of the box of target voxels, and the float32 values there; None if there is nothing.
    """
    occupied = order_bits(values) > order_bits(np.array(NEGLIGIBLE, values.dtype))
    where, low, part = [], [], []
    box = []
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(occupied.any(axis=other))
        if not found.size:
            return None
        first, last = max(0, found[0] - 1), min(values.shape[axis] - 1, found[-1] + 1)
        box.append(slice(first, last + 1))
        index = weights.low[axis]
        take = np.flatnonzero((index >= first) & (index <= last))
        if not take.size:
            return None
        where.append(slice(int(take[0]), int(take[-1]) + 1))
        low.append(index[take] - first)
        part.append(weights.part[axis][take])
    out = interpolate_axes(values[tuple(box)].astype(np.float32), low, part)
    return (where[0], where[1], where[2]), out


def interpolate_axes(
    values: np.ndarray, low: Sequence[np.ndarray], part: Sequence[np.ndarray]
) -> np.ndarray:
    """Linear interpolation along each axis in turn.

    Parameters
    ----------
    values : (X, Y, Z) float32 array
    low, part : three (n,) arrays each
        Voxel below each point along the axis, and how far the point is on the way to the next.
    """
    for axis, (below, share) in enumerate(zip(low, part)):
        n = values.shape[axis]
        if not share.any():
            if not np.array_equal(below, np.arange(n)):
                values = np.take(values, below, axis=axis)
            continue
        above = np.take(values, np.minimum(below + 1, n - 1), axis=axis)
        values = np.take(values, below, axis=axis)
        above -= values
        above *= share.reshape([-1 if a == axis else 1 for a in range(3)])
        values += above
    return values
