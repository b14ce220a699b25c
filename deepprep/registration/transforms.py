"""Spatial maps as values: affine, displacement field, chain.

Every map takes points of an OUTPUT (fixed) space to points of an INPUT (moving) space,
both in RAS+ mm: the ITK convention, so that ``resample(moving, fixed_grid, map)`` pulls the
moving image onto the fixed lattice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from deepprep.image.resample import PointTransform, resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.folding import smallest_corner_determinant

CHUNK_POINTS = 4_000_000
"""Points interpolated at a time, to bound memory."""


@dataclass(frozen=True, eq=False)
class Affine:
    """A 4x4 linear map of RAS mm points.

    Parameters
    ----------
    matrix : (4, 4) float64 array
        Maps a fixed-space point to a moving-space point.

    Notes
    -----
    ``(A @ B).map_points(p) == A.map_points(B.map_points(p))``: the right operand acts first.

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[0, 3] = 2.0
    >>> Affine(shift).map_points(np.zeros((1, 3)))
    array([[2., 0., 0.]])
    """

    matrix: np.ndarray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"an affine map is a 4x4 matrix, this one is {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise ValueError("an affine map has only finite entries, this one does not")
        if not np.allclose(matrix[3], [0, 0, 0, 1]):
            raise ValueError("the last row of an affine map is 0 0 0 1")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @classmethod
    def identity(cls) -> Affine:
        """The map that moves nothing."""
        return cls(np.eye(4))

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) RAS mm fixed -> (N, 3) RAS mm moving."""
        return np.asarray(points) @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def inverse(self) -> Affine:
        """The map from moving points back to fixed points."""
        return Affine(np.linalg.inv(self.matrix))

    def __matmul__(self, other: Affine) -> Affine:
        if not isinstance(other, Affine):
            return NotImplemented
        return Affine(self.matrix @ other.matrix)


@dataclass(frozen=True, eq=False)
class Displacement:
    """A field of displacements on a lattice; zero outside it.

    Parameters
    ----------
    field : (X, Y, Z, 3) float32 array
        RAS mm added to a point; one vector for each voxel centre.
    affine : (4, 4) array
        Voxel index of the field's lattice to RAS mm.

    Notes
    -----
    A point maps to itself plus the trilinearly interpolated displacement. As in ITK, the
    outermost half voxel takes the value of the border and beyond it nothing moves.
    """

    field: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        field = np.ascontiguousarray(self.field, dtype=np.float32)
        if field.ndim != 4 or field.shape[3] != 3 or min(field.shape) < 1:
            raise ValueError(f"a displacement field is (X, Y, Z, 3), this one is {field.shape}")
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "affine", np.array(self.affine, dtype=np.float64))

    @cached_property
    def grid(self) -> Grid:
        """Lattice that carries the vectors."""
        return Grid(self.field.shape[:3], self.affine)

    def in_voxels(self) -> np.ndarray:
        """(3, X, Y, Z) float32 displacement in voxels along the axes of the lattice."""
        vectors = self.field @ self.grid.ras2vox[:3, :3].T.astype(np.float32)
        return np.ascontiguousarray(np.moveaxis(vectors, -1, 0))

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) RAS mm fixed -> (N, 3) RAS mm moving."""
        points = np.asarray(points, dtype=np.float64)
        out = np.empty_like(points)
        for start in range(0, len(points), CHUNK_POINTS):
            part = slice(start, start + CHUNK_POINTS)
            out[part] = points[part] + self._sample(points[part])
        return out

    def _sample(self, points: np.ndarray) -> np.ndarray:
        to_vox = self.grid.ras2vox
        vox = points @ to_vox[:3, :3].T + to_vox[:3, 3]
        size = np.array(self.grid.shape)
        inside = np.all((vox >= -0.5) & (vox <= size - 0.5), axis=1)
        scaled = (vox * (2.0 / np.maximum(size - 1, 1)) - 1).astype(np.float32)
        coords = torch.from_numpy(np.ascontiguousarray(scaled[:, ::-1]))
        vectors = torch.nn.functional.grid_sample(
            torch.from_numpy(self.field).permute(3, 0, 1, 2)[None],
            coords.reshape(1, -1, 1, 1, 3),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return vectors.reshape(3, -1).T.numpy() * inside[:, None]


@dataclass(frozen=True, eq=False)
class Chain:
    """Maps applied one after the other.

    Parameters
    ----------
    steps : sequence of maps
        POINTS go through ``steps[0]`` first, then ``steps[1]``, and so on. (An ITK composite
        lists the same maps in the opposite order; ``itk.write_composite`` takes care of it.)

    Examples
    --------
    >>> two, shift = np.diag([2.0, 2.0, 2.0, 1.0]), np.eye(4)
    >>> shift[0, 3] = 1.0
    >>> Chain([Affine(two), Affine(shift)]).map_points(np.ones((1, 3)))
    array([[3., 2., 2.]])
    """

    steps: tuple[PointTransform, ...]

    def __init__(self, steps: Iterable[PointTransform] | Chain) -> None:
        flat: list[PointTransform] = []
        for step in steps.steps if isinstance(steps, Chain) else steps:
            flat.extend(step.steps if isinstance(step, Chain) else [step])
        object.__setattr__(self, "steps", tuple(flat))

    def map_points(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) RAS mm fixed -> (N, 3) RAS mm moving."""
        points = np.asarray(points, dtype=np.float64)
        for step in self.steps:
            points = step.map_points(points)
        return points


