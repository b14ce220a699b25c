"""Volumes and sampling grids: an array and the affine that places it in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np


@dataclass(frozen=True)
class Grid:
    """A voxel lattice in the world.

    Parameters
    ----------
    shape : tuple of int, length 3
        Number of voxels along each axis.
    affine : (4, 4) float64 array
        Voxel index to RAS+ millimetres.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape[:3]))
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))

    @property
    def vox2ras(self) -> np.ndarray:
        """(4, 4) voxel index to RAS mm (the affine)."""
        return self.affine

    @cached_property
    def ras2vox(self) -> np.ndarray:
        """(4, 4) RAS mm to voxel index."""
        return np.linalg.inv(self.affine)

    @cached_property
    def zooms_mm(self) -> np.ndarray:
        """(3,) voxel edge lengths in mm."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))

    @cached_property
    def shear(self) -> float:
        """Largest cosine between two axes; 0 where voxels are boxes."""
        unit = self.affine[:3, :3] / self.zooms_mm
        return float(np.abs(unit.T @ unit - np.eye(3)).max())

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm^3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def centre_ras(self) -> np.ndarray:
        """(3,) RAS mm of the centre of the field of view."""
        return nib.affines.apply_affine(self.affine, (np.array(self.shape) - 1) / 2.0)

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """Orientation codes such as ``('R', 'A', 'S')``."""
        return nib.aff2axcodes(self.affine)

    def points_ras(self) -> np.ndarray:
        """World coordinates of all voxel centres, shape (X, Y, Z, 3), RAS mm, float64."""
        ijk = np.stack(np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij"), axis=-1)
        return nib.affines.apply_affine(self.affine, ijk)

    def part(self, box: Sequence[slice]) -> Grid:
        """The lattice of the voxels in a box, one slice for each axis, cut at the border."""
        kept = [range(n)[s] for n, s in zip(self.shape, box, strict=True)]
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, :3] @ [k.start for k in kept]
        x, y, z = (len(k) for k in kept)
        return Grid((x, y, z), affine)

    def same_as(self, other: Grid, atol_mm: float = 1e-3) -> bool:
        """Whether both lattices coincide within ``atol_mm``."""
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=atol_mm)


@dataclass(frozen=True)
class Volume:
    """An image in the world.

    Parameters
    ----------
    data : (X, Y, Z) or (X, Y, Z, T) array
        Voxel values.
    affine : (4, 4) array
        Voxel index to RAS+ millimetres.
    """

    data: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "affine", np.asarray(self.affine, dtype=np.float64))
        if self.data.ndim not in (3, 4):
            raise ValueError(f"a volume has 3 or 4 dimensions, this array has {self.data.ndim}")
        if self.affine.shape != (4, 4):
            raise ValueError(f"an affine is 4x4, this one is {self.affine.shape}")

    @cached_property
    def grid(self) -> Grid:
        """The spatial lattice of the volume."""
        return Grid(self.data.shape[:3], self.affine)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, with time if there is one."""
        return self.data.shape

    @property
    def zooms_mm(self) -> np.ndarray:
        """(3,) voxel edge lengths in mm."""
        return self.grid.zooms_mm

    @property
    def n_frames(self) -> int:
        """Number of time points (1 for a 3D volume)."""
        return 1 if self.data.ndim == 3 else self.data.shape[3]

    def frame(self, t: int) -> Volume:
        """The 3D volume at time index ``t``."""
        return self if self.data.ndim == 3 else Volume(self.data[..., t], self.affine)

    def part(self, box: Sequence[slice]) -> Volume:
        """The voxels in a box, one slice for each axis (a view, not a copy)."""
        return Volume(self.data[tuple(box)], self.grid.part(box).affine)

    def like(self, data: np.ndarray) -> Volume:
        """Other values on the same lattice."""
        return Volume(data, self.affine)
