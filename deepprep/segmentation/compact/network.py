"""The segmentation network: whole-brain context at 2 mm, borders at 1 mm.

Input: a brain at 1 mm, axes to right, anterior, superior, skull removed (or not), and where
its middle is. The image is folded 2x2x2 into channels, so that a U-Net with eight times fewer
voxels sees all of it; its features are unfolded again and two convolutions at 1 mm beside the
image itself draw the borders (sub-pixel convolution, Shi et al., CVPR 2016). Coordinates
relative to the middle of the brain enter at 4 and 16 mm: left and right cannot be confused.

Batch normalisation uses stored statistics at inference and in the later part of training, so a
patch, a tile and a whole head give the same numbers, and any crop may be used. (Normalisation
over the channels of a voxel was tried first: it takes the absolute intensity away right after
the first convolution, and the loss stood still.)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from deepprep.segmentation.labels import mirrored

CLASSES = (
    0, 24, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 26, 28,
    41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60,
)  # fmt: skip
"""FreeSurfer number of each output channel."""

STRIDE = 16
"""Each side of an input must be a multiple of this."""

HALO = 2
"""Voxels at the border of a fine tile that padding may touch (two 3-wide convolutions); even."""

COORDINATES = 8


@dataclass(frozen=True)
class Architecture:
    """Widths: coarse U-Net at 2, 4, 8 and 16 mm; features raised to 1 mm; fine head; classes."""

    coarse: tuple[int, int, int, int] = (32, 64, 96, 128)
    fine: int = 24
    lift: int = 15
    classes: int = len(CLASSES)

    def to_dict(self) -> dict:
        """Plain values, for a checkpoint."""
        return asdict(self)


class Block(nn.Sequential):
    """Two 3x3x3 convolutions, each followed by normalisation and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for i, o in ((inputs, outputs), (outputs, outputs)):
            layers += [
                nn.Conv3d(i, o, 3, padding=1, bias=False),
                nn.BatchNorm3d(o, momentum=0.02),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def forward(self, x: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        """Features of ``x``; with ``skip``, of ``x`` at twice its resolution beside ``skip``.

        Where the statistics of the normalisation are stored ones, it is part of the convolution: no passes
        over the features for it, neither forward nor backward.
        """
        for first in (0, 3):
            convolution, normalisation = self[first], self[first + 1]
            assert isinstance(convolution, nn.Conv3d) and isinstance(normalisation, nn.BatchNorm3d)
            weight, bias = convolution.weight, None
            if not normalisation.training:
                weight, bias = _with_normalisation(weight, normalisation)
            if skip is None:
                x = F.conv3d(x, weight, bias, padding=1)
            else:
                x, skip = upsampled_convolution(x, skip, weight, bias), None
            if normalisation.training:
                x = normalisation(x)
            x = F.relu(x, inplace=True)
        return x


def _with_normalisation(
    weight: torch.Tensor, normalisation: nn.BatchNorm3d
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution that does what it and the normalisation after it do."""
    mean, variance = normalisation.running_mean, normalisation.running_var
    assert mean is not None and variance is not None
    scale = normalisation.weight * torch.rsqrt(variance + normalisation.eps)
    return weight * scale[:, None, None, None, None], normalisation.bias - mean * scale


CHILD_TAPS = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
"""(2, 2, 3): which of three taps along an axis fall on the first and on the second of the two voxels
that the first and the second child of a voxel see."""


def upsampled_convolution(
    x: torch.Tensor, skip: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """3x3x3 convolution of ``x`` at twice its resolution (nearest neighbour) beside ``skip``.

    The eight children of a voxel are the same eight times over, so each child sees only 2x2x2 different
    voxels of ``x``: 8 instead of 27 products, and the larger image is never written.

    Parameters
    ----------
    x : (B, C, X, Y, Z) tensor
    skip : (B, D, 2 X, 2 Y, 2 Z) tensor
    weight : (O, C + D, 3, 3, 3) tensor
    bias : (O,) tensor or None

    Returns
    -------
    (B, O, 2 X, 2 Y, 2 Z) tensor
    """
    channels, outputs = x.shape[1], weight.shape[0]
    taps = CHILD_TAPS.to(weight)
    own = torch.einsum("oixyz,apx,bqy,crz->abcoipqr", weight[:, :channels], taps, taps, taps)
    seen = F.conv3d(x, own.reshape(8 * outputs, channels, 2, 2, 2), padding=1).movedim(1, -1)
    b, i, j, k = x.shape[0], *x.shape[2:]
    children = [
        seen[:, p : p + i, q : q + j, r : r + k, (4 * p + 2 * q + r) * outputs :][..., :outputs]
        for p in (0, 1)
        for q in (0, 1)
        for r in (0, 1)
    ]
    spread = torch.stack(children, dim=-2).view(b, i, j, k, 2, 2, 2, outputs)
    spread = spread.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, 2 * i, 2 * j, 2 * k, outputs)
    return F.conv3d(skip, weight[:, channels:], bias, padding=1) + spread.movedim(-1, 1)


def fold(x: torch.Tensor) -> torch.Tensor:
    """(B, C, X, Y, Z) -> (B, 8 C, X/2, Y/2, Z/2)."""
    b, c, *size = x.shape
    a, d, e = (n // 2 for n in size)
    x = x.reshape(b, c, a, 2, d, 2, e, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, 8 * c, a, d, e)


def coordinate_channels(
    origin: torch.Tensor, shape: Sequence[int], step: int, like: torch.Tensor
) -> torch.Tensor:
    """(B, 8, X, Y, Z) functions of position on a lattice of ``step`` mm.

    ``origin`` (B, 3) is the position of the 1 mm voxel (0, 0, 0) relative to the middle of
    the brain, mm; ``shape`` that of the lattice.
    """
    x, y, z = (
        (origin[:, axis, None] + step * torch.arange(n, device=like.device) + (step - 1) / 2) / 80
        for axis, n in enumerate(shape)
    )
    x, y, z = x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
    parts = (x, y, z, torch.tanh(16 * x), x * x, y * y, z * z, torch.sqrt(x * x + y * y + z * z))
    full = [p.expand(len(origin), *shape) for p in parts]
    out = torch.stack(full, dim=1).to(like.dtype)
    return out.contiguous(memory_format=torch.channels_last_3d)


class SegmentationNet(nn.Module):
    """See the module's text; logits are in the order of ``CLASSES``."""

    def __init__(self, architecture: Architecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or Architecture()
        f0, f1, f2, f3 = self.architecture.coarse
        fine, classes = self.architecture.fine, self.architecture.classes
        lift = self.architecture.lift
        self.down0 = Block(8, f0)
        self.down1 = Block(f0 + COORDINATES, f1)
        self.down2 = Block(f1, f2)
        self.bottom = Block(f2 + COORDINATES, f3)
        self.up2 = Block(f3 + f2, f2)
        self.up1 = Block(f2 + f1, f1)
        self.up0 = Block(f1 + f0, f0)
        self.coarse_head = nn.Conv3d(f0, classes, 1)
        self.lift = nn.Conv3d(f0, lift * 8, 1)
        self.fine_block = Block(lift + 1, fine)
        self.fine_head = nn.Conv3d(fine, classes, 1)

    def coarse(self, image: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
        """Features (B, F, X/2, Y/2, Z/2) of a whole input (B, 1, X, Y, Z)."""
        if any(n % STRIDE for n in image.shape[2:]):
            raise ValueError(f"sides must be multiples of {STRIDE}, not {tuple(image.shape[2:])}")
        skip0 = self.down0(fold(image).contiguous(memory_format=torch.channels_last_3d))
        x = F.max_pool3d(skip0, 2)
        skip1 = self.down1(torch.cat([x, coordinate_channels(origin, x.shape[2:], 4, x)], 1))
        skip2 = self.down2(F.max_pool3d(skip1, 2))
        x = F.max_pool3d(skip2, 2)
        x = self.bottom(torch.cat([x, coordinate_channels(origin, x.shape[2:], 16, x)], 1))
        for block, skip in ((self.up2, skip2), (self.up1, skip1), (self.up0, skip0)):
            x = block(x, skip)
        return x

    def fine(
        self, image: torch.Tensor, features: torch.Tensor, inner: Sequence[slice] = ()
    ) -> torch.Tensor:
        """Logits (B, classes, x, y, z) at 1 mm of a tile of the image and of its features.

        ``inner`` is the part of the tile that is wanted, all of it if empty.
        """
        x = self.fine_block(self._raised(features, image))[:, :, *inner]
        # as a product of matrices: oneDNN is slow at a 1x1x1 convolution with 33 outputs
        weight, bias = self.fine_head.weight.flatten(1), self.fine_head.bias
        return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)

    def _raised(self, features: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Features (B, lift + 1, 2 X, 2 Y, 2 Z) for the 1 mm head, the image as the last of them.

        Each 2 mm voxel is lifted to the features of its eight children (the order of :func:`fold`) and these
        are spread out, room for the image among them, in one pass over memory.
        """
        n, width = self.architecture.lift, self.architecture.lift + 1
        weight = F.pad(self.lift.weight.view(n, 8, -1).transpose(0, 1), (0, 0, 0, 1))
        assert self.lift.bias is not None
        bias = F.pad(self.lift.bias.view(n, 8).T, (0, 1))
        x = F.linear(features.movedim(1, -1), weight.flatten(0, 1), bias.flatten())
        b, i, j, k, _ = x.shape
        x = x.view(b, i, j, k, 2, 2, 2, width).permute(0, 1, 4, 2, 5, 3, 6, 7)
        x = x.reshape(b, 2 * i, 2 * j, 2 * k, width)
        x[..., -1] = image[:, 0]
        return x.movedim(-1, 1)

    def forward(self, image: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes, X, Y, Z); for large inputs see :func:`predict`."""
        return self.fine(image, self.coarse(image, origin))

    def sides_swapped(self) -> SegmentationNet:
        """A copy with left and right exchanged in its output: for the mirror image of a head."""
        twins = [CLASSES.index(mirrored(label)) for label in CLASSES]
        swapped = copy.deepcopy(self)
        for values in swapped.fine_head.parameters():
            values.data = values.data[twins]
        return swapped


def fine_part(
    net: SegmentationNet, image: torch.Tensor, features: torch.Tensor, part: Sequence[slice]
) -> torch.Tensor:
    """Logits (B, classes, x, y, z) at 1 mm in a part (even bounds) of an image, as in one pass."""
    outer = [
        slice(max(0, p.start - HALO), min(size, p.stop + HALO))
        for p, size in zip(part, image.shape[2:])
    ]
    half = [slice(o.start // 2, o.stop // 2) for o in outer]
    inner = [slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, outer)]
    return net.fine(image[:, :, *outer], features[:, :, *half], inner)


@torch.no_grad()
def predict(
    net: SegmentationNet, image: torch.Tensor, origin: torch.Tensor, slab: int = 32
) -> torch.Tensor:
    """Class indices (X, Y, Z) uint8 of one image (1, 1, X, Y, Z).

    The fine head runs in slabs along x, so that logits never take more than
    ``slab * Y * Z * classes`` numbers; the result is that of one pass.
    """
    features = net.coarse(image, origin)
    out = torch.empty(image.shape[2:], dtype=torch.uint8, device=image.device)
    size = image.shape[2]
    across = [slice(0, n) for n in image.shape[3:]]
    for start in range(0, size, slab):
        part = slice(start, min(size, start + slab))
        logits = fine_part(net, image, features, (part, *across))
        out[part] = logits[0].argmax(0).to(torch.uint8)
    return out
