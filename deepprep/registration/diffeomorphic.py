"""Diffeomorphic registration by a stationary velocity field.

The map is the flow of one velocity field (Arsigny et al. 2006), driven by demons forces on
locally normalised images, which is local correlation (Vercauteren et al. 2009, log-domain
demons; Lorenzi et al. 2013, LCC-demons), from coarse to fine. The overlap of brain structures
and tissue maps can drive it too; a lesion is left out and bridged (cost-function masking,
Brett et al. 2001).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deepprep.image.volume import Grid, Volume
from deepprep.registration.flow import (
    FINAL_STEP_VOX,
    MARGIN_MM,
    DeformableResult,
    finish,
    lattice,
    refine,
    to_displacement,
    voxel_velocity,
)
from deepprep.registration.label_channels import LabelPair, soft_groups
from deepprep.registration.lesion import with_rim
from deepprep.registration.pyramid import clean, on_grid
from deepprep.registration.transforms import Affine, Chain, Displacement
from deepprep.registration.velocity import (
    Smoother,
    border_window,
    exponential,
    identity,
    pull,
)
from deepprep.registration.warping import agreement, demons_force


@dataclass(frozen=True)
class Level:
    """Settings of one resolution."""

    spacing_mm: float
    iterations: int
    force_sigma_vox: float
    velocity_sigma_vox: float


LEVELS = (
    Level(4.0, 60, 1.2, 0.7),
    Level(2.0, 40, 1.2, 0.7),
    Level(1.5, 8, 1.2, 0.7),
    Level(1.0, 6, 1.2, 0.7),
)
"""Coarse to fine: the Gaussians keep force (fluid) and velocity (diffusion) smooth."""

WINDOW_RADIUS_VOX = 4
"""Half width of the window of local correlation."""

CONTRAST_FLOOR = 0.05
"""Local standard deviation, as a fraction of the intensity range, taken for noise."""

TISSUE_SCALE = 2.0
"""Weight of a tissue probability against a locally normalised image."""

LABEL_SCALE = 1.5
"""Weight of the share of a structure against a locally normalised image."""

LESION_REACH_MM = 12.0
"""Width (Gaussian) from which the update is carried across a lesion."""

NEAR_MM = 7.0
"""How far fine levels reach beyond the fixed brain; coarse ones as far as the lattice."""

FINE_SPACING_MM = 1.5
"""Levels so fine or finer do so."""

BLEND_VOX = 4
"""Width over which what they find fades into what was there."""

MAX_UPDATE_VOX = 0.75
"""Largest force at a voxel, before smoothing."""

SEARCH_STEP_VOX = 0.7
"""Largest first step of the flow during the search."""

STOP_GAIN = 2e-4
"""A level ends when five iterations gain less agreement than this."""


@dataclass(frozen=True)
class ChannelPair:
    """A further pair of images that must match, for instance two grey-matter maps (0..1).

    Parameters
    ----------
    fixed, moving : Volume
        On any lattice of the fixed and the moving space.
    weight : float
        Relative to the image itself.
    """

    fixed: Volume
    moving: Volume
    weight: float = 1.0


def register_diffeomorphic(
    fixed: Volume,
    moving: Volume,
    init: Affine,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    channels: Sequence[ChannelPair] = (),
    labels: LabelPair | None = None,
    lesion: Volume | None = None,
    start: Displacement | None = None,
    levels: Sequence[Level] = LEVELS,
    device: str = "cpu",
    seed: int = 0,
) -> DeformableResult:
    """Find the smooth invertible map of fixed points to moving points.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z) images, best stripped or with masks.
    init : Affine
        Fixed points to moving points, from ``register_affine``.
    fixed_mask, moving_mask : Volume, optional
        Brain masks (above 0.5 is inside) on any lattice; the image is zeroed outside.
    channels : sequence of ChannelPair
        Further pairs, such as tissue probabilities, that pull with the image.
    labels : LabelPair, optional
        Segmentations of both heads, whose overlap pulls with the image.
    lesion : Volume, optional
        Mask (above 0.5 is inside) in the MOVING space: nothing there or within 2 mm of it
        counts, and the map is carried across from around it.
    start : Displacement, optional
        Stationary velocity in mm (RAS) in the fixed space, to begin with instead of zero.
    levels : sequence of Level
        Resolutions, coarse to fine.
    device : str
        Torch device.
    seed : int
        Unused: nothing here is random. Kept so that all engines are called alike.

    Returns
    -------
    DeformableResult
        On the fixed field of view at the finest working resolution; its Jacobian is positive
        everywhere.

    Raises
    ------
    InputError
        An image or a mask is empty or constant.
    """
    started = time.perf_counter()
    pairs = [ChannelPair(clean(fixed, fixed_mask, "fixed"), clean(moving, moving_mask, "moving"))]
    if lesion is not None:
        lesion = with_rim(lesion)
    velocity, grid, log = _search(pairs, channels, labels, lesion, init, start, levels, device)
    result = finish(velocity, grid, fixed.grid, init, log)
    log["seconds"] = round(time.perf_counter() - started, 2)
    return result


def rough_map(
    fixed: Volume, moving: Volume, init: Affine, labels: LabelPair | None = None
) -> Chain:
    """Map of fixed points to moving points by the coarsest level alone: seconds, and 1 to 2 mm.

    For what is smooth itself, such as the probabilities of an atlas. The map is the flow of a smooth
    velocity on a lattice of 4 mm; it is not searched for folds.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z) stripped images.
    init : Affine
        Fixed points to moving points, from ``register_affine``.
    labels : LabelPair, optional
        Segmentations of both heads, whose overlap pulls with the image.

    Raises
    ------
    InputError
        An image is empty or constant.
    """
    pairs = [ChannelPair(clean(fixed, None, "fixed"), clean(moving, None, "moving"))]
    velocity, grid, _ = _search(pairs, (), labels, None, init, None, LEVELS[:1], "cpu")
    flow = exponential(velocity, identity(grid.shape), FINAL_STEP_VOX)
    return Chain([to_displacement(flow, grid), init])


def _search(
    pairs: Sequence[ChannelPair],
    channels: Sequence[ChannelPair],
    labels: LabelPair | None,
    lesion: Volume | None,
    init: Affine,
    start: Displacement | None,
    levels: Sequence[Level],
    device: str,
) -> tuple[torch.Tensor, Grid, dict]:
    """Velocity (3, X, Y, Z) in voxels of the lattice of the last level, and what to log."""
    fixed = pairs[0].fixed
    brain = fixed.data != 0
    log: dict = {"levels": []}
    velocity: torch.Tensor | None = None
    previous: Grid | None = None
    for level in levels:
        grid = lattice(fixed.grid, brain, level.spacing_mm)
        if start is not None and velocity is None:
            velocity = voxel_velocity(start, grid, device)
        if velocity is None:
            velocity = torch.zeros(3, *grid.shape, device=device)
        if previous is not None:
            velocity = refine(velocity, previous, grid)
        near, box = _near_brain(grid, level.spacing_mm)
        # nothing keeps the images of a level beyond it: at 1 mm they take 0.4 GB
        found, entry = _Work(near, level, pairs, channels, labels, lesion, init, device).run(
            velocity[box], whole=near.shape == grid.shape
        )
        blend = border_window(near.shape, BLEND_VOX, device) if near.shape != grid.shape else 1.0
        velocity[box] += blend * (found - velocity[box])
        log["levels"].append(entry)
        previous = grid
    assert velocity is not None and previous is not None
    return velocity, previous, log


def _near_brain(grid: Grid, spacing_mm: float) -> tuple[Grid, tuple[slice, ...]]:
    """The part of a working lattice that a level works on, and its place in (3, X, Y, Z) fields.

    Fine levels leave out most of the margin: nothing pulls there, and what coarse ones found stays.
    """
    cut = 0 if spacing_mm > FINE_SPACING_MM else int((MARGIN_MM - NEAR_MM) / spacing_mm)
    box = tuple(slice(cut, n - cut) for n in grid.shape)
    return grid.part(box), (slice(None), *box)


class _Work:
    """Both images, prepared, on one lattice."""

    def __init__(
        self,
        grid: Grid,
        level: Level,
        pairs: Sequence[ChannelPair],
        channels: Sequence[ChannelPair],
        labels: LabelPair | None,
        lesion: Volume | None,
        init: Affine,
        device: str,
    ) -> None:
        self.level = level
        self.ident = identity(grid.shape, device)
        self.fluid = Smoother(grid.shape, level.force_sigma_vox, device=device)
        self.diffusion = Smoother(grid.shape, level.velocity_sigma_vox, device=device)
        to = torch.device(device)
        self.healthy: torch.Tensor | None = None
        if lesion is not None:
            sick = torch.from_numpy(on_grid(lesion, grid, init, False)).to(to)
            self.healthy = (1.0 - 2.0 * sick).clamp(min=0.0)
            reach = LESION_REACH_MM / level.spacing_mm
            self.wide = Smoother(grid.shape, reach, device=device)
        images = [(on_grid(p.fixed, grid, None), on_grid(p.moving, grid, init)) for p in pairs]
        self.n_images = len(images)
        self.inside = torch.from_numpy(images[0][0] != 0).float().to(to)
        self.box = Smoother(grid.shape, box_radius=WINDOW_RADIUS_VOX, device=device)
        self.plain = [torch.from_numpy(f).to(to) for f, _ in images]
        fixed = [_normal(f, self.box, None) for f in self.plain]
        moving = [torch.from_numpy(m).to(to) for _, m in images]
        for c in channels:
            # The scale of a map enters the force through both residual and slope
            gain = TISSUE_SCALE * float(np.sqrt(c.weight))
            fixed.append(torch.from_numpy(on_grid(c.fixed, grid, None, False)).to(to) * gain)
            moving.append(torch.from_numpy(on_grid(c.moving, grid, init, False)).to(to) * gain)
        if labels is not None:
            gain = LABEL_SCALE * float(np.sqrt(labels.weight))
            fixed += [gain * torch.from_numpy(g).to(to) for g in soft_groups(labels.fixed, grid)]
            moving += [
                gain * torch.from_numpy(g).to(to) for g in soft_groups(labels.moving, grid, init)
            ]
        if self.healthy is not None:
            moving.append(self.healthy)
        self.fixed, self.moving = torch.stack(fixed), torch.stack(moving)

    def run(self, velocity: torch.Tensor, whole: bool) -> tuple[torch.Tensor, dict]:
        """Iterate; returns the velocity, zero at the border of a ``whole`` lattice, and what to log."""
        window = border_window(self.ident.shape[1:], 4, velocity.device) if whole else 1.0
        history: list[float] = []
        best = (-np.inf, velocity)
        for _ in range(self.level.iterations):
            flow = exponential(velocity, self.ident, SEARCH_STEP_VOX)
            warped = pull(self.moving, flow, self.ident)
            weight = self.inside.new_ones(self.inside.shape)
            if self.healthy is not None:
                warped, weight = warped[:-1], warped[-1].contiguous()
                # both images by the same voxels, or their windows differ around the lesion
                for k in range(self.n_images):
                    self.fixed[k] = _normal(self.plain[k], self.box, weight)
            # again at every map: interpolation blurs, and contrast lost to it is no mismatch
            for k in range(self.n_images):
                warped[k] = _normal(warped[k], self.box, None if self.healthy is None else weight)
            history.append(self._agreement(warped, weight))
            if history[-1] > best[0]:
                best = (history[-1], velocity)
            if len(history) > 6 and history[-1] - history[-6] < STOP_GAIN:
                break
            force = self._force(warped, weight)
            update = self.fluid(force)
            if self.healthy is not None:
                known = self.wide(weight[None]).clamp(min=1e-3)
                missing = (1.0 - self.fluid(weight[None])).clamp(min=0.0)
                update = update + missing * self.wide(force) / known
            velocity = self.diffusion(velocity + update) * window
            # 0.5 GB at 1 mm that would else be held beside what takes its place
            del flow, warped, force, update
        entry = {
            "spacing_mm": self.level.spacing_mm,
            "iterations": len(history),
            "agreement_start": round(history[0], 4),
            "agreement_end": round(best[0], 4),
        }
        return best[1], entry

    def _agreement(self, warped: torch.Tensor, weight: torch.Tensor) -> float:
        """Mean local correlation in the fixed brain, less the mismatch of maps and labels."""
        n = self.n_images
        counted = self.inside * weight
        if warped.device.type == "cpu":
            total = agreement(self.fixed.numpy(), warped.contiguous().numpy(), counted.numpy(), n)
            return float(total / max(float(counted.sum()), 1.0))
        total = (warped[:n] * self.fixed[:n] * counted).sum() / n
        for own, other in zip(self.fixed[n:], warped[n:]):
            total = total - 0.5 * ((other - own) ** 2 * counted).sum()
        return float(total / counted.sum().clamp(min=1.0))

    def _force(self, warped: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Demons step with the symmetric slope (Thirion 1998; Vercauteren et al. 2009)."""
        calm = 1.0 / (4.0 * MAX_UPDATE_VOX**2)
        if warped.device.type == "cpu":
            force = demons_force(
                self.fixed.numpy(), warped.contiguous().numpy(), np.float32(calm), weight.numpy()
            )
            return torch.from_numpy(force)
        residual = self.fixed - warped
        slope = 0.5 * _slopes(self.fixed + warped)
        along = (residual[:, None] * slope).sum(0)
        power = (slope**2).sum((0, 1)) + calm * (residual**2).sum(0)
        return weight * along / (power + 1e-6)


def _normal(image: torch.Tensor, box: Smoother, weight: torch.Tensor | None) -> torch.Tensor:
    """(X, Y, Z) with local mean and deviation taken out, neither told by what has no weight."""
    if weight is None:
        mean, square = box(torch.stack([image, image**2]))
        return (image - mean) / ((square - mean**2).clamp(min=0.0) + CONTRAST_FLOOR**2).sqrt()
    share = box(weight[None])[0].clamp(min=1e-3)
    mean, square = box(torch.stack([image * weight, image**2 * weight])) / share
    return weight * (image - mean) / ((square - mean**2).clamp(min=0.0) + CONTRAST_FLOOR**2).sqrt()


def _slopes(values: torch.Tensor) -> torch.Tensor:
    """(C, 3, X, Y, Z) central differences per voxel."""
    return torch.stack(torch.gradient(values, dim=(1, 2, 3)), dim=1)
