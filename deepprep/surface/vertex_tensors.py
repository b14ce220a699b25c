"""A surface and images around it as tensors: what placement asks of them at every step, on CPU or GPU."""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch
from scipy import sparse

from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh, vertex_normals
from deepprep.surface.profiles import SplineImage, sample_profiles
from deepprep.surface.vertex_smoothing import neighbour_mean

CHUNK_POINTS = 1 << 18
"""Points whose 64 coefficients are gathered at once."""


def compiled_on(device: torch.device) -> bool:
    """Whether compiled loops on the memory of tensors take the place of torch's own operations."""
    return device.type == "cpu"


class SurfaceTensors:
    """Triangles of a mesh on a device, with what follows from them for any positions.

    Parameters
    ----------
    mesh : Mesh
        RAS mm.
    device : str
        Torch device: float64 on a CPU, float32 elsewhere (1e-5 mm).

    Attributes
    ----------
    vertices : (V, 3) tensor
        Positions of the mesh, RAS mm.
    mean : (V, V) sparse tensor
        Mean over the neighbours of each vertex.
    """

    def __init__(self, mesh: Mesh, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.dtype = torch.float64 if compiled_on(self.device) else torch.float32
        self.vertices = self.tensor(mesh.vertices)
        self.mean = self._sparse(neighbour_mean(mesh))
        self._faces = mesh.faces

    def tensor(self, values: np.ndarray) -> torch.Tensor:
        """Numbers on the device, in its precision."""
        return torch.as_tensor(np.ascontiguousarray(values), dtype=self.dtype, device=self.device)

    def normals(self, vertices: torch.Tensor) -> torch.Tensor:
        """(V, 3) outward unit normals at other positions, weighted by area."""
        if compiled_on(self.device):
            return torch.from_numpy(vertex_normals(vertices.numpy(), self._faces))
        a, b, c = (vertices.index_select(0, corner) for corner in self._corners)
        total = self._around @ torch.linalg.cross(b - a, c - a)
        return total / total.norm(dim=1, keepdim=True).clamp(min=1e-12)

    @cached_property
    def _corners(self) -> list[torch.Tensor]:
        columns = self._faces.T.astype(np.int64)
        return [torch.from_numpy(column).to(self.device) for column in columns]

    @cached_property
    def _around(self) -> torch.Tensor:
        """(V, F): the triangles around each vertex."""
        n = len(self._faces)
        ones, faces = np.ones(3 * n), np.arange(n).repeat(3)
        return self._sparse(
            sparse.csr_matrix((ones, (self._faces.ravel(), faces)), (len(self.vertices), n))
        )

    def _sparse(self, matrix: sparse.csr_matrix) -> torch.Tensor:
        with warnings.catch_warnings():
            # torch calls this layout a beta at every first use
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                torch.from_numpy(matrix.indptr.astype(np.int32)),
                torch.from_numpy(matrix.indices.astype(np.int32)),
                torch.from_numpy(matrix.data),
                size=matrix.shape,
                dtype=self.dtype,
                device=self.device,
            )


