"""Linear registration engine: generators, similarity, coarse-to-fine search.

The similarity (normalised mutual information or correlation) is maximised by BFGS over the
Lie algebra of the group; the coarsest level is searched from many starting poses.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from scipy import ndimage, optimize

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.centroids import start_from_labels
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.pyramid import (
    block_sizes,
    centroid_ras,
    clean,
    is_stripped,
    on_lattice,
    shrink,
)
from deepprep.registration.similarity import (
    correlation,
    histogram_bins,
    mutual_information,
    pose_gradient,
    sample_points,
)
from deepprep.registration.transforms import Affine

Metric = Literal["nmi", "ncc"]

LEVER_MM = 60.0
"""Radius at which one unit of rotation, scale or shear moves a point by one mm."""

MAX_POINTS = 40_000
"""Fixed-image points per level; more costs time and brings no accuracy."""

RIM_MM = 9.0
"""How far beyond the fixed mask points are taken when both backgrounds are zero."""

MIN_OVERLAP = 0.7
"""Fraction of the fixed points below which leaving the moving field of view is penalised."""

MIN_SLOPE = 2e-3
"""Similarity per mm below which a start counts as converged."""

START_SPACING_MM = 8.0
"""Voxel size of the multi-start search."""

START_DEGREES = (-45.0, -22.5, 0.0, 22.5, 45.0)
"""Starting rotations about each axis; all 125 combinations are tried."""

KEPT_STARTS = 6
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
    labels: LabelPair | None = None,
    lesion: Volume | None = None,
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
        level = _Level(fixed_clean, region, moving_clean, START_SPACING_MM, metric)
        best = _search(level, centre, centroid_ras(moving_clean), min(dof, 7))
        start = start_from_labels(labels, dof) if labels is not None else None
        if start is not None:
            fit = level.optimise(start, centre, dof, max_iterations=25)
            best = max(best, fit, key=lambda f: f.similarity)
    done = None
    for spacing in spacings_mm:
        # Images that are coarser than the level stay as they are: do not repeat them
        blocks = [block_sizes(image, spacing) for image in (fixed_clean, moving_clean)]
        if done is not None and np.array_equal(blocks, done):
            continue
        done = blocks
        level = _Level(fixed_clean, region, moving_clean, spacing, metric)
        if lesion is not None:
            level = level.outside(lesion, best.affine)
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
    for degrees in product(START_DEGREES, repeat=3):
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


def generators(dof: int) -> np.ndarray:
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
    return np.stack(basis)


class _Level:
    """Both images at one resolution, ready for evaluation at any pose."""

    def __init__(
        self,
        fixed: Volume,
        region: Volume | None,
        moving: Volume,
        spacing_mm: float,
        metric: Metric,
    ) -> None:
        coarse = shrink(fixed, spacing_mm, smooth_vox=0.5)
        voxels = np.indices(coarse.shape).reshape(3, -1).T.astype(np.float64)
        if region is not None:
            keep = on_lattice(shrink(region, spacing_mm), coarse).data.ravel() > 0.3
            voxels = voxels[keep]
        rng = np.random.default_rng(0)
        if len(voxels) > MAX_POINTS:
            voxels = voxels[np.sort(rng.permutation(len(voxels))[:MAX_POINTS])]
        # Points off the lattice: both images are interpolated alike, else poses that bring
        # voxel onto voxel, where noise is not averaged, would stand out (Pluim et al. 2000)
        voxels += rng.uniform(-0.5, 0.5, size=voxels.shape)
        values = ndimage.map_coordinates(coarse.data, voxels.T, order=1, mode="nearest")
        points = voxels @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
        if len(values) < 50:
            raise InputError("The fixed image or its mask is too small: nothing to register.")
        target = shrink(moving, spacing_mm, smooth_vox=0.5)
        self.metric = metric
        self.points = np.ascontiguousarray(points)
        self.fixed = _unit(values).astype(np.float64)
        self.bins = histogram_bins(self.fixed)
        self.moving = np.ascontiguousarray(_unit(target.data), dtype=np.float32)
        self.ras2vox = target.grid.ras2vox

    def outside(self, lesion: Volume, pose: Affine) -> _Level:
        """The level without the points that ``pose`` takes into or near a lesion.

        Which points these are is fixed, so that no pose can gain by hiding others in the lesion.
        """
        near = shrink(lesion.like((lesion.data > 0.5).astype(np.float32)), 2.0)
        points = pose.map_points(self.points)
        to_vox = near.grid.ras2vox
        vox = points @ to_vox[:3, :3].T + to_vox[:3, 3]
        sick = ndimage.map_coordinates(
            ndimage.maximum_filter(near.data, 3), vox.T, order=1, mode="constant"
        )
        keep = sick < 0.1
        if keep.sum() < 50:
            raise InputError("The lesion mask covers the brain: nothing is left to register.")
        level = copy(self)
        level.points = np.ascontiguousarray(self.points[keep])
        level.fixed, level.bins = self.fixed[keep], self.bins[keep]
        return level

    def similarity(self, pose: Affine) -> float:
        """Similarity at a pose."""
        return -self._cost(pose.matrix)[0]

    def optimise(
        self, start: Affine, centre: np.ndarray, dof: int, max_iterations: int = 60
    ) -> LinearFit:
        """Climb from ``start``; the group acts about ``centre`` in fixed space."""
        pose = Motion(start, centre, dof)

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, by_matrix = self._cost(pose.matrix(x))
            return value, pose.gradient(x, by_matrix)

        # Similarities change by about 1e-2 per mm: bring the slope to order one, so that the
        # first line search takes a step of about one mm; not more, lest a start at the optimum
        # sends it after noise.
        scale = 1.0 / max(float(np.linalg.norm(cost(np.zeros(dof))[1])), MIN_SLOPE)

        def scaled(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = cost(x)
            return value * scale, slope * scale

        found = optimize.minimize(
            scaled, np.zeros(dof), jac=True, method="BFGS",
            options={"maxiter": max_iterations, "gtol": 1e-3},
        )  # fmt: skip
        return LinearFit(Affine(pose.matrix(found.x)), -float(found.fun) / scale)

    def _cost(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative similarity and its derivative by the pose matrix."""
        value, slope, weight, weight_slope = sample_points(
            self.moving, self.ras2vox @ matrix, self.points
        )
        if self.metric == "nmi":
            similarity, by_value, by_weight = mutual_information(self.bins, value, weight)
        else:
            similarity, by_value, by_weight = correlation(self.fixed, value, weight)
        missing = MIN_OVERLAP - weight.mean()
        cost, by_weight = -similarity, -by_weight
        if missing > 0:
            cost += missing
            by_weight = by_weight - 1.0 / len(weight)
        gradient = pose_gradient(
            self.points, self.ras2vox, slope, -by_value, weight_slope, by_weight
        )
        return cost, gradient


