"""Smoothing of values and positions over the vertices of a mesh."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from deepprep.surface.mesh import Mesh


def neighbour_mean(mesh: Mesh) -> sparse.csr_matrix:
    """(V, V) matrix that takes the mean over the neighbours of each vertex."""
    adjacency = mesh.adjacency
    count = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1.0)
    return sparse.diags(1.0 / count).tocsr() @ adjacency


def smooth_values(
    mean: sparse.csr_matrix,
    values: np.ndarray,
    weights: np.ndarray,
    rounds: int,
) -> np.ndarray:
    """Weighted mean over a growing neighbourhood.

    Parameters
    ----------
    mean : (V, V) matrix
        Of :func:`neighbour_mean`.
    values : (V,) or (V, K) array
        What has weight 0 may hold anything finite.
    weights : (V,) array
        Not negative.
    rounds : int
        Each takes the half of the vertex and half of its neighbours; the standard deviation is
        about ``0.7 * sqrt(rounds)`` edges.

    Returns
    -------
    array of the shape of ``values``
        0 where no weight arrives.
    """
    columns = values.reshape(len(values), -1)
    state = np.concatenate([columns * weights[:, None], weights[:, None]], axis=1)
    for _ in range(rounds):
        state = 0.5 * (state + mean @ state)
    total = state[:, -1:]
    return (state[:, :-1] / np.where(total > 1e-12, total, np.inf)).reshape(values.shape)


def fit_values(
    mean: sparse.csr_matrix,
    values: np.ndarray,
    weights: np.ndarray,
    stiffness: float,
    rounds: int = 30,
) -> np.ndarray:
    """Smooth field near values: minimum of sum w (x - v)^2 + stiffness sum |difference|^2.

    Jacobi iterations of the membrane; ``stiffness`` counts per neighbourhood.
    """
    out = np.where(weights > 0, values, 0.0)
    out = fill_gaps(mean, out, weights)
    for _ in range(rounds):
        out = (weights * values + stiffness * (mean @ out)) / (weights + stiffness)
    return out


def fill_gaps(
    mean: sparse.csr_matrix, values: np.ndarray, weights: np.ndarray, rounds: int = 20
) -> np.ndarray:
    """Values where weights are positive, carried on to where they are 0 (0 if out of reach)."""
    near = smooth_values(mean, values, np.minimum(weights, 1.0), rounds)
    return np.where(weights > 0, values, near)


def relax_tangentially(
    mesh: Mesh, mean: sparse.csr_matrix, amount: float = 0.5, rounds: int = 1
) -> Mesh:
    """Move vertices within the surface towards the mean of their neighbours: even triangles."""
    for _ in range(rounds):
        normals = mesh.vertex_normals
        move = mean @ mesh.vertices - mesh.vertices
        move -= (move * normals).sum(axis=1, keepdims=True) * normals
        mesh = mesh.moved(mesh.vertices + amount * move)
    return mesh


def smooth_positions(
    mesh: Mesh,
    mean: sparse.csr_matrix,
    rounds: int,
    forward: float = 0.5,
    backward: float = -0.53,
) -> Mesh:
    """Low-pass filter of positions without shrinking (Taubin, SIGGRAPH 1995)."""
    vertices = mesh.vertices
    for _ in range(rounds):
        vertices = vertices + forward * (mean @ vertices - vertices)
        vertices = vertices + backward * (mean @ vertices - vertices)
    return mesh.moved(vertices)
