"""Boundary-based registration of a BOLD reference to anatomy (Greve & Fischl 2009).

BOLD images are brighter in grey matter than in white matter. At points of the white-matter
edge the signal a little outside is compared with the signal a little inside; the pose with
the strongest edges everywhere wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize
from skimage import measure

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.linear import Motion
from deepprep.registration.pyramid import clean, on_lattice
from deepprep.registration.similarity import pose_gradient, sample_points
from deepprep.registration.transforms import Affine

DEPTH_MM = 2.0
"""How far inside and outside the edge the signal is read."""

MAX_SLOPE = 0.5
"""Steepest cost per per cent of contrast, the fixed value of Greve & Fischl (2009).

Where the contrast is high that value saturates at every pose that has grey outside white, and
the optimum is flat; so the slope is one over the median contrast at the start, if lower.
"""

MAX_POINTS = 40_000
"""Edge points that are used, spread evenly over the surface."""

MIN_POINTS = 200
"""Fewer edge points inside the BOLD field of view than this are no anatomy."""

STARTS_MM = (0.0, 3.0)
"""Starting offsets, applied along and about each axis, of the coarse search."""

COARSE_SIGMA_MM = 3.0
"""Smoothing of the BOLD image in the first pass, which catches from further away."""


@dataclass(frozen=True)
class BoundaryResult:
    """What boundary-based registration found.

    Parameters
    ----------
    t1w_to_bold : Affine
        T1w RAS mm -> BOLD RAS mm, rigid when ``init`` is.
    cost_init, cost_final : float
        Mean of ``1 + tanh`` over the edge at the start and at the end: 0 best, 1 no edge, 2 an
        inverted edge.
    n_points : int
        Edge points within the BOLD field of view.
    """

    t1w_to_bold: Affine
    cost_init: float
    cost_final: float
    n_points: int


def register_boundary(
    bold_ref: Volume,
    white_matter: Volume,
    init: Affine,
    *,
    bold_mask: Volume | None = None,
    device: str = "cpu",
) -> BoundaryResult:
    """Refine a rigid map of T1w points to BOLD points on the white-matter edge.

    Parameters
    ----------
    bold_ref : Volume
        (X, Y, Z) BOLD reference, not stripped.
    white_matter : Volume
        Probability or mask of white matter (0..1) in T1w space.
    init : Affine
        T1w points to BOLD points, within about 5 mm and 5 degrees.
    bold_mask : Volume, optional
        Brain mask on any BOLD lattice; edge points outside it (at ``init``) are left out.
    device : str
        Unused: compiled CPU code takes a second. Kept so that all engines are called alike.

    Returns
    -------
    BoundaryResult

    Raises
    ------
    InputError
        No white-matter edge lies within the BOLD image.
    """
    bold = clean(bold_ref, None, "BOLD reference")
    points, normals = white_matter_edge(white_matter)
    keep = _inside(bold, bold_mask, init.map_points(points))
    points, normals = points[keep], normals[keep]
    if len(points) < MIN_POINTS:
        raise InputError("The white-matter edge lies outside the BOLD image: check the affines.")
    if len(points) > MAX_POINTS:
        pick = np.sort(np.random.default_rng(0).permutation(len(points))[:MAX_POINTS])
        points, normals = points[pick], normals[pick]
    centre = points.mean(axis=0)
    coarse = _Edge(bold, points, normals, COARSE_SIGMA_MM, init)
    pose = coarse.optimise(_best_start(coarse, init, centre), centre)
    fine = _Edge(bold, points, normals, 0.0, pose)
    pose = fine.optimise(pose, centre)
    return BoundaryResult(pose, fine.cost_at(init), fine.cost_at(pose), len(points))


def white_matter_edge(white_matter: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Points on the half-level surface of white matter and unit normals that point outwards.

    Returns
    -------
    points, normals : (N, 3) arrays
        RAS mm; one for each triangle of marching cubes, at its centre.
    """
    data = np.nan_to_num(white_matter.data.astype(np.float32))
    # Half a mm of smoothing rounds the staircase of a binary mask off
    data = ndimage.gaussian_filter(data, 0.5 / white_matter.zooms_mm)
    if data.max() <= 0.5 or data.min() >= 0.5:
        raise InputError("The white-matter map has no edge at one half: check the segmentation.")
    vertices, faces, _, _ = measure.marching_cubes(data, 0.5)
    corners = (vertices @ white_matter.affine[:3, :3].T + white_matter.affine[:3, 3])[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1)
    real = area > 1e-3
    points = corners[real].mean(axis=1)
    normals = normals[real] / area[real, None]
    # The triangle order depends on the sign of the affine: ask the map which side is white
    to_vox = white_matter.grid.ras2vox

    def value(where: np.ndarray) -> np.ndarray:
        vox = where @ to_vox[:3, :3].T + to_vox[:3, 3]
        return ndimage.map_coordinates(data, vox.T, order=1, mode="nearest")

    rise = np.mean(value(points + normals) - value(points - normals))
    return points, normals if rise < 0 else -normals


