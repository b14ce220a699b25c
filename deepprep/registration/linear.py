"""Linear registration engine: generators, similarity, coarse-to-fine search.

The similarity is normalised mutual information with a Parzen joint histogram (Studholme et
al. 1999; Thevenaz & Unser 2000) or normalised correlation. It is differentiated by autograd
and maximised by BFGS over the Lie algebra of the group; the coarsest level is searched from
many starting poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from scipy import ndimage, optimize

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.pyramid import centroid_ras, clean, is_stripped, on_lattice, shrink
from deepprep.registration.transforms import Affine

Metric = Literal["nmi", "ncc"]

LEVER_MM = 60.0
"""Radius at which one unit of rotation, scale or shear moves a point by one mm."""

BINS = 32
"""Bins of each margin of the joint histogram."""

MAX_POINTS = 25_000
"""Fixed-image points per level; more costs time and brings no accuracy."""

RIM_MM = 9.0
"""How far beyond the fixed mask points are taken when both backgrounds are zero."""

MIN_OVERLAP = 0.7
"""Fraction of the fixed points below which leaving the moving field of view is penalised."""

START_SPACING_MM = 8.0
"""Voxel size of the multi-start search."""

START_DEGREES = {0: (-40, -20, 0, 20, 40), 1: (-15, 0, 15), 2: (-15, 0, 15)}
"""Starting rotations about the left-right (pitch), front-back and vertical axes."""

KEPT_STARTS = 4
"""Starting poses that are optimised; the best by similarity."""


@dataclass(frozen=True)
class LinearFit:
    """An affine map and the similarity it reaches (higher is better)."""

    affine: Affine
    similarity: float


def fit_linear(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None,
    moving_mask: Volume | None,
    init: Literal["centre"] | Affine,
    metric: Metric,
    dof: int,
    spacings_mm: tuple[float, ...],
    device: str = "cpu",
) -> LinearFit:
    """Register by a group of 6, 7, 9 or 12 parameters; see ``register_affine``."""
    if dof not in (6, 7, 9, 12):
        raise ValueError(f"degrees of freedom are 6, 7, 9 or 12, not {dof}")
    fixed_clean = clean(fixed, fixed_mask, "fixed")
    moving_clean = clean(moving, moving_mask, "moving")
    region = _region(fixed_clean, fixed_mask, moving_clean)
    centre = centroid_ras(fixed_clean)
    if isinstance(init, Affine):
        best = LinearFit(init, -np.inf)
    else:
        level = _Level(fixed_clean, region, moving_clean, START_SPACING_MM, metric, device)
        best = _search(level, centre, centroid_ras(moving_clean), min(dof, 7))
    for spacing in spacings_mm:
        level = _Level(fixed_clean, region, moving_clean, spacing, metric, device)
        best = level.optimise(best.affine, centre, dof)
    return best


def _region(fixed: Volume, fixed_mask: Volume | None, moving: Volume) -> Volume | None:
    """Where the fixed image is sampled: (X, Y, Z) float32 mask or None for everywhere."""
    if fixed_mask is None and not is_stripped(fixed):
        return None
    if fixed_mask is not None:
        inside = on_lattice(fixed_mask, fixed).data > 0.5
    else:
        inside = fixed.data != 0
    if not inside.any():
        raise InputError("The fixed mask is empty: nothing can be registered.")
    if not is_stripped(moving):
        return fixed.like(inside.astype(np.float32))
    small = shrink(fixed.like(inside.astype(np.float32)), 4.0)
    distance = ndimage.distance_transform_edt(small.data < 0.25, sampling=small.zooms_mm)
    return Volume((distance <= RIM_MM).astype(np.float32), small.affine)


def _search(level: _Level, centre: np.ndarray, target: np.ndarray, dof: int) -> LinearFit:
    poses = []
    for degrees in product(*START_DEGREES.values()):
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(np.deg2rad(degrees))
        matrix[:3, 3] = target - matrix[:3, :3] @ centre
        poses.append(Affine(matrix))
    scores = [level.similarity(pose) for pose in poses]
    # stable: among equals the first pose wins on every machine
    order = np.argsort(-np.array(scores), kind="stable")[:KEPT_STARTS]
    fits = [level.optimise(poses[k], centre, dof, max_iterations=25) for k in order]
    return max(fits, key=lambda fit: fit.similarity)


def _rotation(radians: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(radians):
        i, j = [(1, 2), (0, 2), (0, 1)][axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def generators(dof: int) -> torch.Tensor:
    """(dof, 4, 4) basis of the Lie algebra; one unit moves a point at the lever by 1 mm.

    Order: 3 translations, 3 rotations, then one scale (7), three scales (9), or three scales
    and three shears (12).
    """
    basis = []
    for i in range(3):
        g = np.zeros((4, 4))
        g[i, 3] = 1.0
        basis.append(g)
    for i, j in ((1, 2), (2, 0), (0, 1)):
        g = np.zeros((4, 4))
        g[i, j], g[j, i] = -1 / LEVER_MM, 1 / LEVER_MM
        basis.append(g)
    if dof == 7:
        basis.append(np.diag([1.0, 1, 1, 0]) / LEVER_MM)
    elif dof >= 9:
        basis += [np.diag(np.eye(4)[i]) / LEVER_MM for i in range(3)]
    if dof == 12:
        for i, j in ((1, 2), (0, 2), (0, 1)):
            g = np.zeros((4, 4))
            g[i, j] = g[j, i] = 1 / LEVER_MM
            basis.append(g)
    return torch.from_numpy(np.stack(basis))


class _Level:
    """Both images at one resolution, ready for evaluation at any pose."""

    def __init__(
        self,
        fixed: Volume,
        region: Volume | None,
        moving: Volume,
        spacing_mm: float,
        metric: Metric,
        device: str,
    ) -> None:
        self.metric = metric
        self.device = torch.device(device)
        coarse = shrink(fixed, spacing_mm, smooth_vox=0.5)
        points = coarse.grid.points_ras().reshape(-1, 3)
        values = coarse.data.ravel()
        if region is not None:
            keep = on_lattice(shrink(region, spacing_mm), coarse).data.ravel() > 0.3
            points, values = points[keep], values[keep]
        if len(values) > MAX_POINTS:
            pick = np.random.default_rng(0).permutation(len(values))[:MAX_POINTS]
            pick.sort()
            points, values = points[pick], values[pick]
        if len(values) < 50:
            raise InputError("The fixed image or its mask is too small: nothing to register.")
        target = shrink(moving, spacing_mm, smooth_vox=0.5)
        self.points = self._tensor(points)
        self.fixed = self._tensor(_unit(values))
        self.moving = self._tensor(_unit(target.data))[None, None]
        self.ras2vox = self._tensor(target.grid.ras2vox)
        self.size = self._tensor(np.array(target.shape))
        self.fixed_parzen = _parzen(self.fixed) if metric == "nmi" else None

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, np.float32), device=self.device)

    def similarity(self, pose: Affine) -> float:
        """Similarity at a pose."""
        with torch.no_grad():
            return -float(self._cost(self._tensor(pose.matrix)))

    def optimise(
        self, start: Affine, centre: np.ndarray, dof: int, max_iterations: int = 60
    ) -> LinearFit:
        """Climb from ``start``; the group acts about ``centre`` in fixed space."""
        there, back = np.eye(4), np.eye(4)
        there[:3, 3], back[:3, 3] = -centre, centre
        basis = generators(dof)
        left = torch.from_numpy(start.matrix @ back)
        right = torch.from_numpy(there)

        def matrix(theta: torch.Tensor) -> torch.Tensor:
            return left @ torch.linalg.matrix_exp(torch.einsum("d,dij->ij", theta, basis)) @ right

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            theta = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            value = self._cost(matrix(theta).to(self.device, torch.float32))
            value.backward()
            assert theta.grad is not None
            return float(value.detach()), theta.grad.numpy().astype(np.float64)

        # Similarities are of the order of 1e-3 per mm: bring the cost to order one so that the
        # first line search takes a step of about one mm.
        scale = 1.0 / max(np.linalg.norm(cost(np.zeros(dof))[1]), 1e-9)

        def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = cost(x)
            return value * scale, slope * scale

        found = optimize.minimize(
            scaled, np.zeros(dof), jac=True, method="BFGS",
            options={"maxiter": max_iterations, "gtol": 2e-3},
        )  # fmt: skip
        theta = torch.from_numpy(np.asarray(found.x))
        return LinearFit(Affine(matrix(theta).numpy()), -float(found.fun) / scale)

    def _cost(self, matrix: torch.Tensor) -> torch.Tensor:
        to_vox = self.ras2vox @ matrix
        vox = self.points @ to_vox[:3, :3].T + to_vox[:3, 3]
        grid = (vox * (2.0 / (self.size - 1).clamp(min=1)) - 1).flip(1).reshape(1, -1, 1, 1, 3)
        value = torch.nn.functional.grid_sample(
            self.moving, grid, mode="bilinear", padding_mode="border", align_corners=True
        ).reshape(-1)
        # One at the border voxel's centre, fading to none one voxel outside
        depth = torch.minimum(vox, self.size - 1 - vox).amin(dim=1)
        weight = (depth + 1.0).clamp(0.0, 1.0)
        overlap = weight.mean()
        penalty = (MIN_OVERLAP - overlap).clamp(min=0.0)
        weight = weight / weight.sum().clamp(min=1.0)
        if self.fixed_parzen is not None:
            joint = (self.fixed_parzen * weight[:, None]).T @ _parzen(value)
            return penalty - _nmi(joint)
        return penalty - _ncc(self.fixed, value, weight)


def _unit(values: np.ndarray) -> np.ndarray:
    """Values stretched to 0..1 between the minimum and the 99.5th percentile of the positive."""
    low = float(min(values.min(), 0.0))
    positive = values[values > low]
    high = float(np.percentile(positive, 99.5)) if positive.size else low + 1.0
    return np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)


def _parzen(values: torch.Tensor) -> torch.Tensor:
    """(N, BINS) cubic B-spline weights of values in 0..1; each row sums to one."""
    # two bins of margin keep the whole kernel within the histogram
    position = values * (BINS - 5) + 2.0
    distance = (position[:, None] - torch.arange(BINS, device=values.device)).abs()
    near = 2.0 / 3.0 - distance**2 * (1.0 - 0.5 * distance)
    far = (2.0 - distance).clamp(min=0.0) ** 3 / 6.0
    return torch.where(distance < 1.0, near, far)


def _nmi(joint: torch.Tensor) -> torch.Tensor:
    def entropy(p: torch.Tensor) -> torch.Tensor:
        return -(p * (p + 1e-10).log()).sum()

    joint = joint / joint.sum().clamp(min=1e-12)
    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)


def _ncc(a: torch.Tensor, b: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    a = a - (weight * a).sum()
    b = b - (weight * b).sum()
    power = (weight * a * a).sum() * (weight * b * b).sum()
    return (weight * a * b).sum() / (power + 1e-12).sqrt()
