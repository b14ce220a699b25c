"""Loss of a training patch: coarse logits everywhere at 2 mm, fine logits on a tile at 1 mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from deepprep.segmentation.compact.network import HALO, SegmentationNet
from training.segmentation.labels import CLASSES

DICE_SMOOTHING = 5.0
"""Voxels added above and below in the soft Dice, so that slivers at the border weigh little."""


@dataclass(frozen=True)
class PatchLoss:
    """Total to minimise and its parts; Dice are soft, mean over the classes present."""

    total: torch.Tensor
    cross_entropy: float
    coarse_dice: float
    fine_dice: float


def coarse_target(target: torch.Tensor) -> torch.Tensor:
    """Share of each class in every 2x2x2 cube: (B, X, Y, Z) -> (B, classes, X/2, Y/2, Z/2)."""
    b, *size = target.shape
    a, d, e = (n // 2 for n in size)
    cubes = target.reshape(b, a, 2, d, 2, e, 2).permute(0, 2, 4, 6, 1, 3, 5)
    cubes = cubes.reshape(b, 8, a, d, e).long()
    share = torch.zeros(b, len(CLASSES), a, d, e, device=target.device)
    eighth = torch.full(cubes.shape, 0.125, device=target.device)
    return share.scatter_add_(1, cubes, eighth)


def patch_loss(
    net: SegmentationNet,
    image: torch.Tensor,
    target: torch.Tensor,
    origin: torch.Tensor,
    corner: tuple[int, int, int],
    tile: int,
    weights: torch.Tensor,
) -> PatchLoss:
    """Loss of one patch.

    Parameters
    ----------
    image, target, origin
        A :class:`training.segmentation.generator.Sample`'s fields.
    corner : tuple of int
        First voxel (even) of the fine tile's valid part.
    tile : int
        Side of the valid part, voxels; a halo is added around it inside the patch.
    weights : (classes,) tensor
        Weight of each class in the cross-entropy.
    """
    features = net.coarse(image, origin)
    logits = net.coarse_head(features).float()
    share = coarse_target(target)
    log_coarse = logits.log_softmax(1)
    coarse_ce = _weighted_cross_entropy(log_coarse, share, weights)
    coarse_dice = _soft_dice(log_coarse.exp(), share)

    outer, inner = [], []
    for start, size in zip(corner, image.shape[2:]):
        stop = min(size, start + tile)
        low, high = max(0, start - HALO), min(size, stop + HALO)
        outer.append(slice(low, high))
        inner.append(slice(start - low, stop - low))
    half = [slice(s.start // 2, s.stop // 2) for s in outer]
    fine = net.fine(image[:, :, *outer], features[:, :, *half])[:, :, *inner].float()
    truth = target[:, *(slice(c, c + tile) for c in corner)].long()
    log_fine = fine.log_softmax(1)
    fine_ce = F.nll_loss(log_fine, truth, weights)
    one_hot = F.one_hot(truth, len(CLASSES)).permute(0, 4, 1, 2, 3).float()
    fine_dice = _soft_dice(log_fine.exp(), one_hot)

    total = 0.5 * (coarse_ce + 1 - coarse_dice) + fine_ce + 1 - fine_dice
    return PatchLoss(total, fine_ce.item(), coarse_dice.item(), fine_dice.item())


def _weighted_cross_entropy(
    log_probability: torch.Tensor, share: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    weighted = share * weights.view(1, -1, 1, 1, 1)
    return -(weighted * log_probability).sum() / weighted.sum()


def _soft_dice(probability: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    dims = (0, 2, 3, 4)
    overlap = (probability * share).sum(dims)
    # squares, not sums: a voxel shared by two classes must be able to reach Dice 1
    size = (probability.square() + share.square()).sum(dims)
    present = share.sum(dims) > 0
    dice = (2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)
    return dice[present].mean()