class Motion:
    """Poses near a start: ``start`` after ``exp(theta)`` about a centre of fixed space.

    Parameters
    ----------
    start : Affine
        Fixed points to moving points.
    centre : (3,) array
        Fixed RAS mm.
    dof : int
        Number of generators (6, 7, 9 or 12).
    """

    def __init__(self, start: Affine, centre: np.ndarray, dof: int) -> None:
        there, back = np.eye(4), np.eye(4)
        there[:3, 3], back[:3, 3] = -centre, centre
        self.basis = generators(dof)
        self.left, self.right = start.matrix @ back, there

    def matrix(self, theta: np.ndarray) -> np.ndarray:
        """(4, 4) pose."""
        return self.left @ _exponential(np.tensordot(theta, self.basis, 1)) @ self.right

    def gradient(self, theta: np.ndarray, by_matrix: np.ndarray) -> np.ndarray:
        """(dof,) derivative by theta from the (4, 4) derivative by the pose."""
        inner = self.left.T @ by_matrix @ self.right.T
        # The upper right block of exp [[A, G], [0, A]] is the derivative of exp at A along G
        generator = np.tensordot(theta, self.basis, 1)
        blocks = np.zeros((len(self.basis), 8, 8))
        blocks[:, :4, :4] = blocks[:, 4:, 4:] = generator
        blocks[:, :4, 4:] = self.basis
        return np.tensordot(_exponential(blocks)[:, :4, 4:], inner, 2)


def _exponential(generator: np.ndarray) -> np.ndarray:
    """Exponential of (..., n, n) matrices by scaling, Taylor series and squaring.

    Ten times faster than ``scipy.linalg.expm`` at these sizes, with the same result.
    """
    largest = float(np.abs(generator).sum(axis=-1).max())
    squarings = max(0, int(np.ceil(np.log2(max(largest, 1e-12) / 0.25))))
    scaled = generator / 2.0**squarings
    term = total = np.broadcast_to(np.eye(generator.shape[-1]), generator.shape)
    for order in range(1, 13):
        term = term @ scaled / order
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total


def _unit(values: np.ndarray) -> np.ndarray:
    """Values stretched to 0..1 between the minimum and the 99.5th percentile of the positive."""
    low = min(float(values.min()), 0.0)
    positive = values[values > low]
    high = float(np.percentile(positive, 99.5)) if positive.size else low + 1.0
    return np.clip((values - low) / max(high - low, 1e-12), 0.0, 1.0)