def _inside(bold: Volume, mask: Volume | None, points: np.ndarray) -> np.ndarray:
    vox = points @ bold.grid.ras2vox[:3, :3].T + bold.grid.ras2vox[:3, 3]
    inside = np.all((vox >= 0) & (vox <= np.array(bold.shape) - 1), axis=1)
    if mask is not None:
        near = ndimage.binary_dilation(on_lattice(mask, bold).data > 0.5)
        inside &= ndimage.map_coordinates(near.astype(np.uint8), vox.T, order=0) > 0
    return inside


def _best_start(edge: _Edge, init: Affine, centre: np.ndarray) -> Affine:
    """The best of small shifts and turns about ``init``, one axis pair at a time."""
    best, lowest = init, edge.cost_at(init)
    offsets = [np.zeros(6)]
    for axis in range(6):
        offsets += [sign * step * np.eye(6)[axis] for step in STARTS_MM[1:] for sign in (-1, 1)]
    for _ in range(2):
        start = best
        for offset in offsets[1:]:
            pose = Affine(Motion(start, centre, 6).matrix(offset))
            cost = edge.cost_at(pose)
            if cost < lowest - 1e-6:
                best, lowest = pose, cost
    return best


class _Edge:
    """The cost of a pose."""

    def __init__(
        self,
        bold: Volume,
        points: np.ndarray,
        normals: np.ndarray,
        sigma_mm: float,
        init: Affine,
    ) -> None:
        data = bold.data
        if sigma_mm > 0:
            data = ndimage.gaussian_filter(data, sigma_mm / bold.zooms_mm)
        self.image = np.ascontiguousarray(data, dtype=np.float32)
        self.ras2vox = bold.grid.ras2vox
        depth = max(DEPTH_MM, 0.5 * float(bold.zooms_mm.max()))
        self.points = np.concatenate([points - depth * normals, points + depth * normals])
        self.floor = 1e-3 * float(np.abs(data).max())
        self.slope = min(MAX_SLOPE, 1.0 / max(float(np.median(np.abs(self._contrast(init)))), 1e-3))

    def _contrast(self, pose: Affine) -> np.ndarray:
        """Signed contrast in per cent at each point."""
        value, *_ = sample_points(self.image, self.ras2vox @ pose.matrix, self.points)
        white, grey = np.split(value, 2)
        return 200.0 * (grey - white) / np.maximum(grey + white, self.floor)

    def cost_at(self, pose: Affine) -> float:
        """Mean cost over the edge."""
        return self._cost(pose.matrix)[0]

    def optimise(self, start: Affine, centre: np.ndarray) -> Affine:
        """Descend by BFGS over rotation and translation."""
        pose = Motion(start, centre, 6)

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, by_matrix = self._cost(pose.matrix(x))
            return 10.0 * value, 10.0 * pose.gradient(x, by_matrix)

        found = optimize.minimize(
            cost, np.zeros(6), jac=True, method="BFGS", options={"maxiter": 50, "gtol": 1e-3}
        )
        return Affine(pose.matrix(found.x))

    def _cost(self, matrix: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope, _, _ = sample_points(self.image, self.ras2vox @ matrix, self.points)
        white, grey = np.split(value, 2)
        # contrast in per cent of the mean: 200 (g - w) / (g + w)
        total = np.maximum(grey + white, self.floor)
        edge = np.tanh(self.slope * 200.0 * (grey - white) / total)
        steep = -self.slope * 200.0 * (1.0 - edge**2) / len(edge)
        by_white, by_grey = steep * (-2.0 * grey / total**2), steep * (2.0 * white / total**2)
        by_value = np.concatenate([by_white, by_grey])
        gradient = pose_gradient(self.points, self.ras2vox, slope, by_value)
        return float((1.0 - edge).mean()), gradient
