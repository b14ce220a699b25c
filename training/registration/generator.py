"""Random pairs of brains, or of shapes, whose labels must come to overlap.

After SynthMorph (Hoffmann et al., IEEE TMI 2022; 41:543-558): two label maps are deformed at random and
painted in contrasts that have nothing to do with each other, so that a network that lays one over the
other learns shapes and not intensities. A part of the pairs are blobs without any anatomy. Maps are
brought to the template by the centroids of their structures first, and away from it again by what an
affine registration may leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
import torch.nn.functional as F

from deepprep.image.compiled import compiled
from deepprep.image.volume import Volume
from deepprep.registration.centroids import start_from_labels
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.synthmorph.compact import SPACING_MM
from training.segmentation.artefacts import bias_field, blur
from training.segmentation.fields import Draw, node_shape, random_affine, random_diffeomorphism
from training.segmentation.intensities import random_contrast
from training.segmentation.labels import CLASSES, SOURCES, LabelMap, target_of_source

SCORED: tuple[tuple[int, ...], ...] = (
    (2,), (41,), (3,), (42,), (4, 5, 43, 44), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53),
    (18, 54), (26, 58), (28, 60), (7, 46), (8, 47), (16,), (14, 15),
)  # fmt: skip
"""FreeSurfer numbers of each map whose overlap counts; both sides share one where they are apart."""

N_SHAPES = len(SCORED)
"""Kinds of blobs in a map of shapes."""

SHAPE_GRAIN_MM = (20.0, 60.0)
"""Range of the size of blobs."""


@dataclass(frozen=True)
class Setting:
    """How far two heads are apart and how they look.

    Attributes
    ----------
    p_shapes : float
        Share of pairs that are blobs.
    p_t1w : float
        Share of images in a T1-weighted contrast; the others have any.
    p_stripped : float
        Share of images that hold the brain only.
    degrees, scale, shear, shift_mm : float
        Largest pose that both heads of a pair share.
    own_degrees, own_scale, own_shear, own_shift_mm : float
        Largest affine difference between a head and its pair's pose.
    warp_mm, shape_warp_mm : float
        Strength of the deformation of each head, of each blob map.
    """

    p_shapes: float = 0.1
    p_t1w: float = 0.8
    p_stripped: float = 0.95
    degrees: float = 10.0
    scale: float = 0.08
    shear: float = 0.03
    shift_mm: float = 8.0
    own_degrees: float = 4.0
    own_scale: float = 0.03
    own_shear: float = 0.03
    own_shift_mm: float = 3.0
    warp_mm: float = 3.0
    shape_warp_mm: float = 9.0


USUAL = Setting(
    p_shapes=0.0, p_t1w=1.0, p_stripped=1.0, degrees=3.0, scale=0.02, shear=0.0, shift_mm=2.0,
    own_degrees=1.0, own_scale=0.01, own_shear=0.01, own_shift_mm=1.0, warp_mm=0.5,
)  # fmt: skip
"""T1w brains as the pipeline has them: for validation."""


@dataclass(frozen=True)
class Pair:
    """Two images on one lattice of 2 mm and what of each voxel the scored structures fill.

    Attributes
    ----------
    moving, fixed : (1, 1, X, Y, Z) float32 tensors
    moving_shares, fixed_shares : (1, G, X, Y, Z) float32 tensors
        0 to 1.
    """

    moving: torch.Tensor
    fixed: torch.Tensor
    moving_shares: torch.Tensor
    fixed_shares: torch.Tensor


@dataclass(frozen=True)
class Anatomy:
    """A label map and where the template's points lie in it.

    Attributes
    ----------
    sources : (X, Y, Z) uint8 array
        Indices into SOURCES.
    to_voxels : (4, 4) array
        RAS mm of the template, about the middle of its brain, to voxels.
    """

    sources: np.ndarray
    to_voxels: np.ndarray


def anatomies(maps: list[LabelMap], template: Volume) -> list[Anatomy]:
    """Label maps aligned with a template.

    Parameters
    ----------
    maps : list of LabelMap
    template : Volume
        Segmentation of the template in FreeSurfer's numbering.
    """
    brain = np.argwhere(template.data > 0)
    middle = (brain.min(0) + brain.max(0)) / 2 @ template.affine[:3, :3].T + template.affine[:3, 3]
    shift = np.eye(4)
    shift[:3, 3] = middle
    numbers = np.array(CLASSES, dtype=np.uint8)[target_of_source()]
    found = []
    for head in maps:
        sources = head.sources.cpu().numpy()
        pose = start_from_labels(LabelPair(template, Volume(numbers[sources], np.eye(4))), 12)
        if pose is None:
            raise SystemExit(f"Label map {head.name} has too few brain structures to be aligned.")
        found.append(Anatomy(sources, pose.matrix @ shift))
    return found


def group_of_source() -> np.ndarray:
    """(len(SOURCES),) int8: index into SCORED of every source, -1 for none."""
    numbers = np.array(CLASSES)[target_of_source()]
    table = np.full(len(SOURCES), -1, np.int8)
    for index, group in enumerate(SCORED):
        table[np.isin(numbers, group)] = index
    return table


class PairGenerator:
    """Draws pairs; the same seed, the same pair.

    Parameters
    ----------
    heads : list of Anatomy
        At least two.
    shape : (3,) ints
        Lattice of 2 mm, axes to right, anterior, superior; multiples of 8.
    setting : Setting
    """

    def __init__(
        self, heads: list[Anatomy], shape: tuple[int, int, int], setting: Setting | None = None
    ) -> None:
        if len(heads) < 2:
            raise ValueError("a pair takes two label maps")
        self.heads, self.shape, self.setting = heads, shape, setting or Setting()
        self.groups = group_of_source()
        classes = target_of_source()
        self.brain = (classes > 0) | np.isin(SOURCES, (85,))

    @torch.no_grad()
    def __call__(self, seed: int) -> Pair:
        """One pair."""
        draw = Draw(seed)
        if draw.chance(self.setting.p_shapes):
            sides = self._shapes(draw)
        else:
            sides = self._brains(draw)
        (moving, moving_shares), (fixed, fixed_shares) = sides
        return Pair(moving[None, None], fixed[None, None], moving_shares[None], fixed_shares[None])

    def _brains(self, draw: Draw) -> list[tuple[torch.Tensor, torch.Tensor]]:
        s = self.setting
        first = draw.integer(len(self.heads))
        second = (first + 1 + draw.integer(len(self.heads) - 1)) % len(self.heads)
        pose = random_pose(draw, s.degrees, s.scale, s.shear, s.shift_mm)
        sides = []
        for which in (first, second):
            head = self.heads[which]
            own = random_pose(draw, s.own_degrees, s.own_scale, s.own_shear, s.own_shift_mm)
            matrix = head.to_voxels @ (own @ pose).numpy()
            at = warped_lattice(draw, self.shape, matrix, s.warp_mm)
            means = self._contrast(draw)
            image, counts, tissue = paint(
                head.sources, at, means, self.groups, self.brain, len(SCORED)
            )
            inside = None
            if draw.chance(s.p_stripped):
                soft = blur(torch.from_numpy(tissue), [draw.uniform(0.6, 1.6)] * 3)
                inside = soft > draw.uniform(0.15, 0.5)
            sides.append((acquired(torch.from_numpy(image), inside, draw), shares(counts)))
        return sides

    def _contrast(self, draw: Draw) -> np.ndarray:
        if draw.chance(self.setting.p_t1w):
            return random_contrast(draw, usual=draw.chance(0.6))[0].numpy().astype(np.float32)
        means = np.array([draw.uniform(0.05, 1.0) for _ in SOURCES], np.float32)
        if draw.chance(0.5):
            means[0] = 0.0
        return means

    def _shapes(self, draw: Draw) -> list[tuple[torch.Tensor, torch.Tensor]]:
        blobs = random_blobs(draw, self.shape)
        middle = np.eye(4)
        middle[:3, :3] /= SPACING_MM
        middle[:3, 3] = (np.array(self.shape) - 1) / 2
        each = np.arange(N_SHAPES, dtype=np.int8)
        sides = []
        for _ in range(2):
            at = warped_lattice(draw, self.shape, middle, self.setting.shape_warp_mm)
            means = np.array([draw.uniform(0.05, 1.0) for _ in range(N_SHAPES)], np.float32)
            image, counts, _ = paint(blobs, at, means, each, each >= 0, N_SHAPES)
            sides.append((acquired(torch.from_numpy(image), None, draw), shares(counts)))
        return sides


def random_pose(
    draw: Draw, degrees: float, scale: float, shear: float, shift_mm: float
) -> torch.Tensor:
    """(4, 4) double affine about the origin, and a shift."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = random_affine(draw, degrees, scale, shear).double()
    pose[:3, 3] = torch.tensor([draw.uniform(-shift_mm, shift_mm) for _ in range(3)])
    return pose


