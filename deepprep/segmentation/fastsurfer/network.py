"""The two FastSurfer networks: competitive dense blocks, index unpooling, resolution layer.

Written from the published descriptions (Henschel et al., NeuroImage 2020 and 2022) so that the
names and shapes of all tensors are those of the official checkpoints. Input of both: slices with
three neighbours on each side, (B, 7, H, W) in 0..1; output: logits (B, classes, H, W).
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from deepprep.segmentation.fastsurfer.zoom import zoom2d

CHANNELS = 7
"""A slice and three neighbours on each side."""

FILTERS_V1 = 64
FILTERS_VINN = 71
FILTERS_INPUT_VINN = 32
"""Features at the native resolution, before VINN's resolution layer."""

BASE_SIZE = 256
"""Side of the lattice of 1 mm pixels on which VINN's U-Net works."""

Entry = Literal["maxout", "normalised", "plain"]


class DenseBlock(nn.Module):
    """Competitive dense block: each convolution competes with the best so far (maxout).

    Parameters
    ----------
    inputs, filters : int
        Channels in and out.
    steps : int
        Convolutions that compete; one more, not competing, ends the block.
    kernel, last_kernel : int
        Sides of the kernels of the competing and of the last convolution.
    entry : {'maxout', 'normalised', 'plain'}
        What meets the first convolution: the activated input, which also competes; the
        batch-normalised input of the network; the activated input, which does not compete
        (its number of channels differs).
    norm : str
        Prefix of the names of the normalisations (``gn`` in VINN's outer blocks).
    """

    def __init__(
        self,
        inputs: int,
        filters: int,
        *,
        steps: int,
        kernel: int,
        last_kernel: int,
        entry: Entry = "maxout",
        norm: str = "bn",
    ) -> None:
        super().__init__()
        self.entry, self.norm, self.steps = entry, norm, steps
        for i in range(steps + 1):
            size = kernel if i < steps else last_kernel
            into = inputs if i == 0 else filters
            self.add_module(f"conv{i}", nn.Conv2d(into, filters, size, padding=size // 2))
        if entry == "normalised":
            self.bn0 = nn.BatchNorm2d(inputs)
        for i in range(1, steps + 2):
            self.add_module(f"{norm}{i}", nn.BatchNorm2d(filters))
        self.prelu = nn.PReLU()

    def _convolve(self, i: int, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, f"{self.norm}{i + 1}")(getattr(self, f"conv{i}")(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = self._convolve(0, self.bn0(x) if self.entry == "normalised" else self.prelu(x))
        if self.entry == "maxout":
            best = torch.maximum(x, best)
        for i in range(1, self.steps):
            best = torch.maximum(self._convolve(i, self.prelu(best)), best)
        return self._convolve(self.steps, self.prelu(best))


class Classifier(nn.Module):
    """1x1 convolution to logits."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class _CompetitiveUNet(nn.Module):
    """Four levels down and up; maxima return to where they came from; maxout skips."""

    def __init__(self, inputs: int, filters: int, *, steps: int, kernel: int, last_kernel: int):
        super().__init__()

        def block(into: int = filters, entry: Entry = "maxout") -> DenseBlock:
            return DenseBlock(
                into, filters, steps=steps, kernel=kernel, last_kernel=last_kernel, entry=entry
            )

        self.encode1 = block(inputs, "normalised")
        self.encode2, self.encode3, self.encode4 = block(), block(), block()
        self.bottleneck = block()
        self.decode4, self.decode3, self.decode2, self.decode1 = block(), block(), block(), block()

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) -> (B, filters, H, W); H and W are multiples of 16."""
        skips = []
        for encode in (self.encode1, self.encode2, self.encode3, self.encode4):
            skip = encode(x)
            x, where = F.max_pool2d(skip, 2, return_indices=True)
            skips.append((skip, where))
        x = self.bottleneck(x)
        for decode in (self.decode4, self.decode3, self.decode2, self.decode1):
            skip, where = skips.pop()
            x = decode(torch.maximum(F.max_unpool2d(x, where, [2, 2]), skip))
        return x


class FastSurferCNN(_CompetitiveUNet):
    """FastSurferCNN v1: 64 filters of 5x5, slices of 256x256 pixels of 1 mm.

    Parameters
    ----------
    classes : int
        79 for axial and coronal, 51 for sagittal slices.
    """

    def __init__(self, classes: int = 79) -> None:
        super().__init__(CHANNELS, FILTERS_V1, steps=2, kernel=5, last_kernel=1)
        self.classifier = Classifier(FILTERS_V1, classes)

    def forward(self, x: torch.Tensor, scale: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
        """Logits (B, classes, H, W) of stacks (B, 7, H, W); ``scale`` is not used."""
        return self.classifier(self.features(x))


class FastSurferVINN(_CompetitiveUNet):
    """FastSurferVINN: features of any voxel size are resampled to 1 mm inside the network.

    Parameters
    ----------
    classes : int
        79 for axial and coronal, 51 for sagittal slices.
    base_size : int
        Side of the inner lattice; a multiple of 16.
    """

    def __init__(self, classes: int = 79, base_size: int = BASE_SIZE) -> None:
        outer = FILTERS_INPUT_VINN
        super().__init__(outer, FILTERS_VINN, steps=3, kernel=3, last_kernel=3)
        self.base_size = base_size
        self.inp_block = DenseBlock(
            CHANNELS, outer, steps=3, kernel=3, last_kernel=3, entry="normalised", norm="gn"
        )
        self.outp_block = DenseBlock(
            FILTERS_VINN + outer, FILTERS_VINN,
            steps=3, kernel=3, last_kernel=3, entry="plain", norm="gn",
        )  # fmt: skip
        self.classifier = Classifier(FILTERS_VINN, classes)

    def forward(self, x: torch.Tensor, scale: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
        """Logits (B, classes, H, W) of stacks (B, 7, H, W).

        ``scale`` is 1 mm over the size of a pixel in mm, down and across.
        """
        native = self.inp_block(x)
        inner, realised = zoom2d(native, scale, (self.base_size, self.base_size))
        back, _ = zoom2d(self.features(inner), realised, native.shape[2:], inverse=True)
        return self.classifier(self.outp_block(torch.cat([back, native], dim=1)))


FastSurferNet = FastSurferCNN | FastSurferVINN


def folded(net: FastSurferNet) -> FastSurferNet:
    """A copy for inference whose batch normalisations are part of the convolutions before them.

    Exact but for rounding; the normalisations of the inputs (``bn0``) stay.
    """
    net = copy.deepcopy(net).eval()
    for block in net.modules():
        if isinstance(block, DenseBlock):
            for i in range(block.steps + 1):
                convolution, name = getattr(block, f"conv{i}"), f"{block.norm}{i + 1}"
                fused = fuse_conv_bn_eval(convolution, getattr(block, name))
                setattr(block, f"conv{i}", fused)
                setattr(block, name, nn.Identity())
    return net
