"""Random T1-weighted heads with exact labels, made from label maps.

Domain randomisation after SynthSeg (Billot et al., Medical Image Analysis 2023; 86:102789)
narrowed to, but wider than, T1-weighted contrast, and with partial volume: a voxel of the
warped head gets the trilinear mixture of the eight labels around it, and the class that has
most of it as truth, so that the border between two tissues lies where their shares are equal
and not on the staircase of the label map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.segmentation import artefacts
from training.segmentation.fields import (
    Draw,
    head_coordinates,
    random_affine,
    random_diffeomorphism,
)
from training.segmentation.intensities import random_contrast
from training.segmentation.labels import (
    CLASSES,
    SMALL,
    SOURCES,
    LabelMap,
    mirrored_classes,
    target_of_source,
)

CSF = CLASSES.index(24)
WHITE = (CLASSES.index(2), CLASSES.index(41))
CHUNK_SEED = 1_000_003
"""Prime that spreads step numbers over seeds."""


@dataclass(frozen=True)
class Settings:
    """Ranges and probabilities of the generator."""

    degrees: float = 18.0
    scale: float = 0.14
    shear: float = 0.06
    warp_mm: float = 3.0
    centre_jitter_mm: float = 3.0
    p_small_centre: float = 0.5
    p_stripped: float = 0.95
    p_deface: float = 0.4
    p_vessels: float = 0.25
    p_lesions: float = 0.2
    p_motion: float = 0.08
    p_cut: float = 0.04
    p_plateau: float = 0.0
    """Share of heads whose white matter control points made even (:func:`artefacts.plateau`)."""
    p_usual_contrast: float = 0.0
    """Share of heads with the contrast of most T1-weighted sequences, the others vary more."""
    usual: bool = False
    """1 mm voxels and little noise, as in most research scans."""


USUAL = Settings(p_stripped=1.0, p_vessels=0.0, p_lesions=0.0, p_motion=0.0, p_cut=0.0, usual=True)
"""Brain-extracted T1w of usual quality: an easier test than the training distribution."""


@dataclass(frozen=True)
class Sample:
    """One patch of one synthetic head, 1 mm, axes to right, anterior, superior.

    Attributes
    ----------
    image : (1, 1, X, Y, Z) float32
        98th percentile inside the brain near 1, clipped to [0, 1.5].
    target : (1, X, Y, Z) uint8
        Index into CLASSES.
    origin : (1, 3) float32
        Position of voxel (0, 0, 0) relative to the middle of the brain, mm.
    """

    image: torch.Tensor
    target: torch.Tensor
    origin: torch.Tensor

    def __post_init__(self) -> None:
        if self.image.shape[2:] != self.target.shape[1:]:
            raise ValueError("image and target differ in shape")


class HeadGenerator:
    """Draws patches; the same seed gives the same patch on the same kind of device."""

    def __init__(
        self,
        maps: list[LabelMap],
        shape: tuple[int, int, int],
        device: str | torch.device = "cpu",
        settings: Settings | None = None,
    ) -> None:
        self.maps = maps
        self.shape = shape
        self.device = torch.device(device)
        self.settings = settings or Settings()
        self._target = torch.from_numpy(target_of_source()).to(self.device)
        self._mirror = torch.from_numpy(mirrored_classes()).to(self.device, torch.uint8)
        self._source = torch.tensor(SOURCES, device=self.device)

    @torch.no_grad()
    def __call__(self, seed: int, which: int | None = None) -> Sample:
        """One patch; ``which`` picks the label map, else it is drawn."""
        draw = Draw(seed * CHUNK_SEED, self.device)
        choice = draw.integer(len(self.maps))
        head = self.maps[choice if which is None else which]
        centre = patch_centre(head.points, head.box, self.shape, self.settings.p_small_centre, draw)
        setting = self.settings
        matrix = random_affine(draw, setting.degrees, setting.scale, setting.shear)
        warp = random_diffeomorphism(draw, self.shape, setting.warp_mm)
        coordinates = head_coordinates(draw, self.shape, centre, matrix, warp)

        # no draw where there is no such share: the same seeds give the heads they always gave
        narrow = setting.p_usual_contrast > 0 and draw.chance(setting.p_usual_contrast)
        means, amplitudes, drifts = random_contrast(draw, narrow)
        image, (amplitude, drift), target, tissue = self._blend(
            head, coordinates, means, (amplitudes, drifts)
        )
        image = image + drift * draw.smooth(self.shape, draw.uniform(7, 18))[0]
        image = self._paint(image, amplitude, target, tissue, float(means[CSF]), draw)
        spacing = [1.0, 1.0, 1.0] if setting.usual else artefacts.random_spacing(draw)
        image = artefacts.acquire(image, spacing, draw, 1.0 if setting.usual else 0.8)
        if draw.chance(setting.p_motion):
            image = artefacts.motion(image, draw)
        if setting.p_plateau > 0 and draw.chance(setting.p_plateau):
            image = artefacts.plateau(image, white_matter(target), draw)
        image, target = self._remove(image, target, tissue, coordinates, head, draw)
        image = normalise(image, target, draw)

        middle = (torch.tensor(self.shape) - 1) / 2
        brain = torch.linalg.solve(matrix, torch.as_tensor(head.centre).float() - centre) + middle
        if draw.chance(0.5):
            image, target = image.flip(0), self._mirror[target.flip(0).long()]
            brain[0] = self.shape[0] - 1 - brain[0]
        jitter = torch.tensor([draw.uniform(-1, 1) for _ in range(3)])
        origin = -brain + 2 * setting.centre_jitter_mm * jitter
        return Sample(
            image[None, None].contiguous(), target[None].contiguous(), origin[None].to(self.device)
        )

    def _blend(
        self,
        head: LabelMap,
        coordinates: torch.Tensor,
        means: torch.Tensor,
        amplitudes: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Mean intensity, amplitudes, class and tissue (brain without CSF) of a voxel."""
        labels, weights = corner_labels(head.sources, coordinates)
        tables = [means.to(self.device), *(a.to(self.device) for a in amplitudes)]
        blended = [torch.zeros(coordinates[0].numel(), device=self.device) for _ in tables]
        for label, weight in zip(labels, weights):
            for table, out in zip(tables, blended):
                out.addcmul_(table[label], weight)
        image = blended[0]
        classes = [self._target[label] for label in labels]
        winner = largest_share(classes, weights)
        shape = self.shape
        target = winner.view(shape)
        nearest = labels[0].view(shape)
        source = self._source[nearest.long()]
        tissue = (target > CSF) | ((source == 85) & (target != CSF))
        return image.view(shape), [b.view(shape) for b in blended[1:]], target, tissue

    def _paint(
        self,
        image: torch.Tensor,
        amplitude: torch.Tensor,
        target: torch.Tensor,
        tissue: torch.Tensor,
        csf: float,
        draw: Draw,
    ) -> torch.Tensor:
        setting = self.settings
        if draw.chance(setting.p_lesions):
            image = artefacts.lesions(image, white_matter(target).float(), csf, draw)
        grain = draw.uniform(1.5, 4)
        texture = draw.smooth(self.shape, grain)[0] + draw.smooth(self.shape, 4 * grain)[0]
        image = image + amplitude * texture
        if draw.chance(setting.p_vessels):
            image = artefacts.vessels(image, ~tissue & (image > 0.01), draw)
        return image.clamp(min=0) * artefacts.bias_field(self.shape, draw)

    def _remove(
        self,
        image: torch.Tensor,
        target: torch.Tensor,
        tissue: torch.Tensor,
        coordinates: torch.Tensor,
        head: LabelMap,
        draw: Draw,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Strip the skull, or deface, or cut the field of view; what is gone is background."""
        setting = self.settings
        keep = torch.ones_like(tissue)
        if draw.chance(setting.p_stripped):
            keep = artefacts.brain_extraction(tissue, draw)
        elif draw.chance(setting.p_deface):
            front, floor = float(head.box[1][1]), float(head.box[0][2])
            keep = tissue | ~artefacts.defacing(coordinates, front, floor, draw)
        if draw.chance(setting.p_cut):
            axis, depth = draw.integer(3), 4 + draw.integer(24)
            end = -depth if draw.chance(0.5) else 0
            keep = keep.clone()
            keep.narrow(axis, end % keep.shape[axis], depth).fill_(False)
        return image * keep, target * keep


def white_matter(target: torch.Tensor) -> torch.Tensor:
    """Where the classes are cerebral white matter; bool."""
    return (target == WHITE[0]) | (target == WHITE[1])


def patch_centre(
    points: dict[int, np.ndarray],
    box: np.ndarray,
    shape: tuple[int, int, int],
    p_small: float,
    draw: Draw,
) -> torch.Tensor:
    """Voxel of a head that comes to the middle of a patch; (3,).

    ``points`` are voxels of each class, ``box`` the first and last voxel of the brain, ``p_small``
    how often a small structure is chosen on purpose.
    """
    present = [c for c in (CLASSES.index(s) for s in SMALL) if c in points]
    small = draw.chance(p_small)
    classes = present if small and present else list(points)
    some = points[classes[draw.integer(len(classes))]]
    centre = torch.as_tensor(some[draw.integer(len(some))]).float()
    centre += torch.tensor([draw.uniform(-12, 12) for _ in range(3)])
    half = torch.tensor(shape) / 2 - 12
    low = torch.as_tensor(box[0]).float() + half
    high = torch.as_tensor(box[1]).float() - half
    middle = (low + high) / 2
    # where the patch is larger than the brain, only a little play around the middle
    low, high = torch.minimum(low, middle - 4), torch.maximum(high, middle + 4)
    return torch.minimum(torch.maximum(centre, low), high)


def corner_labels(
    sources: torch.Tensor, coordinates: torch.Tensor
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Source label (N,) of the eight voxels around each point, and their trilinear weights."""
    size = torch.tensor(sources.shape, device=sources.device)
    flat = coordinates.flatten(1)
    flat = torch.minimum(flat.clamp(min=0), (size - 1.001).view(3, 1).float())
    low = flat.floor()
    part = flat - low
    low = low.long()
    stride = (int(size[1] * size[2]), int(size[2]), 1)
    base = low[0] * stride[0] + low[1] * stride[1] + low[2]
    values = sources.flatten()
    labels, weights = [], []
    for i in (0, 1):
        for j in (0, 1):
            for k in (0, 1):
                labels.append(values[base + i * stride[0] + j * stride[1] + k].long())
                weight = part[0] if i else 1 - part[0]
                weight = weight * (part[1] if j else 1 - part[1])
                weights.append(weight * (part[2] if k else 1 - part[2]))
    return labels, weights


def largest_share(classes: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    """Class with most weight among the eight; (N,) uint8."""
    winner = classes[0].clone()
    mixed = torch.zeros_like(winner, dtype=torch.bool)
    for other in classes[1:]:
        mixed |= other != winner
    where = mixed.nonzero()[:, 0]
    few = torch.stack([c[where] for c in classes])
    share = torch.stack([w[where] for w in weights])
    best = torch.full_like(share[0], -1)
    chosen = few[0].clone()
    for i in range(8):
        score = (share * (few == few[i])).sum(0)
        better = score > best
        best = torch.where(better, score, best)
        chosen = torch.where(better, few[i], chosen)
    winner[where] = chosen
    return winner


def normalise(image: torch.Tensor, target: torch.Tensor, draw: Draw) -> torch.Tensor:
    """As at inference (98th percentile inside the brain to 1) but less exactly, with a gamma."""
    inside = image[target > 0]
    if inside.numel() < 1000:
        inside = image.flatten()
    inside = inside[:: max(1, inside.numel() // 50_000)]
    top = torch.quantile(inside.float(), 0.98).clamp(min=1e-3)
    out = (image / top * draw.uniform(0.92, 1.08)).clamp(0, 1.5)
    return out ** draw.uniform(0.7, 1.4)
