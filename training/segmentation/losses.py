"""Loss of a training patch: coarse logits everywhere at 2 mm, fine logits on a tile at 1 mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepprep.segmentation.compact.network import SegmentationNet, fine_part

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
    """Classes of the eight voxels of each 2x2x2 cube: (B, X, Y, Z) -> (B, X/2, Y/2, Z/2, 8)."""
    b, *size = target.shape
    a, d, e = (n // 2 for n in size)
    cubes = target.reshape(b, a, 2, d, 2, e, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return cubes.reshape(b, a, d, e, 8).long()


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
    cubes = coarse_target(target).flatten(0, -2)
    coarse_ce, coarse_dice = voxel_losses(net.coarse_head(features), cubes, weights)
    part = [slice(c, min(n, c + tile)) for c, n in zip(corner, image.shape[2:])]
    truth = target[:, *part].flatten().long()[:, None]
    fine_ce, fine_dice = voxel_losses(fine_part(net, image, features, part), truth, weights)
    total = 0.5 * (coarse_ce + 1 - coarse_dice) + fine_ce + 1 - fine_dice
    return PatchLoss(total, fine_ce.item(), coarse_dice.item(), fine_dice.item())


def voxel_losses(
    logits: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted cross-entropy and soft Dice (mean over the classes present).

    Parameters
    ----------
    logits : (B, classes, X, Y, Z) tensor
        Lies channels last.
    truth : (B X Y Z, K) int64 tensor
        Classes of the K equal parts of each voxel.
    weights : (classes,) tensor
        Of the cross-entropy.
    """
    rows = logits.movedim(1, -1).flatten(0, -2)
    return _VoxelLosses.apply(rows.float(), truth, weights)


class _VoxelLosses(torch.autograd.Function):
    """:func:`voxel_losses` of (N, classes) logits; its derivative is written down, which saves passes."""

    @staticmethod
    def forward(ctx, logits, truth, weights):
        parts = truth.shape[1]
        total = logits.logsumexp(1, keepdim=True)
        posterior = (logits - total).exp_()
        importance = weights[truth] / weights[truth].sum()
        entropy = -(importance * (logits.gather(1, truth) - total)).sum()

        of_truth = posterior.gather(1, truth) / parts
        flat = truth.flatten()
        overlap = torch.zeros_like(posterior[0]).index_add_(0, flat, of_truth.flatten())
        # a part's class has a share of so many parts in its voxel
        share = (truth[:, :, None] == truth[:, None, :]).sum(-1).to(posterior) / parts**2
        truth_size = torch.zeros_like(overlap).index_add_(0, flat, share.flatten())
        # squares, not sums: a voxel shared by two classes must be able to reach Dice 1
        size = posterior.square().sum(0) + truth_size + DICE_SMOOTHING
        present = (truth_size > 0).to(posterior)
        dice = present * (2 * overlap + DICE_SMOOTHING) / size / present.sum()
        ctx.save_for_backward(posterior, truth, importance, of_truth)
        ctx.of_overlap = 2 * present / size / present.sum()
        ctx.of_squares = -dice / size
        return entropy, dice.sum()

    @staticmethod
    def backward(ctx, by_entropy, by_dice):
        posterior, truth, importance, of_truth = ctx.saved_tensors
        # by the posterior p: 2 s p, and o / parts at each part's class; then through the softmax
        squares = 2 * by_dice * ctx.of_squares
        at_truth = by_dice * ctx.of_overlap[truth] * of_truth
        out = posterior.square().mul_(squares)
        along = by_entropy * importance.sum(1) - at_truth.sum(1) - out.sum(1)
        out.addcmul_(posterior, along[:, None])
        out.scatter_add_(1, truth, at_truth - by_entropy * importance)
        return out, None, None
