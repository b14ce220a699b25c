"""Patches of real heads with labels made by :mod:`training.segmentation.pseudo_labels`.

The contrast is what label maps cannot give; everything else is varied as in the generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from training.segmentation import artefacts
from training.segmentation.fields import (
    Draw,
    head_coordinates,
    random_affine,
    random_diffeomorphism,
)
from training.segmentation.generator import (
    CHUNK_SEED,
    Sample,
    corner_labels,
    largest_share,
    normalise,
    patch_centre,
    white_matter,
)
from training.segmentation.labels import CLASSES, mirrored_classes, remembered_points

P_SMALL_CENTRE = 0.5
"""Share of patches around small structures."""

AS_IT_IS = 0.3
"""Share of patches that are cut out without a deformation, as sharp as the scan."""


@dataclass(frozen=True)
class RealHead:
    """One head at 1 mm in RAS order.

    Attributes
    ----------
    name : str
    image : (X, Y, Z) float32 tensor
        Zero outside the brain mask.
    classes : (X, Y, Z) uint8 tensor
        Index into CLASSES.
    box : (2, 3) array
        First and last voxel of the mask.
    points : dict of int to (N, 3) array
        A sample of voxels of each class present.
    """

    name: str
    image: torch.Tensor
    classes: torch.Tensor
    box: np.ndarray
    points: dict[int, np.ndarray]


def load_head(path: Path) -> RealHead:
    """Read ``NAME.npz`` with ``image`` and ``classes``."""
    with np.load(path) as file:
        image, classes = file["image"].astype(np.float32), file["classes"]
    corners = np.argwhere(image > 0)
    box = np.stack([corners.min(0), corners.max(0)])
    points = remembered_points(classes)
    return RealHead(
        path.stem,
        torch.from_numpy(image),
        torch.from_numpy(classes.astype(np.uint8)),
        box,
        points,
    )


def save_head(folder: Path, name: str, image: np.ndarray, classes: np.ndarray) -> None:
    """Write what :func:`load_head` reads: image as float16, classes as uint8."""
    image, classes = image.astype(np.float16), classes.astype(np.uint8)
    np.savez_compressed(folder / f"{name}.npz", image=image, classes=classes)


class RealPatches:
    """Draws patches of real heads; the same seed gives the same patch."""

    def __init__(
        self, heads: list[RealHead], shape: tuple[int, int, int], p_plateau: float = 0.0
    ) -> None:
        if not heads:
            raise ValueError("no real heads")
        self.heads = heads
        self.shape = shape
        self.p_plateau = p_plateau
        self._mirror = torch.from_numpy(mirrored_classes()).to(torch.uint8)

    @torch.no_grad()
    def __call__(self, seed: int, which: int | None = None) -> Sample:
        """One patch; ``which`` picks the head, else it is drawn."""
        draw = Draw(seed * CHUNK_SEED + 7)
        choice = draw.integer(len(self.heads))
        head = self.heads[choice if which is None else which]
        centre = patch_centre(head.points, head.box, self.shape, P_SMALL_CENTRE, draw)
        if draw.chance(AS_IT_IS):
            centre = centre.round() + 0.5 * (1 - torch.tensor(self.shape) % 2)
            matrix = torch.eye(3)
            warp = random_diffeomorphism(draw, self.shape, 0.0) * 0
        else:
            matrix = random_affine(draw, 15.0, 0.12, 0.05)
            warp = random_diffeomorphism(draw, self.shape, 2.5)
        coordinates = head_coordinates(draw, self.shape, centre, matrix, warp)
        image = pull(head.image, coordinates)
        labels, weights = corner_labels(head.classes, coordinates)
        target = largest_share([label.to(torch.uint8) for label in labels], weights).view(
            self.shape
        )
        image, target = self._change(image, target, draw)

        middle = (torch.tensor(self.shape) - 1) / 2
        brain = (
            torch.linalg.solve(matrix, torch.as_tensor(head.box.mean(0)).float() - centre) + middle
        )
        if draw.chance(0.5):
            image, target = image.flip(0), self._mirror[target.flip(0).long()]
            brain[0] = self.shape[0] - 1 - brain[0]
        jitter = torch.tensor([draw.uniform(-3, 3) for _ in range(3)])
        return Sample(
            image[None, None].contiguous(), target[None].contiguous(), (jitter - brain)[None]
        )

    def _change(
        self, image: torch.Tensor, target: torch.Tensor, draw: Draw
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Contrast, blur, voxel size, noise, bias and mask."""
        inside = image > 0
        if draw.chance(0.4):
            # contrast between tissues, by a smooth bend beyond what the gamma does
            bend = draw.uniform(-0.12, 0.12)
            image = (image + bend * torch.sin(torch.pi * image.clamp(0, 1.2) / 1.2 * 2)).clamp(
                min=0
            )
        image = image * artefacts.bias_field(self.shape, draw)
        if draw.chance(0.5):
            spacing = artefacts.random_spacing(draw)
            image = artefacts.acquire(image, spacing, draw, 0.9)
        elif draw.chance(0.5):
            image = (image + draw.uniform(0, 0.03) * draw.normal(*self.shape)).clamp(min=0)
        if self.p_plateau > 0 and draw.chance(self.p_plateau):
            image = artefacts.plateau(image, white_matter(target), draw)
        keep = inside
        if draw.chance(0.5):
            tissue = target > CLASSES.index(24)
            keep = keep & artefacts.brain_extraction(tissue, draw)
        image, target = image * keep, target * keep
        return normalise(image, target, draw), target


class Mixture:
    """Synthetic and real patches in turn by chance: ``share`` of them real."""

    def __init__(
        self, synthetic: Callable[[int], Sample], real: Callable[[int], Sample], share: float
    ) -> None:
        self.synthetic, self.real, self.share = synthetic, real, share

    def __call__(self, seed: int) -> Sample:
        """One patch."""
        real = np.random.default_rng((seed, 11)).random() < self.share
        return self.real(seed) if real else self.synthetic(seed)


def pull(image: torch.Tensor, coordinates: torch.Tensor) -> torch.Tensor:
    """Trilinear values at (3, X, Y, Z) voxel coordinates; zero outside."""
    size = torch.tensor(image.shape).view(3, 1, 1, 1)
    unit = 2 * coordinates / (size - 1) - 1
    grid = unit.flip(0).permute(1, 2, 3, 0)[None]
    return F.grid_sample(image[None, None], grid, align_corners=True)[0, 0]
