"""Random T1-weighted hemispheres with the signed distance to their white surface.

Images are those of :mod:`training.segmentation.generator`. The target is the distance to a smooth
surface around what lies inside the white surface in the label map, carried along by the
deformation and made a distance again by its own slope (first order; the band that counts is 3 mm
wide). The filled hemisphere of the input is spoilt as a segmentation spoils it: its border moves by
smooth noise, and thin blades go missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.surface.fastcsr.compact import network_input
from deepprep.surface.fastcsr.inference import CLIP_MM
from deepprep.surface.filled import SIDES, fill_hemisphere
from training.segmentation import artefacts
from training.segmentation.fields import (
    Draw,
    head_coordinates,
    random_affine,
    random_diffeomorphism,
)
from training.segmentation.generator import CHUNK_SEED, CSF, HeadGenerator, Settings
from training.segmentation.intensities import random_contrast
from training.segmentation.labels import CLASSES, LabelMap, target_of_source

SMOOTHING_MM = 0.7
"""Standard deviation that takes the voxels' steps out of the distance."""

BORDER_MM = 0.7
"""Standard deviation of the noise that moves the border of the filled hemisphere, at most, mm."""

STRIPPED = Settings(p_stripped=1.0, p_cut=0.0)


@dataclass(frozen=True)
class LevelSample:
    """One patch at 1 mm, axes to right, anterior, superior.

    Attributes
    ----------
    channels : (1, 2, X, Y, Z) float32 tensor
        Input of the network.
    target : (1, 1, X, Y, Z) float32 tensor
        Level / 3 mm, clipped to -1 and 1, negative inside.
    """

    channels: torch.Tensor
    target: torch.Tensor


def source_level(head: LabelMap, side: str) -> torch.Tensor:
    """(X, Y, Z) float32 signed distance to a hemisphere of a label map, mm, up to 6."""
    numbers = np.array(CLASSES, dtype=np.uint8)[target_of_source()][head.sources.numpy()]
    filled = fill_hemisphere(Volume(numbers, np.eye(4)), side)
    inside = np.zeros(numbers.shape, dtype=bool)
    inside[filled.box] = filled.inside
    out = ndimage.distance_transform_edt(~inside) - 0.5
    within = ndimage.distance_transform_edt(inside) - 0.5
    level = ndimage.gaussian_filter(np.where(inside, -within, out), SMOOTHING_MM)
    return torch.from_numpy(np.clip(level, -6, 6).astype(np.float32))


class LevelGenerator:
    """Draws patches of left (or mirrored right) hemispheres; the same seed, the same patch."""

    def __init__(self, maps: list[LabelMap], shape: tuple[int, int, int]) -> None:
        self.maps = maps
        self.shape = shape
        self.heads = HeadGenerator(maps, shape, settings=STRIPPED)
        self.levels = {(i, s): source_level(m, s) for i, m in enumerate(maps) for s in SIDES}

    @torch.no_grad()
    def __call__(self, seed: int) -> LevelSample:
        """One patch."""
        draw = Draw(seed * CHUNK_SEED)
        which, side = draw.integer(len(self.maps)), SIDES[draw.integer(2)]
        head, setting = self.maps[which], self.heads.settings
        level = self.levels[which, side]
        centre = self._centre(level, draw)
        matrix = random_affine(draw, setting.degrees, setting.scale, setting.shear)
        warp = random_diffeomorphism(draw, self.shape, setting.warp_mm)
        coordinates = head_coordinates(draw, self.shape, centre, matrix, warp)
        image = self._image(head, coordinates, draw)
        moved = as_distance(sample(level, coordinates))
        filled = spoilt(moved, draw)
        if side == "right":
            image, moved, filled = image.flip(0), moved.flip(0), filled.flip(0)
        channels = network_input(image.numpy(), filled.numpy())
        target = (moved / CLIP_MM).clamp(-1, 1)
        return LevelSample(channels, target[None, None].contiguous())

    def _centre(self, level: torch.Tensor, draw: Draw) -> torch.Tensor:
        """A voxel at the surface, moved a little."""
        near = (level.abs() < 1).flatten().nonzero()[:, 0]
        at = near[draw.integer(len(near))]
        index = torch.tensor(np.unravel_index(int(at), level.shape)).float()
        return index + torch.tensor([draw.uniform(-12, 12) for _ in range(3)])

    def _image(self, head: LabelMap, coordinates: torch.Tensor, draw: Draw) -> torch.Tensor:
        means, amplitudes = random_contrast(draw)
        image, amplitude, target, tissue = self.heads._blend(head, coordinates, means, amplitudes)
        image = self.heads._paint(image, amplitude, target, tissue, float(means[CSF]), draw)
        image = artefacts.acquire(image, artefacts.random_spacing(draw), draw, 0.8)
        return image.clamp(min=0) * artefacts.brain_extraction(tissue, draw)


def sample(level: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Trilinear values of an (X, Y, Z) field at (3, x, y, z) voxel coordinates."""
    size = torch.tensor(level.shape).view(3, 1, 1, 1)
    # grid_sample wants (z, y, x) in units of half the lattice's extent
    at = (2 * coordinates / (size - 1) - 1).flip(0).permute(1, 2, 3, 0)[None]
    return F.grid_sample(level[None, None], at, padding_mode="border", align_corners=True)[0, 0]


def as_distance(level: torch.Tensor) -> torch.Tensor:
    """Divide a level set at 1 mm by its slope, which a deformation has changed."""
    slope = torch.stack(torch.gradient(level)).norm(dim=0)
    # away from the surface, where distances end or meet, the slope says nothing
    slope = torch.where(level.abs() < 4, slope.clamp(0.6, 1.7), torch.ones_like(slope))
    return level / slope


def spoilt(level: torch.Tensor, draw: Draw) -> torch.Tensor:
    """(X, Y, Z) bool: what a segmentation would take for the inside."""
    noise = draw.uniform(0.1, BORDER_MM) * draw.smooth(tuple(level.shape), draw.uniform(2, 6))[0]
    inside = level + draw.uniform(-0.3, 0.5) + noise < 0
    if draw.chance(0.4):
        # opening: blades thinner than three voxels go
        outside = F.max_pool3d((~inside).float()[None, None], 3, 1, 1)
        inside = F.max_pool3d(1 - outside, 3, 1, 1)[0, 0] > 0.5
    return inside