def jacobian_determinant(displacement: Displacement) -> Volume:
    """Volume change of the map ``p -> p + u(p)`` at each voxel centre of its lattice.

    Parameters
    ----------
    displacement : Displacement
        Map in mm on any lattice, oblique and anisotropic ones too.

    Returns
    -------
    Volume
        Float32 determinant by central differences (one-sided at the border): 1 where nothing
        changes, above 1 where the fixed space is smaller than the moving one, 0 or less where
        the map folds.
    """
    return Volume(_determinant(displacement), displacement.affine)


def warp_jacobian(chain: Chain, grid: Grid) -> Volume:
    """Volume change of the displacement that points go through first, on a lattice.

    Parameters
    ----------
    chain : Chain
        Fixed points to moving points, such as a displacement and then an affine, whose own
        determinant is left out.
    grid : Grid
        In the fixed space.

    Returns
    -------
    Volume
        (X, Y, Z) float32; 1 where the field does not reach, and everywhere without a displacement
        first.
    """
    first = chain.steps[0] if chain.steps else None
    if not isinstance(first, Displacement):
        return Volume(np.ones(grid.shape, np.float32), grid.affine)
    change = jacobian_determinant(first)
    found = resample(change.like(change.data - 1.0), grid, None, "linear")
    return found.like((found.data + 1.0).astype(np.float32))


def smallest_jacobian(displacement: Displacement) -> float:
    """Smallest determinant over all corners of all cells of the lattice.

    The Jacobian of a trilinear map at the corner of a cell is made of the three one-sided
    differences that meet there, so this is stricter than ``jacobian_determinant`` and sees
    folds between two voxel centres.
    """
    if min(displacement.field.shape[:3]) < 2:
        raise ValueError(
            f"a Jacobian needs two voxels along each axis, not {displacement.field.shape[:3]}"
        )
    return float(smallest_corner_determinant(displacement.in_voxels(), False).min())


def _determinant(displacement: Displacement) -> np.ndarray:
    field = torch.from_numpy(displacement.field)
    to_vox = torch.from_numpy(displacement.grid.ras2vox[:3, :3].copy()).to(field.dtype)
    if min(field.shape[:3]) < 2:
        raise ValueError(f"a Jacobian needs two voxels along each axis, not {field.shape[:3]}")
    slopes = [torch.gradient(field, dim=axis)[0] for axis in range(3)]
    return _det_of(slopes, to_vox).numpy()


def _det_of(slopes: list[torch.Tensor], to_vox: torch.Tensor) -> torch.Tensor:
    # d u / d ras = sum over voxel axes of (d u / d vox) (d vox / d ras)
    rows = [
        [
            torch.stack([slopes[a][..., i] * to_vox[a, j] for a in range(3)]).sum(0) + float(i == j)
            for j in range(3)
        ]
        for i in range(3)
    ]
    (a, b, c), (d, e, f), (g, h, k) = rows
    return a * (e * k - f * h) - b * (d * k - f * g) + c * (d * h - e * g)