def warped_lattice(
    draw: Draw, shape: tuple[int, int, int], matrix: np.ndarray, warp_mm: float
) -> np.ndarray:
    """(3, X, Y, Z) float32 label-map voxels of a lattice of 2 mm about the origin, deformed.

    ``matrix`` takes RAS mm to voxels.
    """
    size = tuple(int(SPACING_MM * (n - 1)) + 1 for n in shape)
    warp = random_diffeomorphism(draw, size, warp_mm)[0]
    axes = [torch.linspace(0, n - 1, k) - (n - 1) / 2 for n, k in zip(size, node_shape(size))]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij")) + warp
    part = torch.from_numpy(matrix[:3]).float()
    voxels = torch.einsum("ij,jxyz->ixyz", part[:, :3], points) + part[:, 3].view(3, 1, 1, 1)
    at = F.interpolate(voxels[None], shape, mode="trilinear", align_corners=True)[0]
    return at.contiguous().numpy()


def random_blobs(draw: Draw, shape: tuple[int, int, int]) -> np.ndarray:
    """(X, Y, Z) uint8: which of N_SHAPES smooth random fields is the largest."""
    field = torch.zeros(N_SHAPES, *shape)
    for _ in range(2):
        grain = draw.uniform(*SHAPE_GRAIN_MM) / SPACING_MM
        field += draw.uniform(0.3, 1.0) * draw.smooth(shape, grain, N_SHAPES)
    return field.argmax(0).to(torch.uint8).numpy()


