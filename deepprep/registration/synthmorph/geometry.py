"""Arithmetic of SynthMorph's affine network: barycentres, weighted fit, both directions.

Written from the paper (Hoffmann et al., Imaging Neuroscience 2024; 2:1-33). Coordinates are
relative to the middle of the lattice, in voxels of the full-resolution network space.
"""

from __future__ import annotations

import torch

TINY = 1e-6
"""Added where a sum of weights divides."""


def barycentres(
    features: torch.Tensor, full_shape: tuple[int, int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre of mass and power of each feature map.

    Parameters
    ----------
    features : (B, C, X, Y, Z) tensor
        Not negative.
    full_shape : (3,) ints
        Size of the lattice whose voxels are the unit of the result.

    Returns
    -------
    centres : (B, C, 3) tensor
        Relative to the middle; a map's own extent is scaled to ``full_shape``.
    power : (B, C) tensor
        Sum of each map as a share of all; sums to one.
    """
    total = features.sum((2, 3, 4))
    centres = []
    for axis, full in zip((2, 3, 4), full_shape):
        n = features.shape[axis]
        place = torch.arange(n, dtype=features.dtype, device=features.device) - (n - 1) / 2
        others = tuple(a for a in (2, 3, 4) if a != axis)
        moment = (features.sum(others) * place).sum(-1)
        centres.append(moment / (total + TINY) / n * full)
    return torch.stack(centres, -1), total / (total.sum(1, keepdim=True) + TINY)


def weighted_affine(
    source: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Least-squares map ``target = A source + t`` of weighted points.

    Parameters
    ----------
    source, target : (B, N, 3) tensors
    weight : (B, N) tensor
        Not negative.

    Returns
    -------
    (B, 3, 4) tensor
        ``[A | t]``.
    """
    ones = torch.ones_like(source[..., :1])
    design = torch.cat([source, ones], -1)
    left = design.transpose(1, 2) * weight[:, None]
    solution = torch.linalg.solve(left @ design, left @ target)
    return solution.transpose(1, 2)


def symmetric_affine(
    first: torch.Tensor, second: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """(B, 3, 4) map of ``first`` to ``second``: mean of the fit and the inverse of the reverse fit."""
    there = weighted_affine(first, second, weight)
    back = invert(weighted_affine(second, first, weight))
    return (there + back) / 2


def square(matrix: torch.Tensor) -> torch.Tensor:
    """(B, 3, 4) to (B, 4, 4)."""
    last = torch.tensor([0.0, 0, 0, 1], dtype=matrix.dtype, device=matrix.device)
    return torch.cat([matrix, last.expand(matrix.shape[0], 1, 4)], 1)


def invert(matrix: torch.Tensor) -> torch.Tensor:
    """Inverse of (B, 3, 4) maps."""
    return torch.linalg.inv(square(matrix))[:, :3]


def rigid_part(matrix: torch.Tensor) -> torch.Tensor:
    """The map without its scales and shears: ``A = R S`` with S upper triangular (QR)."""
    turn, upper = torch.linalg.qr(matrix[:, :, :3])
    sign = torch.sign(torch.diagonal(upper, dim1=1, dim2=2))
    # one decomposition of many: the one whose scales are positive
    return torch.cat([turn * sign[:, None], matrix[:, :, 3:]], -1)


def matrix_root(matrix: torch.Tensor, iterations: int = 12) -> torch.Tensor:
    """Square root of (B, 4, 4) near the identity, by the product form of Denman and Beavers."""
    root, inverse = matrix, torch.eye(4, dtype=matrix.dtype, device=matrix.device).expand_as(matrix)
    for _ in range(iterations):
        root, inverse = (
            (root + torch.linalg.inv(inverse)) / 2,
            (inverse + torch.linalg.inv(root)) / 2,
        )
    return root
