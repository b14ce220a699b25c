"""FreeSurfer's conformed space: a 1 mm cube in LIA order about the centre of the image.

What ``mri_convert --conform`` makes, so that tools which expect ``orig.mgz`` to be 256^3 at 1 mm
read ours. World positions (scanner RAS) are those of the image itself: nothing is moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Grid, Volume

CUBE_VOXELS = 256
"""Edge of the conformed cube, in voxels, unless the field of view is larger."""

ZOOM_MM = 1.0
"""Edge of a conformed voxel."""

LIA = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Columns: the world directions of the voxel axes (left, inferior, anterior)."""

HISTOGRAM_BINS = 1000
"""Bins of the intensity histogram, as in mri_convert."""

TOP_FRACTION = 0.001
"""Share of the non-zero voxels that may saturate at 255, as in mri_convert."""

TIE_NUDGE_VOXELS = 1e-3
"""Where the lattices are half a voxel apart every border voxel is a tie. This offset gives all ties
to the same side, as nearest-neighbour sampling does: volumes, also of thin structures, are kept,
and borders move by half a voxel at most."""


@dataclass(frozen=True)
class ByteScaling:
    """Linear map of intensities to 0..255.

    Parameters
    ----------
    low, high : float
        Intensities that become 0 and 255; what lies beyond saturates.
    """

    low: float
    high: float

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Scaled and rounded values, uint8, shape of ``data``."""
        return to_byte((data - np.float32(self.low)) * np.float32(255.0 / (self.high - self.low)))


def conformed_grid(source: Grid) -> Grid:
    """Lattice of ``orig.mgz`` for an image on ``source``.

    Parameters
    ----------
    source : Grid
        Lattice of the image, any orientation.

    Returns
    -------
    Grid
        A cube of 256 voxels of 1 mm, columns to the left, rows down, slices to the front. Its
        voxel (128, 128, 128) lies at the voxel (nx/2, ny/2, nz/2) of the source: what FreeSurfer
        calls the centre (``c_ras``). A field of view of more than 256 mm gets the next even
        number of voxels that holds it.
    """
    fov_mm = float((np.array(source.shape) * source.zooms_mm).max())
    # Header noise (256.0001 mm) does not make a larger cube.
    size = max(CUBE_VOXELS, 2 * math.ceil((fov_mm / ZOOM_MM - 0.01) / 2))
    affine = np.eye(4)
    affine[:3, :3] = LIA * ZOOM_MM
    affine[:3, 3] = centre_ras(source) - affine[:3, :3] @ np.full(3, size / 2)
    return Grid((size, size, size), affine)


def centre_ras(grid: Grid) -> np.ndarray:
    """(3,) RAS mm of FreeSurfer's centre, ``c_ras``: voxel (nx/2, ny/2, nz/2), counted from 0."""
    return grid.affine[:3, :3] @ (np.array(grid.shape) / 2.0) + grid.affine[:3, 3]


def vox2ras_tkr(grid: Grid) -> np.ndarray:
    """(4, 4) voxel index to FreeSurfer's surface ("tkregister") RAS, mm.

    It depends on shape and voxel size alone: as if the axes were exactly LIA and the centre the
    origin. Surface files hold these coordinates.
    """
    half = np.array(grid.shape) * grid.zooms_mm / 2.0
    out = np.eye(4)
    out[:3, :3] = LIA * grid.zooms_mm
    out[:3, 3] = -LIA @ half
    return out


def ras_to_tkr(grid: Grid) -> np.ndarray:
    """(4, 4) scanner RAS mm to surface RAS mm of an image on ``grid``; for LIA minus ``c_ras``."""
    return vox2ras_tkr(grid) @ grid.ras2vox


