"""SynthMorph's feature detector and deformation network in torch.

Architectures as published (Hoffmann et al., IEEE TMI 2022; 41:543-558 and Imaging Neuroscience
2024; 2:1-33): both work at half the resolution of their 1 mm network space. The deformation
network's kernels are made by a hypernetwork from the strength of regularisation; here they are
computed once for one strength (``weights.collapse``), so that an ordinary U-Net runs.
"""

from __future__ import annotations

import torch
from torch import nn

from deepprep.registration.synthmorph.geometry import barycentres, symmetric_affine
from deepprep.registration.velocity import compose, identity

SLOPE = 0.2
"""Of the leaky rectifiers."""

LEVELS = 4
"""Halvings of the lattice in both networks."""

SQUARINGS = 7
"""Steps of scaling and squaring of the velocity."""

DETECTOR_PARAMETERS = 12_837_696
"""Of the published feature detector (256 filters, 64 maps)."""

DEFORM_PARAMETERS = 26_579_715
"""Of the published deformation network at one regularisation strength."""


def _conv(inputs: int, outputs: int) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, padding=1)


class FeatureDetector(nn.Module):
    """Image to feature maps whose barycentres match between heads.

    Parameters
    ----------
    filters, maps : int
        256 and 64 in the published network.
    """

    def __init__(self, filters: int = 256, maps: int = 64) -> None:
        super().__init__()
        self.down = nn.ModuleList([_conv(1 if i == 0 else filters, filters) for i in range(LEVELS)])
        self.same = nn.ModuleList([_conv(filters, filters) for _ in range(LEVELS)])
        self.last = _conv(filters, maps)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, X, Y, Z) at half resolution to (B, maps, X/16, Y/16, Z/16), not negative."""
        x = image
        for conv in self.down:
            x = nn.functional.max_pool3d(nn.functional.leaky_relu(conv(x), SLOPE), 2)
        for conv in self.same:
            x = nn.functional.leaky_relu(conv(x), SLOPE)
        return torch.relu(self.last(x))

    def affine(
        self, fixed: torch.Tensor, moving: torch.Tensor, full_shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """(B, 3, 4) map of fixed to moving points, voxels of ``full_shape`` about its middle."""
        a, power_a = barycentres(self(fixed), full_shape)
        b, power_b = barycentres(self(moving), full_shape)
        return symmetric_affine(a, b, power_a * power_b)


class DeformationNet(nn.Module):
    """Two images to a stationary velocity field that is antisymmetric in them.

    Parameters
    ----------
    filters : int
        256 in the published network; 32 or 64 in a compact one.
    """

    def __init__(self, filters: int = 256) -> None:
        super().__init__()
        self.down = nn.ModuleList([_conv(2 if i == 0 else filters, filters) for i in range(LEVELS)])
        # the skip of the finest level is the output of the first convolution, before pooling
        self.up = nn.ModuleList(
            [_conv(filters if i == 0 else 2 * filters, filters) for i in range(LEVELS)]
        )
        self.fine = nn.ModuleList(
            [_conv(2 * filters if i == 0 else filters, filters) for i in range(LEVELS)]
        )
        self.last = _conv(filters, 3)

    def one_way(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """(B, 3, X, Y, Z) velocity of the U-Net, in voxels; sides divisible by 16."""
        x = torch.cat([moving, fixed], 1)
        skips = []
        for conv in self.down:
            x = nn.functional.leaky_relu(conv(x), SLOPE)
            skips.append(x)
            x = nn.functional.max_pool3d(x, 2)
        for conv in self.up:
            x = nn.functional.leaky_relu(conv(x), SLOPE)
            x = torch.cat([nn.functional.interpolate(x, scale_factor=2), skips.pop()], 1)
        for conv in self.fine:
            x = nn.functional.leaky_relu(conv(x), SLOPE)
        return self.last(x)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Velocity; swapping the images changes its sign."""
        return 0.5 * (self.one_way(moving, fixed) - self.one_way(fixed, moving))


def integrate(velocity: torch.Tensor, steps: int = SQUARINGS) -> torch.Tensor:
    """Displacement of the flow over unit time, (3, X, Y, Z) voxels, by a fixed number of squarings."""
    field = velocity / 2**steps
    ident = identity(tuple(velocity.shape[1:]), velocity.device)
    for _ in range(steps):
        field = compose(field, field, ident)
    return field


def count_parameters(module: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in module.parameters())