class LinearSampler:
    """Trilinear values of images at points; the nearest border value outside.

    Parameters
    ----------
    data : (C, X, Y, Z) or (X, Y, Z) float array
        Finite.
    ras2vox : (4, 4) array
    device : str or torch.device
    """

    def __init__(
        self, data: np.ndarray, ras2vox: np.ndarray, device: str | torch.device = "cpu"
    ) -> None:
        data = np.asarray(data, dtype=np.float32)
        self._one = data.ndim == 3
        self._data = torch.from_numpy(np.ascontiguousarray(data[None] if self._one else data))[None]
        self._data = self._data.to(device)
        half = (np.array(data.shape[-3:]) - 1) / 2
        # -1 and 1 are the middles of the first and the last voxel
        scale = np.diag([*(1 / np.maximum(half, 0.5)), 1.0])
        scale[:3, 3] = np.where(half > 0, -1.0, 0.0)
        self._matrix = scale @ ras2vox

    @classmethod
    def of(cls, volume: Volume, device: str | torch.device = "cpu") -> LinearSampler:
        """Of a volume."""
        return cls(volume.data, volume.grid.ras2vox, device)

    def __call__(self, points_ras: torch.Tensor) -> torch.Tensor:
        """(N,) values, (N, C) of several images, at (N, 3) points in RAS mm."""
        matrix = torch.from_numpy(self._matrix).to(points_ras)
        at = (points_ras @ matrix[:3, :3].T + matrix[:3, 3]).float()
        found = torch.nn.functional.grid_sample(
            self._data, at.flip(1)[None, None, None], mode="bilinear", padding_mode="border",
            align_corners=True,
        )[0, :, 0, 0].to(points_ras.dtype)  # fmt: skip
        return found[0] if self._one else found.T


class SplineSampler:
    """Cubic B-spline values of an image at points and along lines.

    Parameters
    ----------
    image : SplineImage
    device : str or torch.device
    """

    def __init__(self, image: SplineImage, device: str | torch.device = "cpu") -> None:
        self._image = image
        self._device = torch.device(device)
        self._coefficients = torch.from_numpy(image.coefficients).to(self._device)

    def profiles(
        self, points_ras: torch.Tensor, directions: torch.Tensor, distances_mm: np.ndarray
    ) -> torch.Tensor:
        """(V, K) values at K distances along the unit direction of each of V points, RAS mm."""
        if compiled_on(self._device):
            found = sample_profiles(
                self._image, points_ras.numpy(), directions.numpy(), distances_mm
            )
            return torch.from_numpy(found).to(points_ras.dtype)
        matrix = torch.from_numpy(self._image.ras2vox).to(points_ras)
        start = points_ras @ matrix[:3, :3].T + matrix[:3, 3]
        step = directions @ matrix[:3, :3].T
        columns = [spline_values(self._coefficients, start + d * step) for d in distances_mm]
        return torch.stack(columns, dim=1)

    def __call__(self, points_ras: torch.Tensor) -> torch.Tensor:
        """(N,) values at (N, 3) points, RAS mm."""
        return self.profiles(points_ras, torch.zeros_like(points_ras), np.zeros(1))[:, 0]


def spline_values(coefficients: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    """Cubic B-spline at voxel positions, held at the border; mirrored beyond it.

    Parameters
    ----------
    coefficients : (X, Y, Z) tensor
    voxels : (N, 3) tensor

    Returns
    -------
    (N,) tensor
    """
    return torch.cat([_spline(coefficients, part) for part in voxels.split(CHUNK_POINTS)])


def _spline(coefficients: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
    flat, taps, weights = coefficients.reshape(-1), [], []
    for axis, n in enumerate(coefficients.shape):
        x = voxels[:, axis].clamp(0, n - 1)
        low = x.floor()
        t, u = x - low, 1 - (x - low)
        weights.append(
            torch.stack([
                u**3 / 6, 2 / 3 - 0.5 * t * t * (2 - t), 2 / 3 - 0.5 * u * u * (2 - u), t**3 / 6,
            ], dim=1)
        )  # fmt: skip
        index = (low.long()[:, None] + torch.arange(-1, 3, device=voxels.device)).abs()
        index = torch.where(index >= n, 2 * n - 2 - index, index)
        taps.append(index.clamp(0, n - 1))
    _, ny, nz = coefficients.shape
    out = torch.zeros(len(voxels), dtype=voxels.dtype, device=voxels.device)
    for a in range(4):
        for b in range(4):
            row = (taps[0][:, a] * ny + taps[1][:, b]) * nz
            line = (flat[row[:, None] + taps[2]].to(voxels.dtype) * weights[2]).sum(dim=1)
            out += weights[0][:, a] * weights[1][:, b] * line
    return out
