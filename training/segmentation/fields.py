"""Random numbers, smooth random fields and random maps of space."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

NODE_MM = 8
"""Spacing of the lattice on which deformations are made, in mm."""

SQUARINGS = 5
"""Steps of scaling and squaring."""


class Draw:
    """Seeded source of scalars (on the CPU) and fields (on the device)."""

    def __init__(self, seed: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._scalars = torch.Generator().manual_seed(seed)
        self._fields = torch.Generator(self.device).manual_seed(seed + 1)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * torch.rand((), generator=self._scalars).item()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform(0, 1) < probability

    def integer(self, n: int) -> int:
        """An integer in [0, n)."""
        return int(torch.randint(n, (), generator=self._scalars).item())

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal field on the device."""
        return torch.randn(*shape, generator=self._fields, device=self.device)

    def smooth(self, shape: tuple[int, ...], spacing: float, channels: int = 1) -> torch.Tensor:
        """(channels, X, Y, Z) normal noise on a lattice ``spacing`` voxels wide, interpolated."""
        nodes = [max(2, math.ceil(n / spacing) + 1) for n in shape]
        coarse = self.normal(1, channels, *nodes)
        return F.interpolate(coarse, shape, mode="trilinear", align_corners=True)[0]


def rotation(angles: list[float]) -> torch.Tensor:
    """3x3 rotation by ``angles`` (radians) about x, then y, then z."""
    out = torch.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        step = torch.eye(3)
        step[i, i] = step[j, j] = math.cos(angle)
        step[i, j], step[j, i] = -math.sin(angle), math.sin(angle)
        out = step @ out
    return out


def random_affine(draw: Draw, degrees: float, scale: float, shear: float) -> torch.Tensor:
    """3x3 rotation, common and per-axis scaling, and shear."""
    turn = rotation([math.radians(draw.uniform(-degrees, degrees)) for _ in range(3)])
    common = math.exp(draw.uniform(-scale, scale))
    stretch = torch.eye(3)
    for i in range(3):
        stretch[i, i] = common * math.exp(draw.uniform(-scale / 2, scale / 2))
        for j in range(i):
            stretch[i, j] = draw.uniform(-shear, shear)
    return turn @ stretch


def node_shape(shape: tuple[int, ...]) -> list[int]:
    """Nodes of the deformation lattice along each axis; the first and last are end voxels."""
    return [math.ceil((n - 1) / NODE_MM) + 1 for n in shape]


def random_diffeomorphism(draw: Draw, shape: tuple[int, ...], amount: float) -> torch.Tensor:
    """(1, 3, nodes) displacement in mm: a stationary velocity field, integrated.

    Velocities are sums of smooth noise of 16, 32 and 64 mm grain; ``amount`` is the largest
    standard deviation, in mm, of the coarsest, finer grains get less. Scaling and squaring
    after Arsigny et al., MICCAI 2006.
    """
    nodes = node_shape(shape)
    velocity = torch.zeros(3, *nodes, device=draw.device)
    for grain_mm, share in ((64, 1.0), (32, 0.8), (16, 0.45)):
        sd = draw.uniform(0, amount * share)
        velocity += sd * draw.smooth(tuple(nodes), grain_mm / NODE_MM, 3)
    step = velocity[None] / 2**SQUARINGS
    half = torch.tensor([(n - 1) / 2 for n in shape], device=draw.device)
    theta = torch.eye(3, 4, device=draw.device)[None]
    identity = F.affine_grid(theta, [1, 1, *nodes], align_corners=True)
    for _ in range(SQUARINGS):
        # grid_sample wants (z, y, x) order in units of half the lattice's extent
        move = (step / half.view(1, 3, 1, 1, 1)).flip(1).permute(0, 2, 3, 4, 1)
        step = step + F.grid_sample(
            step, identity + move, padding_mode="border", align_corners=True
        )
    # a last, small and rough part: gyri differ in width from one person to the next
    return step + draw.uniform(0, 0.7) * draw.normal(1, 3, *nodes)


def head_coordinates(
    draw: Draw,
    shape: tuple[int, ...],
    centre: torch.Tensor,
    matrix: torch.Tensor,
    displacement: torch.Tensor,
) -> torch.Tensor:
    """(3, X, Y, Z) label-map voxel coordinates of every voxel of a patch.

    ``matrix @ (voxel - middle of the patch) + centre + displacement``: trilinear
    interpolation reproduces the linear part exactly, so only the lattice is computed.
    """
    axes = [
        torch.linspace(0, n - 1, k, device=draw.device) - (n - 1) / 2
        for n, k in zip(shape, node_shape(shape))
    ]
    nodes = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    linear = torch.einsum("ij,jxyz->ixyz", matrix.to(draw.device), nodes)
    total = linear + centre.to(draw.device).view(3, 1, 1, 1) + displacement[0]
    return F.interpolate(total[None], shape, mode="trilinear", align_corners=True)[0]
