"""Our own, small version of SynthMorph's deformation network: brains at 2 mm, velocity at 4 mm.

As published (Hoffmann et al., IEEE TMI 2022; 41:543-558) two images of any contrast go to a stationary
velocity that is antisymmetric in them. Ours has fewer filters and predicts the velocity from coarse to
fine, each lattice adding to the one before. It sees brains that an affine map has aligned already.
``training/registration`` makes the weights.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import nn

from deepprep.errors import StageError
from deepprep.image.conform import to_ras
from deepprep.image.volume import Grid, Volume
from deepprep.nn.described_weights import read_weights, with_weights
from deepprep.registration.flow import lattice, to_displacement
from deepprep.registration.pyramid import on_grid
from deepprep.registration.transforms import Affine, Displacement
from deepprep.registration.velocity import border_window, exponential, identity, pull

SPACING_MM = 2.0
"""Voxels of the network's input."""

HALVINGS = 3
"""Of the lattice inside the network: the sides of its input are multiples of 8."""

FILTERS = (16, 32, 48, 64)
"""At 2, 4, 8 and 16 mm."""

PASSES = 2
"""The network looks again at what its first velocity leaves: it asks for too little at once. A third
pass adds nothing (one silver pair: Dice of structures 0.710, 0.734, 0.732)."""

SLOPE = 0.2
"""Of the leaky rectifiers."""


class CompactDeformation(nn.Module):
    """Two images to a stationary velocity.

    Parameters
    ----------
    filters : (4,) ints
        Channels at 2, 4, 8 and 16 mm.
    """

    def __init__(self, filters: tuple[int, ...] = FILTERS) -> None:
        super().__init__()
        a, b, c, d = filters
        self.filters = tuple(filters)
        self.down = nn.ModuleList([_conv(2, a), _conv(a, b), _conv(b, c), _conv(c, d)])
        self.bottom = _conv(d, d)
        self.up = nn.ModuleList([_conv(d + c, c), _conv(c + b, b)])
        self.fine = nn.ModuleList([_conv(b, b), _conv(b, b)])
        self.heads = nn.ModuleList([_still(d), _still(c), _still(b)])

    def one_way(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """(B, 3, X/2, Y/2, Z/2) velocity in voxels of the input; sides divisible by 8."""
        x = _active(self.down[0], torch.cat([moving, fixed], 1))
        skips = []
        for conv in self.down[1:]:
            skips.append(x)
            x = _active(conv, nn.functional.max_pool3d(x, 2))
        x = _active(self.bottom, x)
        velocity = self.heads[0](x)
        for conv, head, skip in zip(self.up, self.heads[1:], skips[:0:-1]):
            x = _active(conv, torch.cat([_twice(x), skip], 1))
            if conv is self.up[-1]:
                for more in self.fine:
                    x = _active(more, x)
            velocity = _twice(velocity) + head(x)
        return velocity

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Velocity at half the resolution; swapping the images changes its sign."""
        both = self.one_way(torch.cat([moving, fixed]), torch.cat([fixed, moving]))
        there, back = both.chunk(2)
        return 0.5 * (there - back)


def _conv(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, padding=1)


def _still(inputs: int) -> nn.Conv3d:
    """A velocity that is next to nothing before training."""
    conv = _conv(inputs, 3)
    nn.init.normal_(conv.weight, std=1e-4)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


def _active(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return nn.functional.leaky_relu(conv(x), SLOPE)


def _twice(x: torch.Tensor) -> torch.Tensor:
    """On the lattice of twice the resolution; voxels split in half, as pooling joined them."""
    return nn.functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


def load_compact(path: str | os.PathLike) -> CompactDeformation:
    """Network of a safetensors file whose metadata hold its architecture.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown or of another shape.
    """
    described, state = read_weights(path)
    net = CompactDeformation(tuple(int(n) for n in described["filters"]))
    return with_weights(net, state, path)


def compact_velocity(
    fixed: Volume,
    moving: Volume,
    affine: Affine,
    weights: str | os.PathLike,
    *,
    passes: int = PASSES,
    device: str = "cpu",
) -> Displacement:
    """Stationary velocity of the compact network in the fixed space.

    Velocities of several passes are added, which composes their flows to first order.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z) brains, zero outside, of any contrast.
    affine : Affine
        Fixed points to moving points.
    weights : path-like
        Safetensors file.
    passes : int
        How often the network is asked.
    device : str
        Torch device.

    Returns
    -------
    Displacement
        mm (RAS) on a lattice of 2 mm; its flow acts before ``affine``.

    Raises
    ------
    StageError
        An image is empty or constant.
    """
    net = load_compact(weights).to(device)
    # the network has seen heads whose axes are right, anterior, superior
    fixed = to_ras(fixed)
    if not (fixed.data != 0).any():
        raise StageError("The fixed image is empty: nothing can be registered.")
    grid = network_grid(fixed)
    there, here = _as_input(moving, grid, affine, device), _as_input(fixed, grid, None, device)
    ident, window = identity(grid.shape, device), border_window(grid.shape, 4, device)
    velocity = torch.zeros_like(ident)
    with torch.inference_mode():
        for _ in range(passes):
            warped = pull(there[0], exponential(velocity, ident), ident)[None]
            step = _twice(net(warped, here).float())[0]
            velocity = ((velocity + step) * window).contiguous()
    return to_displacement(velocity, grid)


def network_grid(fixed: Volume) -> Grid:
    """Lattice of 2 mm along the axes of the fixed image about its brain; sides multiples of 8."""
    found = lattice(fixed.grid, fixed.data != 0, SPACING_MM)
    shape = -(-np.array(found.shape) // 2**HALVINGS) * 2**HALVINGS
    affine = found.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ ((shape - found.shape) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _as_input(volume: Volume, grid: Grid, init: Affine | None, device: str) -> torch.Tensor:
    """(1, 1, X, Y, Z) intensities in which bright tissue is 1; zeros outside the image."""
    data = on_grid(volume, grid, init)
    if not data.max() > data.min():
        raise StageError("The image is empty or constant: nothing can be registered.")
    return torch.from_numpy(data)[None, None].to(device)
