"""From a stationary velocity to maps both ways that do not fold.

The flow of a velocity field over unit time is a map, that of its negative the inverse (Arsigny et
al. 2006); where the discrete map would fold, the velocity is smoothed until it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.spline_matrix import interpolation_matrix
from deepprep.image.volume import Grid, Volume
from deepprep.registration.folding import smallest_corner_determinant
from deepprep.registration.itk import SHEAR_TOLERANCE
from deepprep.registration.transforms import Affine, Chain, Displacement
from deepprep.registration.velocity import (
    Smoother,
    along_axes,
    border_window,
    exponential,
    identity,
    invert,
    sample,
)

MARGIN_MM = 18.0
"""How far the working lattice reaches beyond the fixed brain."""

MIN_JACOBIAN = 0.12
"""Smallest determinant allowed at any corner of any cell."""

FINAL_STEP_VOX = 0.3
"""Largest first step of the final flow."""

MAX_SMOOTHINGS = 50
"""Passes of local smoothing against folding; none to three are usual."""

FINE_MM = (0.9, 1.5)
"""Voxels of the fixed image between these carry the maps; others are joined or divided."""

MOST_STAMPED = 100_000_000
"""Voxels written at most when weights are stamped around cells that fold."""

SMALLEST_MM = 0.75
"""Voxels of the moving image from here on carry the inverse."""


@dataclass(frozen=True)
class DeformableResult:
    """A diffeomorphic map and its inverse.

    Parameters
    ----------
    forward : Displacement
        Fixed points to fixed points; acts BEFORE ``init``.
    inverse : Displacement
        Undoes ``forward``; acts after ``init`` was inverted. Same lattice.
    velocity : Displacement
        The stationary velocity in mm, on its own lattice; ``forward`` is its flow over unit time.
    init : Affine
        Fixed points to moving points.
    log : dict
        Seconds; of each level the iterations and the agreement (mean local correlation, less
        the mismatch of tissue maps); smallest Jacobian; smoothings against folding.

    Notes
    -----
    Total map of fixed points to moving points: ``p -> init(forward(p))``, of moving points
    to fixed points: ``q -> inverse(init^-1(q))``, or the same kept at moving voxels
    (``moving_to_fixed``).
    """

    forward: Displacement
    inverse: Displacement
    velocity: Displacement
    init: Affine
    log: dict = field(default_factory=dict)

    def fixed_to_moving(self) -> Chain:
        """Fixed points -> moving points; resamples the MOVING image onto a fixed lattice."""
        return Chain([self.forward, self.init])

    def moving_to_fixed(self, voxels: Grid | None = None) -> Chain:
        """Moving points -> fixed points; resamples the FIXED image onto a moving lattice.

        Parameters
        ----------
        voxels : Grid, optional
            Of the moving image at which the map will be asked: it is then kept at their centres
            (``whole_lattice``), so that it is the same there however a reader interpolates, and moves
            points before ``init`` is undone. Without, or where the grid is sheared, which ITK cannot
            describe, or so fine that the file would be several times as large: on the lattice of
            ``forward``, after it.
        """
        back = self.init.inverse()
        sheared = voxels is not None and voxels.shear > SHEAR_TOLERANCE
        if voxels is None or sheared or voxels.zooms_mm.min() < SMALLEST_MM:
            return Chain([back, self.inverse])
        on = whole_lattice(voxels)
        to_field = self.forward.grid.ras2vox @ back.matrix @ on.affine
        there, guess = (torch.from_numpy(d.in_voxels()) for d in (self.forward, self.inverse))
        found = invert(there, guess, to_field, on.shape)
        to_moving = self.init.matrix[:3, :3] @ self.forward.affine[:3, :3]
        vectors = found.permute(1, 2, 3, 0).numpy() @ to_moving.T.astype(np.float32)
        return Chain([Displacement(vectors, on.affine), back])


def flow_of(
    velocity: Displacement,
    fixed: Volume,
    init: Affine,
    spacing_mm: float = 2.0,
    device: str = "cpu",
) -> DeformableResult:
    """The maps of a velocity field, both ways.

    Parameters
    ----------
    velocity : Displacement
        Stationary velocity in mm (RAS) in the fixed space, on any lattice.
    fixed : Volume
        The fixed image; what is not zero is the brain.
    init : Affine
        Fixed points to moving points, after the flow.
    spacing_mm : float
        Lattice of the flow.
    device : str
        Torch device.
    """
    grid = lattice(fixed.grid, fixed.data != 0, spacing_mm)
    return finish(voxel_velocity(velocity, grid, device), grid, fixed.grid, init, {"levels": []})


def voxel_velocity(velocity: Displacement, grid: Grid, device: str = "cpu") -> torch.Tensor:
    """(3, X, Y, Z) velocity in voxels of ``grid``, sampled from one in mm; zero at the border."""
    points = grid.points_ras().reshape(-1, 3)
    vectors = (velocity.map_points(points) - points) @ grid.ras2vox[:3, :3].T
    field_vox = torch.from_numpy(vectors.T.astype(np.float32).reshape(3, *grid.shape))
    return (field_vox * border_window(grid.shape, 4)).to(device).contiguous()


def lattice(fixed: Grid, brain: np.ndarray, spacing_mm: float) -> Grid:
    """Lattice along the fixed axes that covers the brain with margin."""
    zooms = fixed.zooms_mm
    low = np.zeros(3)
    high = (np.array(fixed.shape) - 1) * zooms
    for axis in range(3):
        used = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        low[axis] = used[0] * zooms[axis] - MARGIN_MM
        high[axis] = used[-1] * zooms[axis] + MARGIN_MM
    shape = np.ceil((high - low) / spacing_mm).astype(int) + 1
    affine = fixed.affine.copy()
    affine[:3, 3] += fixed.affine[:3, :3] @ (low / zooms)
    affine[:3, :3] = fixed.affine[:3, :3] / zooms * spacing_mm
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def refine(velocity: torch.Tensor, coarse: Grid, fine: Grid) -> torch.Tensor:
    """The velocity on a finer lattice along the same axes, in voxels of that lattice."""
    to_coarse = coarse.ras2vox @ fine.affine
    ident = identity(fine.shape, velocity.device)
    scale = torch.tensor(np.diag(to_coarse)[:3].copy(), dtype=torch.float32)
    shift = torch.tensor(to_coarse[:3, 3].copy(), dtype=torch.float32)
    view = (3, 1, 1, 1)
    scale, shift = scale.to(velocity.device).reshape(view), shift.to(velocity.device).reshape(view)
    return sample(velocity, ident * scale + shift, "zeros") / scale


def voxel_lattice(fixed: Grid, grid: Grid) -> Grid:
    """The fixed image's own voxels where ``grid`` lies; several to one, or one to several, to about 1 mm.

    A map that is kept at the voxel centres at which it is applied is the same map there however a
    reader interpolates between them.
    """
    zooms, least = fixed.zooms_mm, FINE_MM[0]
    step = np.where(zooms < least, np.ceil(least / zooms - 1e-6), 1.0) / _parts(zooms)
    ends = np.array([[0, 0, 0], np.array(grid.shape) - 1]) @ grid.affine[:3, :3].T
    ends = (ends + grid.affine[:3, 3]) @ fixed.ras2vox[:3, :3].T + fixed.ras2vox[:3, 3]
    first = np.ceil(ends[0] / step - 1e-6)
    shape = np.floor(ends[1] / step + 1e-6) - first + 1
    affine = fixed.affine.copy()
    affine[:3, 3] += fixed.affine[:3, :3] @ (first * step)
    affine[:3, :3] = fixed.affine[:3, :3] * step
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def whole_lattice(image: Grid) -> Grid:
    """All of an image's voxels, large ones divided into parts of at most 1.5 mm."""
    step = 1.0 / _parts(image.zooms_mm)
    shape = np.ceil((np.array(image.shape) - 1) / step - 1e-6) + 1
    affine = image.affine.copy()
    affine[:3, :3] = image.affine[:3, :3] * step
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def _parts(zooms_mm: np.ndarray) -> np.ndarray:
    """(3,) parts into which voxels along each axis are divided for a map."""
    return np.where(zooms_mm > FINE_MM[1], np.ceil(zooms_mm / FINE_MM[1] - 1e-6), 1.0)


