"""The pial surface: out from the white surface to where cortex ends or meets the other bank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.volume import Grid, Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.outward_field import OutwardVelocity, outward_field, outward_grid
from deepprep.surface.profiles import image_box, spline_image
from deepprep.surface.vertex_smoothing import filter_positions, within_surface
from deepprep.surface.vertex_tensors import LinearSampler, SplineSampler, SurfaceTensors
from deepprep.surface.white_placement import grey_level

N_STEPS = 54
"""Steps of growth; 5 mm of cortex take 25, the rest settles valleys and noise."""

STEP_MM = 0.22
"""Length of a step at full speed."""

FULL_SPEED = 0.8
"""Fraction of grey from which the front moves at full speed: noise must not bend it."""

LEAST_SPEED = 0.15
"""Speed of the front in fluid."""

HEAD_ON = 0.3
"""A bank rests where the front's velocity along its normal falls to this: 1 in free cortex, 0 half
way between two banks. 0.3 leaves a gap of about 0.3 mm between them."""

GREY_SHARE = 0.5
"""Level of the pial surface between fluid (0) and cortex (1)."""

DARK_REACH_MM = 1.0
"""Fluid beside a vertex is as dark as the darkest voxel so near, along each axis. Around real cortex
fluid is often thinner than a voxel and shared with vessels and pia: half of the way to pure fluid then
lies far into the other bank, 0.2 to 0.4 mm outside of FreeSurfer's ribbon. Where fluid is wide this is
pure fluid, and half height stays exact."""

THIN_FLUID = 0.4
"""Greatest level of that fluid, of the way from pure fluid to cortex. Above it none is seen: banks
that touch are held apart by the meeting of their fronts, not by intensity."""

GLIDE = (0.3, 0.5)
"""Where two fronts meet, their common velocity is the sine of half the angle between them. Between
parallel banks motion along the surface stops: they would glide outwards together, leave the bottom
of their sulcus behind, and run out of their way (``MOST_MM``) before they reach the crown. Over the
bottom of an open valley banks do glide outwards together."""

BACKWARD = 0.5
"""Greatest speed of a bank back to where it rests: smoothing may have pushed it across."""

SPREAD = 0.5
"""Part of the way, each step, of a vertex's displacement from white towards that of its neighbours,
along the surface. Displacements are evened, not positions: vertices stay above their white ones."""

SMOOTH_EVERY = 3
"""Steps between two filters of the positions: a filter at every step rounds off crowns."""

SOFTNESS = 0.25
"""Within this part of the difference of grey and fluid around the border, steps become shorter."""

LIMIT_MM = 0.4
"""Within this distance of a limit, steps become shorter."""

BEYOND_MM = 1.0
"""So far beyond a limit the front is slow everywhere: nobody needs to know its way there."""

MOST_MM = 8.0
"""Greatest distance of a pial vertex from its white vertex: ways bend, they are longer than cortex
is thick."""


@dataclass(frozen=True)
class PialLimits:
    """What else the pial surface has to keep to.

    Attributes
    ----------
    fluid : Volume
        Local mean of fluid, in the units of the image.
    room : Volume
        Distance to what the surface must not reach, mm, negative beyond.
    """

    fluid: Volume
    room: Volume


def place_pial(
    white: Mesh, image: Volume, limits: PialLimits, free: np.ndarray, device: str = "cpu"
) -> Mesh:
    """Grow the pial surface from a white surface.

    All vertices move at once along the arrival time of a front from the white surface
    (:mod:`deepprep.surface.outward_field`), forward where the intensity is above half of the way
    from the fluid beside them to local cortex, backward where it is below.

    Parameters
    ----------
    white : Mesh
        Without self-intersections.
    image : Volume
        (X, Y, Z) bias-corrected T1w.
    limits : PialLimits
    free : (V,) bool array
        Vertices under cortex; elsewhere the pial surface is the white surface.
    device : str
        Torch device; the front itself grows on the CPU.

    Returns
    -------
    Mesh
        Triangles of ``white``.
    """
    surface = SurfaceTensors(white, device)
    start, mean = surface.vertices, surface.mean
    sample = SplineSampler(spline_image(image, white.vertices), device)
    loose = surface.tensor(free)
    grey = grey_level(sample, mean, start, surface.normals(start), loose)
    fluid = torch.minimum(LinearSampler.of(limits.fluid, device)(start), 0.9 * grey)
    gap = grey - fluid
    grid = outward_grid(white)
    under = loose > 0
    speed = _speed(image, grid, float(grey[under].quantile(0.5)), float(fluid[under].quantile(0.5)))
    speed[_on_grid(limits.room, grid) < -BEYOND_MM] = LEAST_SPEED
    velocity = OutwardVelocity(outward_field(white, grid, speed), device)
    most = MOST_MM * _taper(mean, loose)
    darkest = LinearSampler.of(_darkest_near(image, white.vertices), device)
    room = LinearSampler.of(limits.room, device)
    at = start
    for step in range(N_STEPS):
        normals = surface.normals(at)
        ahead, along = _gated(velocity(at), normals)
        thin = ((darkest(at) - fluid) / gap).clamp(0.0, THIN_FLUID)
        level = GREY_SHARE + (1.0 - GREY_SHARE) * thin
        forward = (((sample(at) - fluid) / gap - level) / SOFTNESS).clamp(-1.0, 1.0)
        far = (at - start).norm(dim=1)
        for left_mm in (room(at), most - far):
            forward = torch.minimum(forward, (left_mm / LIMIT_MM).clamp(-1.0, 1.0))
        move = (along + ahead[:, None] * normals) * forward[:, None]
        for _ in range(2):
            move = 0.5 * (move + mean @ move)
        moved = at + STEP_MM * move
        # even the displacements from the white surface, along the surface
        away = moved - start
        moved = moved + SPREAD * within_surface(mean @ away - away, surface.normals(moved))
        if step % SMOOTH_EVERY == SMOOTH_EVERY - 1:
            moved = filter_positions(moved, mean, 1)
        at = torch.where(under[:, None], moved, start)
    return white.moved(np.where(free[:, None], at.cpu().numpy(), white.vertices))


def _darkest_near(image: Volume, points_ras: np.ndarray) -> Volume:
    """Least intensity within ``DARK_REACH_MM`` along each axis, around points."""
    box, affine = image_box(image, points_ras, MOST_MM + DARK_REACH_MM)
    size = 2 * np.maximum(1, np.rint(DARK_REACH_MM / image.zooms_mm)).astype(int) + 1
    data = np.nan_to_num(np.asarray(image.data[box], dtype=np.float32))
    return Volume(ndimage.minimum_filter(data, size=tuple(size)), affine)


def _gated(velocity: torch.Tensor, normals: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Speed along the normal and velocity along the surface, both ending where fronts meet."""
    ahead = (velocity * normals).sum(dim=1)
    low, high = GLIDE
    open_way = ((velocity.norm(dim=1, keepdim=True) - low) / (high - low)).clamp(0.0, 1.0)
    along = within_surface(velocity, normals) * open_way
    return ((ahead - HEAD_ON) / (1.0 - HEAD_ON)).clamp(-BACKWARD, 1.0), along


def _taper(mean: torch.Tensor, loose: torch.Tensor) -> torch.Tensor:
    """1 in cortex, falling to 0 over a few vertices at its border."""
    inner = loose
    total = loose.clone()
    for _ in range(3):
        inner = inner * (mean @ inner > 0.999)
        total += inner
    return total / 4.0


def _speed(image: Volume, grid: Grid, grey: float, fluid: float) -> np.ndarray:
    fraction = (_on_grid(image, grid) - fluid) / (grey - fluid)
    return np.clip(fraction / FULL_SPEED, LEAST_SPEED, 1.0)


def _on_grid(volume: Volume, grid: Grid) -> np.ndarray:
    between = volume.grid.ras2vox @ grid.affine
    return ndimage.affine_transform(
        np.nan_to_num(np.asarray(volume.data, dtype=np.float32)), between[:3, :3], between[:3, 3],
        grid.shape, order=1, mode="nearest",
    )  # fmt: skip
