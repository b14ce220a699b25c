"""Folded hemispheres whose white and pial surfaces are known exactly, and images of them.

The white surface is star-shaped: a radius for every direction from a centre. The pial surface is
where the distance to the white surface equals a thickness that varies slowly over directions, so
that thickness by closest points is known too. Images hold the fraction of each tissue in every
voxel (partial volume), a smooth bias and noise.

    from benchmarks.surface_phantom import SHAPES, render
    phantom = render([SHAPES["waves"]], zoom_mm=1.0, noise=0.03)
    error_mm = SHAPES["waves"].white_distance(mesh.vertices)

To look at them: python benchmarks/surface_phantom.py FOLDER
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage, spatial

from deepprep.image.volume import Grid, Volume

MEANS = {"csf": 30.0, "grey": 80.0, "white": 110.0}
"""Intensities of the pure tissues; 0 beyond a round skull full of fluid."""

CSF_RIM_MM = 3.0
"""Fluid over the highest gyrus, mm."""

POINTS_PER_MM2 = 20.0
"""Points on the true white surface for each mm^2 of a sphere of its radius: spacing 0.2 mm."""

SUBVOXELS = 2
"""Each voxel is divided so often along each axis; within a part the surface is flat."""

Field = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FoldedHemisphere:
    """A closed folded surface with a cortex on it.

    Attributes
    ----------
    name : str
    height : callable
        (N, 3) unit vectors to (N,) height of the white surface over ``radius_mm``, mm.
    thickness : callable
        (N, 3) unit vectors to (N,) thickness of cortex, mm.
    radius_mm : float
    centre_ras : tuple of float
        RAS mm.
    white_label, grey_label : int
        FreeSurfer's numbers.
    """

    name: str
    height: Field
    thickness: Field
    radius_mm: float = 40.0
    centre_ras: tuple[float, float, float] = (0.0, 0.0, 0.0)
    white_label: int = 2
    grey_label: int = 3

    def radius(self, directions: np.ndarray) -> np.ndarray:
        """(N,) distance of the white surface from the centre, mm, for (N, 3) unit vectors."""
        return self.radius_mm + self.height(directions)

    @cached_property
    def _directions(self) -> np.ndarray:
        # a golden spiral: even, and no triangulation needed
        total = int(4 * np.pi * self.radius_mm**2 * POINTS_PER_MM2)
        n = np.arange(total) + 0.5
        z = 1 - 2 * n / total
        angle = np.pi * (1 + 5**0.5) * n
        flat = np.sqrt(1 - z**2)
        return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1)

    @cached_property
    def white_points(self) -> np.ndarray:
        """(N, 3) points on the white surface, RAS mm (denser per area on top than on banks)."""
        return self.centre_ras + self._directions * self.radius(self._directions)[:, None]

    @cached_property
    def white_normals(self) -> np.ndarray:
        """(N, 3) outward unit normals at ``white_points``."""
        relative = self.white_points - self.centre_ras
        step = 1e-4
        gradient = np.empty_like(relative)
        for axis in range(3):
            moved = np.zeros(3)
            moved[axis] = step
            gradient[:, axis] = (
                self._beyond(relative + moved) - self._beyond(relative - moved)
            ) / (2 * step)
        return gradient / np.linalg.norm(gradient, axis=1, keepdims=True)

    @cached_property
    def point_areas(self) -> np.ndarray:
        """(N,) area of white surface for which each of ``white_points`` stands, mm^2."""
        slope = (self.white_normals * self._directions).sum(axis=1)
        return 4 * np.pi / len(slope) * self.radius(self._directions) ** 2 / slope

    @cached_property
    def pial_points(self) -> np.ndarray:
        """(M, 3) points on the pial surface, RAS mm."""
        out = self.white_points + self.white_normals * self.thickness(self._directions)[:, None]
        # where banks are closer than two thicknesses the nearer one decides
        return out[np.abs(self.pial_distance(out)) < 0.02]

    def _beyond(self, relative: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(relative, axis=1)
        return length - self.radius(relative / length[:, None])

    @cached_property
    def _tree(self) -> spatial.cKDTree:
        return spatial.cKDTree(self.white_points)

    def white_distance(self, points_ras: np.ndarray, within_mm: float = np.inf) -> np.ndarray:
        """Signed distance to the white surface.

        Parameters
        ----------
        points_ras : (N, 3) array
            RAS mm.
        within_mm : float
            Points farther from the white surface get plus or minus infinity.

        Returns
        -------
        (N,) float array
            mm, negative inside; within about 0.01 mm.
        """
        points_ras = np.asarray(points_ras, dtype=np.float64)
        side = np.where(self._beyond(points_ras - self.centre_ras) < 0, -1.0, 1.0)
        far, nearest = self._tree.query(points_ras, distance_upper_bound=within_mm, workers=1)
        out = side * np.inf
        found = np.isfinite(far)
        at = nearest[found]
        # the nearest point's tangent plane: for close points better than the distance to it
        plane = ((points_ras[found] - self.white_points[at]) * self.white_normals[at]).sum(axis=1)
        out[found] = np.where(far[found] < 1.0, plane, side[found] * np.abs(plane))
        return out

    def pial_distance(self, points_ras: np.ndarray, within_mm: float = np.inf) -> np.ndarray:
        """Signed distance to the pial surface, mm; see :meth:`white_distance`."""
        relative = np.asarray(points_ras, dtype=np.float64) - self.centre_ras
        directions = relative / np.maximum(np.linalg.norm(relative, axis=1, keepdims=True), 1e-9)
        return self.white_distance(points_ras, within_mm) - self.thickness(directions)


def _smooth_field(seed: int, n_waves: int, low: float, high: float) -> Field:
    """Sum of plane waves on the sphere, standard deviation 1; ``low`` to ``high`` waves a turn."""
    random = np.random.default_rng(seed)
    axes = random.normal(size=(n_waves, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    axes *= random.uniform(low, high, (n_waves, 1))
    phases = random.uniform(0, 2 * np.pi, n_waves)

    def field(directions: np.ndarray) -> np.ndarray:
        total = np.zeros(len(directions))
        for axis, phase in zip(axes, phases):
            total += np.cos(directions @ axis + phase)
        return total * np.sqrt(2.0 / n_waves)

    return field


def _thickness(seed: int, mean_mm: float = 2.6, sd_mm: float = 0.35) -> Field:
    slow = _smooth_field(seed, 12, 1.0, 2.5)
    return lambda directions: mean_mm + sd_mm * np.tanh(slow(directions))


def _gentle(directions: np.ndarray) -> np.ndarray:
    return 2.0 * _smooth_field(1, 20, 2.0, 6.0)(directions)


def _waves(directions: np.ndarray) -> np.ndarray:
    """Parallel folds, 14 mm apart and 9 mm deep, bent by a slow field."""
    angle = np.arccos(np.clip(directions[:, 2], -1, 1))
    bend = 0.25 * _smooth_field(2, 8, 1.0, 3.0)(directions) * np.sin(angle) ** 2
    return 4.5 * np.cos(18.0 * (angle + bend))


def _network(directions: np.ndarray) -> np.ndarray:
    """Winding sulci 12 mm deep between gyri with flat crowns, as in a cortex."""
    return 6.0 * np.tanh(1.5 * _smooth_field(3, 40, 15.0, 18.0)(directions)) - 1.0


def _blades(directions: np.ndarray) -> np.ndarray:
    """Like ``waves``, with gyri 3 mm wide at the crown between sulci of 8 mm."""
    angle = np.arccos(np.clip(directions[:, 2], -1, 1))
    bend = 0.2 * _smooth_field(4, 8, 1.0, 3.0)(directions) * np.sin(angle) ** 2
    return 9.0 * (0.5 + 0.5 * np.cos(20.0 * (angle + bend))) ** 2.0 - 4.0


SHAPES: Mapping[str, FoldedHemisphere] = {
    shape.name: shape
    for shape in (
        FoldedHemisphere("gentle", _gentle, _thickness(11)),
        FoldedHemisphere("waves", _waves, _thickness(12)),
        FoldedHemisphere("network", _network, _thickness(13)),
        FoldedHemisphere("blades", _blades, _thickness(14, 2.2, 0.2)),
    )
}
"""Hemispheres of increasing difficulty."""


def as_right(shape: FoldedHemisphere) -> FoldedHemisphere:
    """The same hemisphere with the labels of the right side."""
    return replace(shape, white_label=41, grey_label=42)


@dataclass(frozen=True)
class RenderedPhantom:
    """An image of hemispheres and what is in its voxels.

    Attributes
    ----------
    image : Volume
        float32, T1-weighted contrast.
    labels : Volume
        uint8: the tissue with the largest fraction; 24 for fluid, 0 for nothing.
    white, grey : Volume
        float32 fractions over all hemispheres.
    """

    image: Volume
    labels: Volume
    white: Volume
    grey: Volume


def grid_around(shapes: Sequence[FoldedHemisphere], zoom_mm: float = 1.0) -> Grid:
    """RAS lattice that holds hemispheres with 10 mm around them."""
    low = np.min([np.min(s.white_points, axis=0) for s in shapes], axis=0) - 10.0
    high = np.max([np.max(s.white_points, axis=0) for s in shapes], axis=0) + 10.0
    affine = np.diag([zoom_mm, zoom_mm, zoom_mm, 1.0])
    # off the lattice, so that nothing is symmetric about voxel centres
    affine[:3, 3] = low + 0.37 * zoom_mm
    n = np.ceil((high - low) / zoom_mm).astype(int)
    return Grid((int(n[0]), int(n[1]), int(n[2])), affine)


def render(
    shapes: Sequence[FoldedHemisphere],
    *,
    zoom_mm: float = 1.0,
    noise: float = 0.03,
    bias: float = 0.0,
    seed: int = 0,
    grid: Grid | None = None,
) -> RenderedPhantom:
    """Image of hemispheres with partial volume.

    Parameters
    ----------
    shapes : sequence of FoldedHemisphere
        They must not overlap.
    zoom_mm : float
        Voxel size, where no ``grid`` is given.
    noise : float
        Standard deviation of Gaussian noise, in parts of the intensity of white matter.
    bias : float
        Standard deviation of a smooth multiplicative field.
    seed : int
        Of noise and bias.
    grid : Grid, optional
        Any lattice, also oblique.
    """
    grid = grid_around(shapes, zoom_mm) if grid is None else grid
    white = np.zeros(grid.shape, dtype=np.float32)
    grey, fluid = np.zeros_like(white), np.zeros_like(white)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for shape in shapes:
        box = _reach(shape, grid)
        in_white, in_pial, in_skull = _fractions(shape, _part(grid, box))
        tissues = [in_skull - in_pial, in_pial - in_white, in_white]
        for total, tissue in zip((fluid[box], grey[box], white[box]), tissues):
            total += tissue
        largest = np.stack([1 - in_skull, *tissues]).argmax(0)
        found = np.array([0, 24, shape.grey_label, shape.white_label], dtype=np.uint8)[largest]
        # the fluid of one hemisphere does not cover another
        labels[box] = np.where((largest > 1) | (labels[box] == 0), found, labels[box])
    fluid = np.minimum(fluid, np.maximum(0, 1 - white - grey))
    data = MEANS["white"] * white + MEANS["grey"] * grey + MEANS["csf"] * fluid
    random = np.random.default_rng(seed)
    if bias:
        field = ndimage.gaussian_filter(random.normal(size=grid.shape), 25.0 / grid.zooms_mm)
        data = data * np.exp(bias * field / field.std())
    data = data + noise * MEANS["white"] * random.normal(size=grid.shape)
    affine = grid.affine
    return RenderedPhantom(
        Volume(np.maximum(data, 0).astype(np.float32), affine),
        Volume(labels.astype(np.uint8), affine),
        Volume(white, affine),
        Volume(grey, affine),
    )


def _skull_mm(shape: FoldedHemisphere) -> float:
    directions = shape._directions[::29]
    highest = float(shape.radius(directions).max())
    return highest + float(shape.thickness(directions).max()) + CSF_RIM_MM


def _reach(shape: FoldedHemisphere, grid: Grid) -> tuple[slice, ...]:
    """Voxels that a hemisphere with its fluid can touch."""
    centre = nib.affines.apply_affine(grid.ras2vox, shape.centre_ras)
    reach = (_skull_mm(shape) + 2.0) * np.linalg.norm(grid.ras2vox[:3, :3], axis=1)
    start = np.clip(np.floor(centre - reach), 0, grid.shape).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start, grid.shape).astype(int)
    return tuple(slice(a, b) for a, b in zip(start, stop))


def _part(grid: Grid, box: tuple[slice, ...]) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] = nib.affines.apply_affine(grid.affine, [s.start for s in box])
    x, y, z = (s.stop - s.start for s in box)
    return Grid((x, y, z), affine)


def _fractions(shape: FoldedHemisphere, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Part of each voxel inside the white surface, the pial surface, and the skull."""
    fine_affine = grid.affine @ nib.affines.from_matvec(
        np.eye(3) / SUBVOXELS, np.full(3, (1.0 / SUBVOXELS - 1.0) / 2.0)
    )
    fine_shape = tuple(n * SUBVOXELS for n in grid.shape)
    size_mm = float(grid.zooms_mm.mean()) / SUBVOXELS
    directions = shape._directions[::29]
    lowest, highest = (f(shape.radius(directions)) for f in (np.min, np.max))
    thickest = float(shape.thickness(directions).max())
    # |d _beyond / d distance| at most: nothing deeper than this is near the surface
    steepest = 1.0 / (shape.white_normals * shape._directions).sum(axis=1).min()
    skull_mm = _skull_mm(shape)
    out = [np.empty(fine_shape, dtype=np.float32) for _ in range(3)]
    for i in range(fine_shape[0]):
        ijk = np.stack(np.meshgrid([i], *map(np.arange, fine_shape[1:]), indexing="ij"), axis=-1)
        points = nib.affines.apply_affine(fine_affine, ijk.reshape(-1, 3))
        relative = points - shape.centre_ras
        length = np.linalg.norm(relative, axis=1)
        distance = np.where(length < lowest, -np.inf, np.inf)
        thickness = np.full(len(points), thickest)
        shell = np.flatnonzero((length > lowest - 2.0) & (length < highest + thickest + 1.0))
        unit = relative[shell] / length[shell, None]
        beyond = length[shell] - shape.radius(unit)
        distance[shell] = np.where(beyond < 0, -np.inf, np.inf)
        near = shell[beyond > -steepest * 2 * size_mm]
        distance[near] = shape.white_distance(points[near], thickest + 2 * size_mm)
        thickness[shell] = shape.thickness(unit)
        for part, beyond in zip(out, (distance, distance - thickness, length - skull_mm)):
            # a flat surface through a small cube: about a linear ramp as wide as the cube
            part[i] = np.clip(0.5 - beyond / (1.2 * size_mm), 0, 1).reshape(fine_shape[1:])
    return tuple(_mean_of_blocks(part) for part in out)  # type: ignore[return-value]


def _mean_of_blocks(fine: np.ndarray) -> np.ndarray:
    shape = [k for n in fine.shape for k in (n // SUBVOXELS, SUBVOXELS)]
    return fine.reshape(shape).mean(axis=(1, 3, 5))


def main() -> None:
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(2, len(SHAPES), figsize=(5 * len(SHAPES), 10))
    for column, shape in enumerate(SHAPES.values()):
        image = render([shape]).image
        middle = [n // 2 for n in image.shape]
        axes[0, column].imshow(image.data[middle[0]].T, origin="lower", cmap="gray")
        axes[1, column].imshow(image.data[:, :, middle[2]].T, origin="lower", cmap="gray")
        axes[0, column].set_title(f"{shape.name}: {shape.point_areas.sum() / 100:.0f} cm2")
    figure.savefig(folder / "surface_phantom.png", dpi=60)


if __name__ == "__main__":
    main()
