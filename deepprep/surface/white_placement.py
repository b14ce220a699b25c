"""The white surface: where intensity is half-way between the local means of white and grey."""

from __future__ import annotations

import numpy as np
import torch

from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.profiles import falling_crossing, spline_image
from deepprep.surface.vertex_smoothing import (
    filter_positions,
    fit_values,
    smooth_values,
    within_surface,
)
from deepprep.surface.vertex_tensors import SplineSampler, SurfaceTensors

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

EVEN = 0.3
"""Part of the way, each round, towards the middle of the neighbours within the surface: even triangles."""

POLISH_ROUNDS = 1
"""Position filters after each round: what one profile's noise moved."""


def place_white(mesh: Mesh, image: Volume, free: np.ndarray, device: str = "cpu") -> Mesh:
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
    device : str
        Torch device.

    Returns
    -------
    Mesh
        Same triangles.
    """
    surface = SurfaceTensors(mesh, device)
    sample = SplineSampler(spline_image(image, mesh.vertices), device)
    mean, at = surface.mean, surface.vertices
    steps = np.arange(-REACH_MM, REACH_MM + 1e-6, STEP_MM)
    loose = surface.tensor(free)
    for _ in range(ROUNDS):
        normals = surface.normals(at)
        levels, contrast = half_levels(sample, mean, at, normals, loose)
        profiles = sample.profiles(at, normals, steps)
        place, slope, found = falling_crossing(profiles, steps, levels)
        weights = (-slope / contrast.clamp(min=1e-6)).clamp(0.0, 1.5) * found * loose
        move = fit_values(mean, place, weights, STIFFNESS)
        at = at + (move.clamp(-0.7, 0.7) * loose)[:, None] * normals
        evened = at + EVEN * within_surface(mean @ at - at, surface.normals(at))
        polished = filter_positions(evened, mean, POLISH_ROUNDS)
        at = torch.where(loose[:, None] > 0, polished, at)
    return mesh.moved(np.where(free[:, None], at.cpu().numpy(), mesh.vertices))


def half_levels(
    sample: SplineSampler,
    mean: torch.Tensor,
    vertices: torch.Tensor,
    normals: torch.Tensor,
    weights: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Level between white and grey for each vertex, and their difference."""
    inner = sample.profiles(vertices, normals, np.linspace(*WHITE_DEPTH_MM, 5))
    # thin blades never reach the level of white matter, nor thin or buried cortex that of grey:
    # the brighter part stands for white, the middle for grey
    white = robust_mean(mean, inner.amax(dim=1), weights)
    grey = grey_level(sample, mean, vertices, normals, weights)
    return 0.5 * (white + grey), (white - grey).clamp(min=0.0)


def grey_level(
    sample: SplineSampler,
    mean: torch.Tensor,
    vertices: torch.Tensor,
    normals: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """(V,) local intensity of cortex above a white surface."""
    outer = sample.profiles(vertices, normals, np.linspace(*GREY_DEPTH_MM, 4))
    return robust_mean(mean, outer.quantile(0.5, dim=1), weights)


def robust_mean(mean: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Local mean over the surface of what is not far from the overall middle."""
    inside = weights > 0
    if not inside.any():
        raise ValueError("no vertex of the surface has cortex above it: do labels and image fit?")
    middle = values[inside].quantile(0.5)
    spread = 1.4826 * (values[inside] - middle).abs().quantile(0.5)
    weights = weights * ((values - middle).abs() < 2.5 * spread.clamp(min=1e-6))
    local = smooth_values(mean, values, weights, MEAN_ROUNDS)
    return torch.where(local != 0, local, middle)
