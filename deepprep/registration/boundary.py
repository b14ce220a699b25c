"""Boundary-based registration of a BOLD reference to anatomy (Greve & Fischl 2009).

BOLD images are brighter in grey matter than in white matter. At points of the white-matter
edge the signal a little outside is compared with the signal a little inside; the pose with
the strongest edges everywhere wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, optimize
from skimage import measure

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.linear import generators
from deepprep.registration.pyramid import clean, on_lattice
from deepprep.registration.transforms import Affine

DEPTH_MM = 2.0
"""How far inside and outside the edge the signal is read."""

SLOPE = 0.5
"""Steepness of the cost in per cent of contrast (Greve & Fischl: 0.5)."""

MAX_POINTS = 40_000
"""Edge points that are used, spread evenly over the surface."""

MIN_POINTS = 200
"""Fewer edge points inside the BOLD field of view than this are no anatomy."""

STARTS_MM = (0.0, 3.0)
"""Starting offsets, applied along and about each axis, of the coarse search."""

SMOOTH_SIGMA_MM = (3.0, 0.0)
"""Smoothing of the BOLD image in the coarse and in the final pass."""


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
        Torch device of the cost.

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
    coarse, fine = (_Edge(bold, points, normals, s, device) for s in SMOOTH_SIGMA_MM)
    pose = coarse.optimise(_best_start(coarse, init, centre), centre)
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
            pose = edge.moved(start, centre, offset)
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
        device: str,
    ) -> None:
        data = bold.data
        if sigma_mm > 0:
            data = ndimage.gaussian_filter(data, sigma_mm / bold.zooms_mm)
        self.image = torch.as_tensor(data, device=device)[None, None]
        self.size = torch.tensor(bold.shape, dtype=torch.float32, device=device)
        self.to_vox = torch.as_tensor(bold.grid.ras2vox, dtype=torch.float32, device=device)
        depth = max(DEPTH_MM, 0.5 * float(bold.zooms_mm.max()))
        both = np.concatenate([points - depth * normals, points + depth * normals])
        self.points = torch.as_tensor(both, dtype=torch.float32, device=device)

    def moved(self, start: Affine, centre: np.ndarray, theta: np.ndarray) -> Affine:
        """``start`` after a small motion about ``centre`` (T1w space)."""
        return Affine(_pose(start, centre)(torch.from_numpy(theta)).numpy())

    def cost_at(self, pose: Affine) -> float:
        """Mean cost over the edge."""
        with torch.no_grad():
            return float(self._cost(torch.from_numpy(pose.matrix.copy())))

    def optimise(self, start: Affine, centre: np.ndarray) -> Affine:
        """Descend by BFGS over rotation and translation."""
        matrix = _pose(start, centre)

        def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
            theta = torch.tensor(x, dtype=torch.float64, requires_grad=True)
            value = self._cost(matrix(theta))
            value.backward()
            assert theta.grad is not None
            return float(value.detach()) * 10, theta.grad.numpy() * 10.0

        found = optimize.minimize(
            cost, np.zeros(6), jac=True, method="BFGS", options={"maxiter": 50, "gtol": 1e-3}
        )
        return Affine(matrix(torch.from_numpy(np.asarray(found.x))).numpy())

    def _cost(self, matrix: torch.Tensor) -> torch.Tensor:
        to_vox = self.to_vox @ matrix.to(self.to_vox)
        vox = self.points @ to_vox[:3, :3].T + to_vox[:3, 3]
        grid = (vox * (2.0 / (self.size - 1).clamp(min=1)) - 1).flip(1).reshape(1, -1, 1, 1, 3)
        value = torch.nn.functional.grid_sample(
            self.image, grid, mode="bilinear", padding_mode="border", align_corners=True
        ).reshape(2, -1)
        white, grey = value[0], value[1]
        contrast = 100.0 * (grey - white) / (0.5 * (grey + white)).clamp(min=1e-3)
        return (1.0 - torch.tanh(SLOPE * contrast)).mean()


def _pose(start: Affine, centre: np.ndarray):  # noqa: ANN202
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = -centre, centre
    basis = generators(6)
    left, right = torch.from_numpy(start.matrix @ back), torch.from_numpy(there)

    def matrix(theta: torch.Tensor) -> torch.Tensor:
        return left @ torch.linalg.matrix_exp(torch.einsum("d,dij->ij", theta, basis)) @ right

    return matrix