def _refine_smoothly(velocity: torch.Tensor, coarse: Grid, fine: Grid) -> torch.Tensor:
    """As ``refine``, by cubic splines: no kinks where voxels of the coarse lattice meet."""
    to_coarse = coarse.ras2vox @ fine.affine
    matrices = []
    for axis, (n, m) in enumerate(zip(coarse.shape, fine.shape)):
        at = to_coarse[axis, axis] * np.arange(m) + to_coarse[axis, 3]
        matrices.append(torch.from_numpy(interpolation_matrix(n, at)).to(velocity.device))
    scale = torch.tensor(np.diag(to_coarse)[:3].copy(), dtype=torch.float32)
    return along_axes(velocity, matrices) / scale.to(velocity.device).reshape(3, 1, 1, 1)


def _embed(field_vox: torch.Tensor, grid: Grid, fixed: Grid) -> tuple[torch.Tensor, Grid]:
    """The field, zero beyond its lattice, on one that covers the fixed image as well."""
    corners = np.array([[0, 0, 0], np.array(fixed.shape) - 1]) @ fixed.affine[:3, :3].T
    corners = (corners + fixed.affine[:3, 3]) @ grid.ras2vox[:3, :3].T + grid.ras2vox[:3, 3]
    before = np.maximum(np.ceil(-corners[0] - 1e-6), 0).astype(int)
    after = np.maximum(np.ceil(corners[1] - np.array(grid.shape) + 1 - 1e-6), 0).astype(int)
    pad = [int(n) for axis in (2, 1, 0) for n in (before[axis], after[axis])]
    affine = grid.affine.copy()
    affine[:3, 3] -= grid.affine[:3, :3] @ before
    padded = torch.nn.functional.pad(field_vox, pad)
    return padded, Grid((padded.shape[1], padded.shape[2], padded.shape[3]), affine)