def byte_scaling(data: np.ndarray) -> ByteScaling:
    """Intensity limits of mri_convert's conversion to bytes.

    The lower limit is the minimum; the upper leaves a thousandth of the non-zero voxels above it
    (histogram of 1000 bins over the unresampled image).

    Parameters
    ----------
    data : array
        The image before resampling.

    Returns
    -------
    ByteScaling
        Identity for an image that is uint8 already.

    Raises
    ------
    ValueError
        If the image is constant.
    """
    if data.dtype == np.uint8:
        return ByteScaling(0.0, 255.0)
    low, top = float(data.min()), float(data.max())
    if not top > low:
        raise ValueError("the image is constant, it cannot be scaled to bytes")
    counts, edges = np.histogram(data, HISTOGRAM_BINS, (low, top))
    wanted = data.size - int(TOP_FRACTION * np.count_nonzero(data))
    first = int(np.argmax(np.cumsum(counts) >= wanted))
    # Two bins below, as mri_convert: but never at or below the minimum.
    high = float(edges[max(first - 2, 1)])
    return ByteScaling(low, high)


def to_byte(data: np.ndarray) -> np.ndarray:
    """Rounded and clipped to 0..255, uint8."""
    return np.clip(np.rint(data), 0, 255).astype(np.uint8)


def conform_image(volume: Volume, grid: Grid) -> Volume:
    """Trilinear resampling onto the conformed lattice, float32; 0 outside the field of view."""
    to_source = volume.grid.ras2vox @ grid.affine
    data = ndimage.affine_transform(
        volume.data.astype(np.float32), to_source[:3, :3], to_source[:3, 3], grid.shape, order=1,
        mode="grid-constant",
    )  # fmt: skip
    return Volume(data, grid.affine)


def conform_labels(labels: Volume, grid: Grid) -> Volume:
    """Labels on the conformed lattice: the label with the largest interpolated share wins.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) non-negative integers, 0 outside.
    grid : Grid
        Lattice of the result.

    Returns
    -------
    Volume
        Same dtype; an exact copy where the lattices differ by axis order and whole voxels.
    """
    between = labels.grid.ras2vox @ grid.affine
    if np.allclose(between, np.rint(between), atol=1e-3):
        between = np.rint(between)
        data = ndimage.affine_transform(
            labels.data, between[:3, :3], between[:3, 3], grid.shape, order=0, mode="constant"
        )
        return Volume(data, grid.affine)
    out = np.zeros(grid.shape, dtype=labels.data.dtype)
    best = np.zeros(grid.shape, dtype=np.float32)
    everything = ndimage.find_objects((labels.data > 0).view(np.uint8))
    if not everything:
        return Volume(out, grid.affine)
    box, share = _share(labels, everything[0], None, grid)
    best[...] = 1.0
    best[box] = 1.0 - share
    for value, extent in enumerate(ndimage.find_objects(labels.data), start=1):
        if extent is None:
            continue
        box, share = _share(labels, extent, value, grid)
        take = share > best[box]
        out[box][take] = value
        best[box][take] = share[take]
    return Volume(out, grid.affine)


def _share(
    labels: Volume, extent: tuple[slice, ...], value: int | None, target: Grid
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Interpolated map of one label (None: of any), and the part of ``target`` it can reach."""
    low = np.array([max(0, s.start - 2) for s in extent])
    high = np.array([min(n, s.stop + 2) for s, n in zip(extent, labels.shape, strict=True)])
    crop = labels.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    crop = crop > 0 if value is None else crop == value
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    to_target = target.ras2vox @ labels.affine
    reach = corners @ to_target[:3, :3].T + to_target[:3, 3]
    start = np.clip(np.floor(reach.min(axis=0)).astype(int) - 1, 0, target.shape)
    stop = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 2, start, target.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    if (stop == start).any():
        return box, np.zeros(stop - start, dtype=np.float32)
    to_crop = _shift(-low) @ labels.grid.ras2vox @ target.affine @ _shift(start)
    share = ndimage.affine_transform(
        crop.astype(np.float32), to_crop[:3, :3], to_crop[:3, 3] + TIE_NUDGE_VOXELS,
        tuple(stop - start), order=1,
    )  # fmt: skip
    return box, share


def _shift(start: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, 3] = start
    return out
