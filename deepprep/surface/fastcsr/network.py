"""FastCSR's network: a 3D U-Net (nnU-Net's) that regresses a level set.

Two inputs (T1w, filled hemispheres), one linear output. Sizes come from the plans in the
checkpoint. Names of the parts are those of the official tensors.

References
----------
Ren J, et al. Fast cortical surface reconstruction from MRI using deep learning. Brain Informatics
9:6, 2022.
Isensee F, et al. nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation. Nature Methods 18:203-211, 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

MOST_FEATURES = 320
"""Widest convolution of a 3D network of nnU-Net."""

Kernel = tuple[int, int, int]


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network.

    Attributes
    ----------
    pools : tuple of kernels
        Stride from each resolution to the next.
    kernels : tuple of kernels
        Convolution kernel of each resolution, one more than ``pools``.
    base_features : int
        Width at full resolution; doubled at each step down to ``MOST_FEATURES``.
    convolutions : int
        Convolutions at each resolution.
    inputs : int
        Input channels.
    """

    pools: tuple[Kernel, ...] = ((2, 2, 2),) * 5
    kernels: tuple[Kernel, ...] = ((3, 3, 3),) * 6
    base_features: int = 32
    convolutions: int = 2
    inputs: int = 2

    def width(self, depth: int) -> int:
        """Number of features ``depth`` steps down."""
        return min(self.base_features << depth, MOST_FEATURES)


class ConvolutionUnit(nn.Module):
    """Convolution, instance normalisation, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: Kernel) -> None:
        super().__init__()
        a, b, c = ((k - 1) // 2 for k in kernel)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, (a, b, c))
        self.instnorm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.lrelu = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, X, Y, Z) to (B, outputs, X', Y', Z')."""
        return self.lrelu(self.instnorm(self.conv(x)))


class Stack(nn.Module):
    """Several units; the first one may halve the resolution."""

    def __init__(
        self, inputs: int, outputs: int, n: int, kernel: Kernel, stride: Kernel = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                ConvolutionUnit(
                    inputs if i == 0 else outputs, outputs, kernel, stride if i == 0 else (1, 1, 1)
                )
                for i in range(n)
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All units in turn."""
        return self.blocks(x)


class LevelSetNet(nn.Module):
    """See the module's text.

    Parameters
    ----------
    architecture : Architecture, optional
        Default: nnU-Net's plan for 1 mm and patches of 128^3 (31 194 848 parameters).
    """

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = a = architecture or Architecture()
        depth, n = len(a.pools), a.convolutions
        strides = ((1, 1, 1), *a.pools)
        widths = [a.inputs, *(a.width(d) for d in range(depth + 1))]
        context: list[nn.Module] = [
            Stack(widths[d], widths[d + 1], n, a.kernels[d], strides[d]) for d in range(depth)
        ]
        context.append(
            nn.Sequential(
                Stack(widths[depth], widths[depth + 1], n - 1, a.kernels[depth], strides[depth]),
                Stack(widths[depth + 1], widths[depth + 1], 1, a.kernels[depth]),
            )
        )
        localization: list[nn.Module] = []
        up: list[nn.Module] = []
        outputs: list[nn.Module] = []
        for d in reversed(range(depth)):
            width = a.width(d)
            up.append(nn.ConvTranspose3d(a.width(d + 1), width, a.pools[d], a.pools[d], bias=False))
            localization.append(
                nn.Sequential(
                    Stack(2 * width, width, n - 1, a.kernels[d]),
                    Stack(width, width, 1, a.kernels[d]),
                )
            )
            outputs.append(nn.Conv3d(width, 1, 1, bias=False))
        self.conv_blocks_localization = nn.ModuleList(localization)
        self.conv_blocks_context = nn.ModuleList(context)
        self.tu = nn.ModuleList(up)
        self.seg_outputs = nn.ModuleList(outputs)

    @property
    def multiple(self) -> tuple[int, ...]:
        """Each side of an input must be a multiple of this."""
        out = torch.tensor(self.architecture.pools).prod(dim=0)
        return tuple(int(n) for n in out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, X, Y, Z) to (B, 1, X, Y, Z): level / 3 mm, negative inside."""
        skips = []
        for stage in self.conv_blocks_context[:-1]:
            x = stage(x)
            skips.append(x)
        x = self.conv_blocks_context[-1](x)
        for up, stage in zip(self.tu, self.conv_blocks_localization):
            x = stage(torch.cat([up(x), skips.pop()], dim=1))
        # the other outputs served deep supervision in training
        return self.seg_outputs[-1](x)