def shares(counts: np.ndarray) -> torch.Tensor:
    """(G, X, Y, Z) float32 from counts of the eight parts of a voxel."""
    return torch.from_numpy(counts).float() / 8.0


def acquired(image: torch.Tensor, inside: torch.Tensor | None, draw: Draw) -> torch.Tensor:
    """Blur, texture, bias, noise and gamma; bright tissue becomes 1, as for the network."""
    image = blur(image, [draw.uniform(0.0, 0.8)] * 3)
    image = image * (1 + draw.uniform(0, 0.06) * draw.normal(*image.shape))
    image = image * bias_field(tuple(image.shape), draw)
    image = (image + draw.uniform(0, 0.05) * draw.normal(*image.shape)).clamp(min=0)
    if inside is not None:
        image = image * inside
    image = image / bright(image)
    return image.clamp(max=1.5) ** np.exp(draw.uniform(-0.3, 0.3))


def bright(image: torch.Tensor) -> float:
    """99th percentile of what is above zero."""
    positive = image[image > 0].numpy()
    return max(float(np.percentile(positive, 99)) if positive.size else 1.0, 1e-6)


@compiled(parallel=True)
def paint(sources, at, means, groups, brain, n_groups):  # type: ignore[no-untyped-def]
    """Image, counts and brain of a lattice, each voxel from eight nearest labels.

    Parameters
    ----------
    sources : (X, Y, Z) uint8 array
    at : (3, x, y, z) float32 array
        Voxels of ``sources``.
    means : (S,) float32 array
        Intensity of each source.
    groups : (S,) int8 array
        Scored group of each source, -1 for none.
    brain : (S,) bool array
    n_groups : int

    Returns
    -------
    image : (x, y, z) float32 array
    counts : (n_groups, x, y, z) uint8 array
        0 to 8.
    tissue : (x, y, z) float32 array
        Share of the brain, 0 to 1.
    """
    _, nx, ny, nz = at.shape
    sx, sy, sz = sources.shape
    image = np.zeros((nx, ny, nz), np.float32)
    tissue = np.zeros((nx, ny, nz), np.float32)
    counts = np.zeros((n_groups, nx, ny, nz), np.uint8)
    quarter = np.float32(0.25)
    for x in numba.prange(nx):
        xa, xb = max(x - 1, 0), min(x + 1, nx - 1)
        for y in range(ny):
            ya, yb = max(y - 1, 0), min(y + 1, ny - 1)
            for z in range(nz):
                za, zb = max(z - 1, 0), min(z + 1, nz - 1)
                for part in range(8):
                    a = quarter * (2 * (part & 1) - 1) / max(xb - xa, 1)
                    b = quarter * (2 * ((part >> 1) & 1) - 1) / max(yb - ya, 1)
                    c = quarter * (2 * ((part >> 2) & 1) - 1) / max(zb - za, 1)
                    # the deformation is nearly linear within a voxel
                    i = at[0, x, y, z] + a * (at[0, xb, y, z] - at[0, xa, y, z])
                    i += b * (at[0, x, yb, z] - at[0, x, ya, z])
                    i += c * (at[0, x, y, zb] - at[0, x, y, za])
                    j = at[1, x, y, z] + a * (at[1, xb, y, z] - at[1, xa, y, z])
                    j += b * (at[1, x, yb, z] - at[1, x, ya, z])
                    j += c * (at[1, x, y, zb] - at[1, x, y, za])
                    k = at[2, x, y, z] + a * (at[2, xb, y, z] - at[2, xa, y, z])
                    k += b * (at[2, x, yb, z] - at[2, x, ya, z])
                    k += c * (at[2, x, y, zb] - at[2, x, y, za])
                    p = int(np.floor(i + 0.5))
                    q = int(np.floor(j + 0.5))
                    r = int(np.floor(k + 0.5))
                    source = 0
                    if 0 <= p < sx and 0 <= q < sy and 0 <= r < sz:
                        source = sources[p, q, r]
                    image[x, y, z] += means[source] / 8
                    if brain[source]:
                        tissue[x, y, z] += np.float32(0.125)
                    if groups[source] >= 0:
                        counts[groups[source], x, y, z] += 1
    return image, counts, tissue
