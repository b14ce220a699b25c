"""The terms SUGAR is trained with, and their published weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = {
    "similarity": 1.0,
    "dice": 4.0,
    "laplacian": 2.0,
    "negative": 30.0,
    "angle": 1.0,
    "area": 1.5,
}
"""Published weights (similarity 1.5 and negative 35 at fsaverage6)."""
SCALE_MM = 100.0
"""Radius at which areas and distances are measured."""


def similarity(moved: Tensor, fixed: Tensor, spread: Tensor | None = None) -> Tensor:
    """Mean squared difference, each vertex over ``spread`` and the whole rescaled to the plain sum.

    Parameters
    ----------
    moved, fixed : (V,) tensors
    spread : (V,) tensor, optional
        Square root of the standard deviation over people.
    """
    squared = (moved - fixed) ** 2
    if spread is None:
        return squared.mean()
    weighted = squared / spread
    return (weighted * (squared.sum() / weighted.sum().clamp(min=1e-12))).mean()


def dice(first: Tensor, second: Tensor) -> Tensor:
    """1 - mean Dice of (V, L) memberships."""
    overlap = 2 * (first * second).sum(dim=0)
    return 1 - (overlap / (first + second).sum(dim=0).clamp(min=1e-5)).mean()


def laplacian(points: Tensor, start: Tensor, edges: Tensor) -> Tensor:
    """Change of the distance of each vertex from the middle of its neighbours, mm a coordinate.

    Parameters
    ----------
    points, start : (V, 3) tensors
        Unit vectors, moved and unmoved.
    edges : (2, E) int64 tensor
        Both directions.
    """

    def off(x: Tensor) -> Tensor:
        total = torch.zeros_like(x).index_add(0, edges[0], x[edges[1]])
        return SCALE_MM * (x - F.normalize(total, dim=1)).abs()

    return (off(points) - off(start)).abs().mean()


def signed_areas(points: Tensor, faces: Tensor) -> Tensor:
    """(F,) areas of triangles, negative where they face inwards."""
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    normal = torch.linalg.cross(b - a, c - a)
    area = 0.5 * normal.norm(dim=1)
    return torch.where((normal * a).sum(dim=1) < 0, -area, area)


def negative_area(points: Tensor, faces: Tensor) -> Tensor:
    """Mean of the negative areas' sizes, mm^2."""
    return F.relu(-signed_areas(SCALE_MM * points, faces)).mean()


def area_distortion(points: Tensor, start: Tensor, faces: Tensor) -> Tensor:
    """Mean relative change of the areas."""
    before = signed_areas(start, faces).abs()
    return (1 - signed_areas(points, faces).abs() / before).abs().mean()


def angle_distortion(points: Tensor, start: Tensor, faces: Tensor) -> Tensor:
    """Mean relative change of the cosines of the angles."""

    def cosines(x: Tensor) -> Tensor:
        a, b, c = x[faces[:, 0]], x[faces[:, 1]], x[faces[:, 2]]
        return torch.stack(
            [
                F.cosine_similarity(b - a, c - a, dim=1),
                F.cosine_similarity(a - b, c - b, dim=1),
                F.cosine_similarity(a - c, b - c, dim=1),
            ],
            dim=1,
        )

    return (1 - cosines(points) / cosines(start)).abs().mean()
