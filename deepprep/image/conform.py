"""Orientation and conforming: every T1w of a subject on one RAS lattice."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from deepprep.image.resample import resample_image
from deepprep.image.volume import Grid, Volume

MAX_ZOOM_RATIO = 3.0
"""An image whose voxels are this many times the smallest ones is left out of the average."""

MIN_ZOOM_MM = 0.2
"""Smaller voxels are a header error."""

MAX_ZOOM_MM = 10.0
"""Larger voxels are a header error."""


MAX_HOLE_MM3 = 1000.0
"""Enclosed groups of NaN voxels up to this volume are filled; larger ones are background."""


@dataclass(frozen=True)
class ConformTarget:
    """The common lattice properties of several anatomical images.

    Parameters
    ----------
    zooms_mm : (3,) tuple of float
        Smallest voxel size along each RAS axis.
    shape : (3,) tuple of int
        Largest number of voxels along each RAS axis.
    kept : tuple of int
        Indices of the images that are good enough to be averaged.
    dropped : tuple of int
        Indices of the others (resolution much lower than the best).
    """

    zooms_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]


def to_ras(volume: Volume) -> Volume:
    """Reorder and flip axes to the closest RAS+ orientation, without interpolation."""
    ornt = nib.io_orientation(volume.affine)
    if np.isnan(ornt).any():
        raise ValueError("the affine has a zero column: axes cannot be told apart")
    data = nib.apply_orientation(volume.data, ornt)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(ornt, volume.shape[:3])
    return Volume(np.ascontiguousarray(data), affine)


def finite(volume: Volume) -> Volume:
    """Replace NaN and infinite voxels.

    Small groups of them enclosed by the image are filled from the nearest voxels; large groups,
    and those at the edge of the image, are background: zero.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z).

    Returns
    -------
    Volume
        The same volume if all voxels are finite.
    """
    bad = ~np.isfinite(volume.data)
    if not bad.any():
        return volume
    data = np.where(bad, np.float32(0), volume.data)
    groups, _ = ndimage.label(np.pad(bad, 1, constant_values=True))
    groups = groups[1:-1, 1:-1, 1:-1]
    sizes_mm3 = np.bincount(groups.ravel()) * volume.grid.voxel_volume_mm3
    small = sizes_mm3 <= MAX_HOLE_MM3
    # The padding makes everything that touches the edge one group, with the number of its corner.
    small[[0, 1]] = False
    holes = small[groups]
    nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    data[holes] = data[tuple(axis[holes] for axis in nearest)]
    return volume.like(data)


def conform_target(grids: list[Grid]) -> ConformTarget:
    """Choose the common lattice of several RAS-oriented images.

    Along each axis the smallest voxel and the largest matrix are taken. Images whose voxels
    are more than three times the smallest are dropped.

    Parameters
    ----------
    grids : list of Grid
        Lattices *after* :func:`to_ras`.

    Returns
    -------
    ConformTarget
    """
    if not grids:
        raise ValueError("no anatomical image to conform")
    zooms = np.array([g.zooms_mm for g in grids])
    good = (zooms <= MAX_ZOOM_RATIO * zooms.min(axis=0)).all(axis=1)
    shape = np.array([g.shape for g in grids])[good].max(axis=0)
    # Rounding keeps header noise (0.99999994 mm) out of the lattice.
    best = np.round(zooms[good].min(axis=0), 4)
    return ConformTarget(
        zooms_mm=(float(best[0]), float(best[1]), float(best[2])),
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        kept=tuple(int(i) for i in np.flatnonzero(good)),
        dropped=tuple(int(i) for i in np.flatnonzero(~good)),
    )


def conform(volume: Volume, target: ConformTarget) -> Volume:
    """Bring one image to RAS order and, if it differs, to the target voxel size and shape.

    The centre of the field of view stays where it was in the world, obliqueness is kept, and
    an image that already has the target lattice is not interpolated.

    Parameters
    ----------
    volume : Volume
        3D image in any orientation.
    target : ConformTarget

    Returns
    -------
    Volume
        RAS-ordered image.
    """
    ras = to_ras(volume)
    zooms = ras.zooms_mm
    if ras.shape[:3] == target.shape and np.allclose(zooms, target.zooms_mm, atol=1e-3):
        return ras
    affine = np.eye(4)
    affine[:3, :3] = ras.affine[:3, :3] / zooms * np.array(target.zooms_mm)
    half = (np.array(target.shape) - 1) / 2.0
    affine[:3, 3] = ras.grid.centre_ras - affine[:3, :3] @ half
    return resample_image(ras, Grid(target.shape, affine))
