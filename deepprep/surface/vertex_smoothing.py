"""Smoothing of values and positions over the vertices of a mesh."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from scipy import sparse

from deepprep.surface.mesh import Mesh

Positions = TypeVar("Positions", np.ndarray, torch.Tensor)
"""(V, 3), mm."""


def neighbour_mean(mesh: Mesh) -> sparse.csr_matrix:
    """(V, V) matrix that takes the mean over the neighbours of each vertex."""
    adjacency = mesh.adjacency
    count = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)
    return sparse.diags(1.0 / count).tocsr() @ adjacency


def smooth_values(
    mean: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    rounds: int,
) -> torch.Tensor:
    """Weighted mean over a growing neighbourhood.

    Parameters
    ----------
    mean : (V, V) sparse tensor
        Mean over neighbours.
    values, weights : (V,) tensors
        Weights are not negative; what has weight 0 may hold anything finite.
    rounds : int
        Each takes the half of the vertex and half of its neighbours; the standard deviation is
        about ``0.7 * sqrt(rounds)`` edges.

    Returns
    -------
    (V,) tensor
        0 where no weight arrives.
    """
    state = torch.stack([values * weights, weights], dim=1)
    for _ in range(rounds):
        state = 0.5 * (state + mean @ state)
    total = state[:, 1]
    return torch.where(total > 1e-12, state[:, 0] / total.clamp(min=1e-12), 0.0)


def fit_values(
    mean: torch.Tensor,
    values: torch.Tensor,
    weights: torch.Tensor,
    stiffness: float,
    rounds: int = 30,
) -> torch.Tensor:
    """Smooth field near values: minimum of sum w (x - v)^2 + stiffness sum |difference|^2.

    Jacobi iterations of the membrane; ``stiffness`` counts per neighbourhood.
    """
    out = torch.where(weights > 0, values, 0.0)
    out = fill_gaps(mean, out, weights)
    for _ in range(rounds):
        out = (weights * values + stiffness * (mean @ out)) / (weights + stiffness)
    return out


def fill_gaps(
    mean: torch.Tensor, values: torch.Tensor, weights: torch.Tensor, rounds: int = 20
) -> torch.Tensor:
    """Values where weights are positive, carried on to where they are 0 (0 if out of reach)."""
    near = smooth_values(mean, values, weights.clamp(max=1.0), rounds)
    return torch.where(weights > 0, values, near)


def within_surface(move: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
    """What of (V, 3) vectors lies in the surface."""
    return move - (move * normals).sum(dim=1, keepdim=True) * normals


def filter_positions(
    vertices: Positions,
    mean: sparse.csr_matrix | torch.Tensor,
    rounds: int,
    forward: float = 0.5,
    backward: float = -0.53,
) -> Positions:
    """Low-pass filter of positions without shrinking (Taubin, SIGGRAPH 1995)."""
    for _ in range(rounds):
        vertices = vertices + forward * (mean @ vertices - vertices)
        vertices = vertices + backward * (mean @ vertices - vertices)
    return vertices
