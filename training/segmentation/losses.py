"""Loss of a training patch: coarse logits everywhere at 2 mm, fine logits on a tile at 1 mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from deepprep.segmentation.compact.network import SegmentationNet, fine_part
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
    """Share of each class in every 2x2x2 cube: (B, X, Y, Z) -> (B, X/2, Y/2, Z/2, classes)."""
    b, *size = target.shape
    a, d, e = (n // 2 for n in size)
    cubes = target.reshape(b, a, 2, d, 2, e, 2).permute(0, 1, 3, 5, 2, 4, 6)
    cubes = cubes.reshape(b, a, d, e, 8).long()
    share = torch.zeros(b, a, d, e, len(CLASSES), device=target.device)
    eighth = torch.full(cubes.shape, 0.125, device=target.device)
    return share.scatter_add_(-1, cubes, eighth)


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
    log_coarse = _log_posterior(net.coarse_head(features))
    share = coarse_target(target).flatten(0, -2)
    weighted = share * weights
    coarse_ce = -(weighted * log_coarse).sum() / weighted.sum()
    posterior = log_coarse.exp()
    overlap = (posterior * share).sum(0)
    coarse_dice = _soft_dice(overlap, posterior, share.square().sum(0))

    part = [slice(c, min(n, c + tile)) for c, n in zip(corner, image.shape[2:])]
    log_fine = _log_posterior(fine_part(net, image, features, part))
    truth = target[:, *part].flatten().long()
    fine_ce = F.nll_loss(log_fine, truth, weights)
    posterior = log_fine.exp()
    # a sum over the voxels of each class: shares that are all 0 or 1 need not be written down
    overlap = torch.zeros_like(posterior[0])
    overlap = overlap.index_add(0, truth, posterior.gather(1, truth[:, None])[:, 0])
    size_of_truth = torch.bincount(truth, minlength=len(CLASSES)).to(overlap.dtype)
    fine_dice = _soft_dice(overlap, posterior, size_of_truth)

    total = 0.5 * (coarse_ce + 1 - coarse_dice) + fine_ce + 1 - fine_dice
    return PatchLoss(total, fine_ce.item(), coarse_dice.item(), fine_dice.item())


def _log_posterior(logits: torch.Tensor) -> torch.Tensor:
    """(N, classes) float32 of logits (B, classes, X, Y, Z), which lie channels last."""
    return logits.movedim(1, -1).flatten(0, -2).float().log_softmax(-1)


def _soft_dice(
    overlap: torch.Tensor, posterior: torch.Tensor, size_of_truth: torch.Tensor
) -> torch.Tensor:
    # squares, not sums: a voxel shared by two classes must be able to reach Dice 1
    size = posterior.square().sum(0) + size_of_truth
    present = size_of_truth > 0
    dice = (2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING)
    return dice[present].mean()