def finish(
    velocity: torch.Tensor, grid: Grid, fixed: Grid, init: Affine, log: dict
) -> DeformableResult:
    """Flow, inverse and proof that neither folds; smooths the velocity where they would.

    The maps lie on the fixed image's own voxels (``voxel_lattice``).
    """
    fine = voxel_lattice(fixed, grid)
    smooth = Smoother(grid.shape, 1.5, device=velocity.device)
    window = border_window(grid.shape, 4, velocity.device)
    edge = border_window(fine.shape, 2, velocity.device)
    smoothings = 0
    while True:
        refined = _refine_smoothly(velocity, grid, fine) * edge
        forward, inverse, tight, moved = _both_ways(refined, fine)
        if tight.min() > MIN_JACOBIAN:
            break
        if smoothings == MAX_SMOOTHINGS:
            raise RuntimeError("the registration folds however smooth its velocity is made")
        smoothings += 1
        share = _near(tight < 2 * MIN_JACOBIAN, moved, fine, grid, smoothings, velocity.device)
        velocity = (velocity + share * (smooth(velocity) - velocity)) * window
    log["smoothed_against_folding"] = smoothings
    log["smallest_jacobian"] = round(float(tight.min()), 4)
    there, back = (to_displacement(*_embed(f, fine, fixed)) for f in (forward, inverse))
    flow = to_displacement(*_embed(velocity, grid, fixed))
    return DeformableResult(there, back, flow, init, log)


def _both_ways(
    velocity: torch.Tensor, grid: Grid
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, torch.Tensor]:
    """Flow, its inverse, and how tight a cell becomes either way; last, the one of both that is tight."""
    ident = identity(grid.shape, velocity.device)
    forward = exponential(velocity, ident, FINAL_STEP_VOX)
    tight = smallest_corner_determinant(forward.cpu().contiguous().numpy(), True)
    if tight.min() <= MIN_JACOBIAN:
        return forward, -forward, tight, forward
    inverse = invert(forward, exponential(-velocity, ident, FINAL_STEP_VOX))
    other = smallest_corner_determinant(inverse.cpu().contiguous().numpy(), False)
    if other.min() <= MIN_JACOBIAN:
        return forward, inverse, other, inverse
    return forward, inverse, np.minimum(tight, other), forward


def _near(
    cells: np.ndarray,
    moved: torch.Tensor,
    on: Grid,
    grid: Grid,
    reach_vox: int,
    device: torch.device,
) -> torch.Tensor:
    """(X, Y, Z) weights on ``grid``: one at the marked cells of ``on`` and where ``moved`` (voxels) takes
    them, fading to zero a few voxels away.
    """
    # each pass reaches further, so that in the end the whole field is smoothed
    to_grid = grid.ras2vox @ on.affine
    at = np.argwhere(cells)
    ends = at + moved[(slice(None), *at.T)].cpu().numpy().T
    at = np.concatenate([at, ends]) @ to_grid[:3, :3].T + to_grid[:3, 3]
    at = np.clip(np.rint(at).astype(int), 0, np.array(grid.shape) - 1)
    at = np.unique(at, axis=0)
    wide = 2.0 + 2.0 * reach_vox
    radius = int(np.ceil(1.5 * wide))
    if len(at) * (2 * radius + 1) ** 3 > MOST_STAMPED:
        marked = np.zeros(grid.shape, bool)
        marked[tuple(at.T)] = True
        distance = ndimage.distance_transform_edt(~marked)
        weight = np.clip(1.5 - distance / wide, 0.0, 1.0).astype(np.float32)
        return torch.from_numpy(weight).to(device)
    # a stamp at each of a few cells costs a tenth of the distance at every voxel
    offset = np.arange(-radius, radius + 1, dtype=float)
    distance = np.sqrt(sum(o**2 for o in np.meshgrid(offset, offset, offset, indexing="ij")))
    stamp = np.clip(1.5 - distance / wide, 0.0, 1.0).astype(np.float32)
    padded = np.zeros([n + 2 * radius for n in grid.shape], np.float32)
    for i, j, k in at:
        part = padded[i : i + len(offset), j : j + len(offset), k : k + len(offset)]
        np.maximum(part, stamp, out=part)
    inner = tuple(slice(radius, n + radius) for n in grid.shape)
    return torch.from_numpy(np.ascontiguousarray(padded[inner])).to(device)


def to_displacement(field_vox: torch.Tensor, grid: Grid) -> Displacement:
    """(3, X, Y, Z) displacement in voxels of a lattice as one in mm (RAS)."""
    vectors = field_vox.permute(1, 2, 3, 0).cpu().numpy()
    return Displacement(vectors @ grid.affine[:3, :3].T.astype(np.float32), grid.affine)
