"""SynthMorph as it is run: both networks on images in its own space, and back to the world.

Written from the papers (Hoffmann et al., IEEE TMI 2022; Imaging Neuroscience 2024). The affine
network takes fixed points to moving points; its square root takes both images to the space half
way, where the deformation network works.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from deepprep.errors import StageError
from deepprep.image.resample import PointTransform, resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.flow import to_displacement
from deepprep.registration.synthmorph.compact import compact_velocity
from deepprep.registration.synthmorph.geometry import matrix_root, square
from deepprep.registration.synthmorph.weights import load_deformation, load_detector
from deepprep.registration.transforms import Affine, Displacement

EXTENT = 192
"""Voxels of 1 mm along each side of the network space: holds any brain; a multiple of 32."""

OFFICIAL, OWN = "official", "own"
"""Whose networks gave a start."""

DETERMINANTS = (0.2, 5.0)
"""Volume change between two heads beyond which the affine network has failed."""


class NetworkStart(NamedTuple):
    """Affine map, velocity that acts before it, and whose networks gave them."""

    affine: Affine
    velocity: Displacement
    whose: str


def network_start(
    fixed: Volume,
    moving: Volume,
    files: Sequence[str | os.PathLike],
    register: Callable[[], Affine],
    *,
    device: str = "cpu",
) -> NetworkStart:
    """What networks say of two brains.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z), zero outside the brain.
    files : sequence of path-like
        Two: the official affine and deformation network. One: our own deformation network.
    register : callable
        Gives the affine map of fixed to moving points for our own network.
    device : str
        Torch device.

    Raises
    ------
    StageError
        As :func:`network_affine`, :func:`network_velocity`, ``compact_velocity``.
    """
    if len(files) == 1:
        affine = register()
        return NetworkStart(
            affine, compact_velocity(fixed, moving, affine, files[0], device=device), OWN
        )
    affine = network_affine(fixed, moving, files[0], device=device)
    velocity = network_velocity(fixed, moving, affine, files[1], device=device)
    return NetworkStart(affine, velocity, OFFICIAL)


@dataclass(frozen=True)
class NetworkSpace:
    """Cube of 1 mm voxels, axes left, inferior, anterior (LIA), about the middle of an image."""

    grid: Grid

    @classmethod
    def around(cls, volume: Volume, extent: int = EXTENT) -> NetworkSpace:
        """The space of an image."""
        affine = np.eye(4)
        affine[:3, :3] = [[-1, 0, 0], [0, 0, 1], [0, -1, 0]]
        affine[:3, 3] = volume.grid.centre_ras - affine[:3, :3] @ np.full(3, (extent - 1) / 2)
        return cls(Grid((extent,) * 3, affine))

    @property
    def half(self) -> Grid:
        """Every second voxel: where the networks work."""
        affine = self.grid.affine @ np.diag([2.0, 2, 2, 1])
        return Grid(tuple(n // 2 for n in self.grid.shape), affine)  # type: ignore[arg-type]

    @property
    def middle_to_ras(self) -> np.ndarray:
        """(4, 4) voxels relative to the middle -> RAS mm."""
        shift = np.eye(4)
        shift[:3, 3] = (np.array(self.grid.shape) - 1) / 2
        return self.grid.affine @ shift


def network_affine(
    fixed: Volume,
    moving: Volume,
    weights: str | os.PathLike,
    *,
    extent: int = EXTENT,
    device: str = "cpu",
) -> Affine:
    """Map of fixed points to moving points by the affine network.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z), in any orientation; the brain within ``extent`` mm.
    weights : path-like
        ``synthmorph.affine.2.h5``.

    Raises
    ------
    StageError
        The map is not one between two heads.
    """
    detector = load_detector(weights).to(device)
    spaces = [NetworkSpace.around(v, extent) for v in (fixed, moving)]
    images = [_image(_scaled(v, s), s.half, None, device) for v, s in zip((fixed, moving), spaces)]
    with torch.inference_mode():
        found = detector.affine(images[0], images[1], spaces[0].grid.shape)
    matrix = square(found.double().cpu())[0].numpy()
    total = spaces[1].middle_to_ras @ matrix @ np.linalg.inv(spaces[0].middle_to_ras)
    size = float(np.linalg.det(total[:3, :3])) if np.isfinite(total).all() else float("nan")
    if not DETERMINANTS[0] < size < DETERMINANTS[1]:
        raise StageError(
            f"SynthMorph's affine network gave a map with a determinant of {size:.3g}, which is "
            "none between two heads: check the T1w and the weights, or use --norm-engine refine."
        )
    return Affine(total)


def network_velocity(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    weights: str | os.PathLike,
    *,
    extent: int = EXTENT,
    device: str = "cpu",
) -> Displacement:
    """Stationary velocity of the deformation network, carried to the fixed space.

    Parameters
    ----------
    fixed, moving, extent
        As in :func:`network_affine`.
    affine : Affine
        Fixed points to moving points.
    weights : path-like
        ``synthmorph.deform.3.h5``.

    Returns
    -------
    Displacement
        mm (RAS) on a lattice of 2 mm in the fixed space; its flow acts before ``affine``.

    Raises
    ------
    StageError
        The affine map has no square root (it is a half turn).
    """
    net = load_deformation(weights).to(device)
    root = _half_way(affine)
    space = NetworkSpace.around(fixed, extent)
    # lattice of the space half way: where the lattice of the fixed image comes to lie
    middle = Grid(space.half.shape, space.half.affine.copy())
    middle.affine[:3, 3] += root.map_points(fixed.grid.centre_ras[None])[0] - fixed.grid.centre_ras
    own, other = (_scaled(v, NetworkSpace.around(v, extent)) for v in (fixed, moving))
    images = [
        _image(other, middle, root, device),
        _image(own, middle, root.inverse(), device),
    ]
    with torch.inference_mode():
        velocity = net(*images)[0].float()
    return conjugate(to_displacement(velocity, middle), root, space.half)


def conjugate(velocity: Displacement, root: Affine, grid: Grid) -> Displacement:
    """Velocity whose flow is ``root``, then the flow of ``velocity``, then ``root`` undone."""
    points = grid.points_ras().reshape(-1, 3)
    there = root.map_points(points)
    vectors = (velocity.map_points(there) - there) @ root.inverse().matrix[:3, :3].T
    return Displacement(vectors.reshape(*grid.shape, 3).astype(np.float32), grid.affine)


def _half_way(affine: Affine) -> Affine:
    try:
        root = matrix_root(torch.from_numpy(affine.matrix.copy())[None])[0].numpy()
    except torch.linalg.LinAlgError:
        root = np.full((4, 4), np.nan)
    if not (np.isfinite(root).all() and np.allclose(root @ root, affine.matrix, atol=1e-6)):
        raise StageError(
            "The affine map between the two heads has no square root (they are turned by about "
            "180 degrees): check the orientation of the T1w, or use --norm-engine refine."
        )
    root[3] = (0, 0, 0, 1)
    return Affine(root)


def _scaled(volume: Volume, space: NetworkSpace) -> Volume:
    """The image between 0 and 1, by its extremes in the network space (zeros around it)."""
    data = resample(volume, space.grid, None, "linear").data
    low, high = float(data.min()), float(data.max())
    if not high > low:
        raise StageError("The image is empty or constant: nothing can be registered.")
    return volume.like(((volume.data - low) / (high - low)).astype(np.float32))


def _image(
    volume: Volume, grid: Grid, transform: PointTransform | None, device: str
) -> torch.Tensor:
    """(1, 1, X, Y, Z) values on a lattice; zeros outside the image."""
    data = resample(volume, grid, transform, "linear").data
    return torch.from_numpy(data.astype(np.float32))[None, None].to(device)
