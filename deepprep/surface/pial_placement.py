"""The pial surface: out from the white surface to where cortex ends or meets the other bank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Grid, Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.outward_paths import (
    PATH_STEP_MM,
    follow,
    outward_field,
    outward_grid,
    paths,
)
from deepprep.surface.profiles import SplineImage, sample_points, sample_profiles, spline_image
from deepprep.surface.vertex_smoothing import (
    fit_values,
    neighbour_mean,
    relax_tangentially,
    smooth_positions,
)
from deepprep.surface.white_placement import GREY_DEPTH_MM, robust_mean

FIRST_MM = 0.5
"""Cortex is at least this thick: before, the partial volume of white matter is seen."""

LONGEST_MM = 5.0
"""The path is looked at so far."""

FULL_SPEED = 0.8
"""Fraction of grey from which the front moves at full speed: noise must not bend it."""

LEAST_SPEED = 0.15
"""Speed of the front in fluid."""

STIFFNESS = 0.4
"""Weight of the neighbours' depth against a vertex's own."""


@dataclass(frozen=True)
class PialLimits:
    """What else the pial surface has to keep to.

    Attributes
    ----------
    fluid : Volume
        Local mean of fluid, in the units of the image.
    allowed : Volume
        float32; paths end where it falls below 0.5.
    """

    fluid: Volume
    allowed: Volume


def place_pial(white: Mesh, image: Volume, limits: PialLimits, free: np.ndarray) -> Mesh:
    """Grow the pial surface from a white surface.

    Parameters
    ----------
    white : Mesh
    image : Volume
        (X, Y, Z) bias-corrected T1w.
    limits : PialLimits
    free : (V,) bool array
        Vertices under cortex; elsewhere the pial surface is the white surface.

    Returns
    -------
    Mesh
        Triangles of ``white``.
    """
    mean = neighbour_mean(white)
    spline = spline_image(image, white.vertices)
    loose = free.astype(np.float64)
    normals = white.vertex_normals
    outer = sample_profiles(spline, white.vertices, normals, np.linspace(*GREY_DEPTH_MM, 4))
    grey = robust_mean(mean, np.median(outer, axis=1), loose)
    fluid = sample_linear_at(limits.fluid, white.vertices)
    grid = outward_grid(white)
    field = outward_field(white, grid, _speed(image, grid, float(np.median(grey[free])),
                                              float(np.median(fluid[free]))))  # fmt: skip
    n_steps = int(round(LONGEST_MM / PATH_STEP_MM))
    track, end_mm = paths(field, white.vertices, n_steps)
    end_mm = np.minimum(end_mm, _allowed_mm(limits.allowed, track))
    depth, sure = _depth(spline, track, 0.5 * (grey + fluid), end_mm)
    depth = fit_values(mean, depth, sure * loose, STIFFNESS)
    depth = np.clip(depth, 0.0, end_mm) * _taper(mean, loose)
    ends, _ = follow(field, white.vertices, depth)
    return white.moved(ends)


def _taper(mean, loose: np.ndarray) -> np.ndarray:
    """1 in cortex, falling to 0 over three vertices at its border."""
    inner = loose
    total = loose.copy()
    for _ in range(3):
        inner = inner * (mean @ inner > 0.999)
        total += inner
    return total / 4.0


def _speed(image: Volume, grid: Grid, grey: float, fluid: float) -> np.ndarray:
    between = image.grid.ras2vox @ grid.affine
    data = ndimage.affine_transform(
        np.nan_to_num(np.asarray(image.data, dtype=np.float32)), between[:3, :3], between[:3, 3],
        grid.shape, order=1, mode="nearest",
    )  # fmt: skip
    fraction = (data - fluid) / (grey - fluid)
    return np.clip(fraction / FULL_SPEED, LEAST_SPEED, 1.0)


def _depth(spline: SplineImage, track: np.ndarray, levels: np.ndarray, end_mm: np.ndarray):
    """First place along each path below its level, or the end of the path."""
    n = track.shape[1]
    values = sample_points(spline, track.reshape(-1, 3).astype(np.float64)).reshape(-1, n)
    at = PATH_STEP_MM * np.arange(n)
    first = int(round(FIRST_MM / PATH_STEP_MM))
    below = values <= levels[:, None]
    below[:, :first] = False
    hit = below.argmax(axis=1)
    found = below[np.arange(len(hit)), hit] & (at[hit] <= end_mm + PATH_STEP_MM)
    before = np.maximum(hit - 1, 0)
    rows = np.arange(len(hit))
    drop = values[rows, before] - values[rows, hit]
    part = (values[rows, before] - levels) / np.where(drop > 1e-6, drop, 1.0)
    depth = np.where(found, at[before] + PATH_STEP_MM * np.clip(part, 0, 1), end_mm)
    return np.minimum(depth, end_mm), np.ones(len(depth))


def _allowed_mm(allowed: Volume, track: np.ndarray) -> np.ndarray:
    n = track.shape[1]
    inside = sample_linear_at(allowed, track.reshape(-1, 3)).reshape(-1, n) >= 0.5
    inside[:, : int(round(FIRST_MM / PATH_STEP_MM))] = True
    out = np.where(inside.all(axis=1), n, inside.argmin(axis=1)) - 1
    return PATH_STEP_MM * out


def sample_linear_at(volume: Volume, points_ras: np.ndarray) -> np.ndarray:
    """Trilinear values at points, RAS mm; the nearest border value outside."""
    voxels = points_ras @ volume.grid.ras2vox[:3, :3].T + volume.grid.ras2vox[:3, 3]
    return ndimage.map_coordinates(volume.data, voxels.T, order=1, mode="nearest")
