"""From the conformed lattice back to the lattice of the image that was given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np

from deepprep.image.resample import input_voxels, resample, sample_linear
from deepprep.image.volume import Grid, Volume

ON_LATTICE_VOX = 1e-3
"""Voxel centres closer than this to those of the other lattice need no interpolation."""


@dataclass(frozen=True)
class WayBack:
    """Takes labels and maps from one lattice to another.

    Where the lattices share their points, values are copied; else labels become the arg-max of
    interpolated one-hot maps and maps are interpolated linearly.

    Parameters
    ----------
    source, target : Grid
        Conformed lattice; lattice of the image that was given.
    box : tuple of slice
        Voxels of the source outside which everything is 0.
    """

    source: Grid
    target: Grid
    box: tuple[slice, slice, slice]

    def labels(self, data: np.ndarray) -> np.ndarray:
        """(X, Y, Z) integer labels on the source to the target."""
        out = np.zeros(self.target.shape, dtype=data.dtype)
        if self.part is not None:
            if self._shared is not None:
                out[self._place] = self._copied(data)
            else:
                volume = Volume(data, self.source.affine)
                out[self._place] = resample(volume, self.part, None, "label").data
        return out

    def map(self, data: np.ndarray) -> np.ndarray:
        """(X, Y, Z) float map on the source to the target; float32."""
        out = np.zeros(self.target.shape, dtype=np.float32)
        if self.part is not None:
            if self._shared is not None:
                out[self._place] = self._copied(data)
            else:
                out[self._place] = sample_linear(data, self._coordinates)
        return out

    @cached_property
    def part(self) -> Grid | None:
        """The part of the target that the box reaches, or None."""
        (low, high), affine = self._reach, self.target.affine.copy()
        if (low >= high).any():
            return None
        affine[:3, 3] = nib.affines.apply_affine(affine, low)
        nx, ny, nz = (int(n) for n in high - low)
        return Grid((nx, ny, nz), affine)

    @cached_property
    def _reach(self) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last target voxel, along each axis."""
        ends = np.array([[s.start, s.stop - 1] for s in self.box], dtype=float)
        if (ends[:, 0] > ends[:, 1]).any():
            return np.zeros(3, dtype=int), np.zeros(3, dtype=int)
        corners = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
        there = nib.affines.apply_affine(self.target.ras2vox @ self.source.affine, corners)
        low = np.clip(np.floor(there.min(axis=0)).astype(int) - 1, 0, self.target.shape)
        high = np.clip(np.ceil(there.max(axis=0)).astype(int) + 2, 0, self.target.shape)
        return low, high

    @property
    def _place(self) -> tuple[slice, ...]:
        low, high = self._reach
        return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))

    @cached_property
    def _coordinates(self) -> np.ndarray:
        assert self.part is not None
        return input_voxels(self.source, self.part, None)

    @cached_property
    def _shared(self) -> np.ndarray | None:
        """(3, 4) whole-number matrix from the part to the source, turns and flips, or None."""
        assert self.part is not None
        matrix = (self.source.ras2vox @ self.part.affine)[:3]
        whole = np.rint(matrix)
        off = np.abs(matrix - whole)
        turns = np.abs(whole[:, :3])
        permutes = (turns.sum(axis=0) == 1).all() and (turns.sum(axis=1) == 1).all()
        drift = off[:, :3].max() * max(self.part.shape)
        if permutes and drift < ON_LATTICE_VOX and off[:, 3].max() < ON_LATTICE_VOX:
            return whole.astype(int)
        return None

    def _copied(self, data: np.ndarray) -> np.ndarray:
        assert self.part is not None and self._shared is not None
        order, sources, places = [], [], []
        for axis, n in enumerate(self.part.shape):
            own = int(np.flatnonzero(self._shared[:, axis])[0])
            index = self._shared[own, axis] * np.arange(n) + self._shared[own, 3]
            there = (index >= 0) & (index < data.shape[own])
            order.append(own)
            sources.append(index[there])
            places.append(np.flatnonzero(there))
        out = np.zeros(self.part.shape, dtype=data.dtype)
        out[np.ix_(*places)] = data.transpose(order)[np.ix_(*sources)]
        return out
