"""The white surface: where intensity is half-way between the local means of white and grey."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.profiles import (
    SplineImage,
    falling_crossing,
    sample_profiles,
    spline_image,
)
from deepprep.surface.vertex_smoothing import (
    fit_values,
    neighbour_mean,
    relax_tangentially,
    smooth_positions,
    smooth_values,
)

REACH_MM = 1.5
"""How far from the surface the border is looked for."""

STEP_MM = 0.15
"""Distance between samples of a profile."""

WHITE_DEPTH_MM = (-2.2, -1.0)
"""Where white matter is measured, along the outward normal."""

GREY_DEPTH_MM = (0.9, 1.8)
"""Where cortex is measured: beyond the partial volume of white matter, before that of fluid."""

MEAN_ROUNDS = 150
"""Neighbourhood of the local means: a standard deviation of about 8 mm."""

STIFFNESS = 0.6
"""Weight of neighbours against a vertex's own profile of average slope."""

ROUNDS = 4
"""Repeated with new normals and profiles."""

POLISH_ROUNDS = 1
"""Position filters after each round: what one profile's noise moved."""


def place_white(mesh: Mesh, image: Volume, free: np.ndarray) -> Mesh:
    """Move a white surface to the border of white matter and cortex.

    Each vertex looks along its normal for the place nearest to it where the intensity falls
    through the mean of two local levels: of white matter below it and of cortex above it, both
    averaged over the surface. The displacements are smoothed as a field, weighted by the slope of
    the profiles; vertices that are not ``free`` follow their neighbours only.

    Parameters
    ----------
    mesh : Mesh
        First white surface; right within about 1 mm.
    image : Volume
        (X, Y, Z) bias-corrected T1w.
    free : (V,) bool array
        Vertices next to cortex. The others lie where intensities say nothing (ventricle, corpus
        callosum, brain stem) and stay.

    Returns
    -------
    Mesh
        Same triangles.
    """
    spline = spline_image(image, mesh.vertices)
    mean = neighbour_mean(mesh)
    steps = np.arange(-REACH_MM, REACH_MM + 1e-6, STEP_MM)
    loose = free.astype(np.float64)
    for _ in range(ROUNDS):
        normals = mesh.vertex_normals
        levels, contrast = half_levels(mesh, mean, spline, normals, loose)
        profiles = sample_profiles(spline, mesh.vertices, normals, steps)
        place, slope, found = falling_crossing(profiles, steps, levels)
        weights = np.clip(-slope / np.maximum(contrast, 1e-6), 0.0, 1.5) * found * loose
        move = fit_values(mean, place, weights, STIFFNESS)
        move = np.clip(move, -0.7, 0.7) * loose
        mesh = mesh.moved(mesh.vertices + move[:, None] * normals)
        polished = smooth_positions(relax_tangentially(mesh, mean, 0.3), mean, POLISH_ROUNDS)
        mesh = mesh.moved(np.where(free[:, None], polished.vertices, mesh.vertices))
    return mesh


def half_levels(
    mesh: Mesh,
    mean: sparse.csr_matrix,
    spline: SplineImage,
    normals: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Level between white and grey for each vertex, and their difference."""
    inner = sample_profiles(spline, mesh.vertices, normals, np.linspace(*WHITE_DEPTH_MM, 5))
    outer = sample_profiles(spline, mesh.vertices, normals, np.linspace(*GREY_DEPTH_MM, 4))
    # thin blades never reach the level of white matter, nor thin or buried cortex that of grey:
    # the brighter part stands for white, the middle for grey
    white = robust_mean(mean, inner.max(axis=1), weights)
    grey = robust_mean(mean, np.median(outer, axis=1), weights)
    return 0.5 * (white + grey), np.maximum(white - grey, 0.0)


def robust_mean(mean: sparse.csr_matrix, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Local mean over the surface of what is not far from the overall middle."""
    inside = weights > 0
    if not inside.any():
        raise ValueError("no vertex of the surface has cortex above it: do labels and image fit?")
    middle = float(np.median(values[inside]))
    spread = 1.4826 * float(np.median(np.abs(values[inside] - middle)))
    weights = weights * (np.abs(values - middle) < 2.5 * max(spread, 1e-6))
    local = smooth_values(mean, values.astype(np.float64), weights, MEAN_ROUNDS)
    return np.where(local != 0, local, middle)
