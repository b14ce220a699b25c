"""Head-motion numbers for the confounds table: six parameters, FD and rmsd.

Conventions are those of fMRIPrep's table (FSL MCFLIRT's parameters, reordered by nipype's
``NormalizeMotionParams``):

- FSL coordinates are voxel indices times voxel sizes of the reference, with x reversed when
  the affine has a positive determinant; they are neither RAS nor LPS.
- The matrix maps a point of frame t to the reference (the inverse of the affine that this
  package keeps, boldref RAS mm -> frame RAS mm).
- It is x -> R (x - c) + c + t with c the reference's centre of gravity, t in mm, and
  R = Rx Ry Rz of left-handed angles in radians, as FSL composes it. (fMRIPrep recovers the
  same numbers from affines up to second order in the angles: 0.04 mm at one degree.)
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.image.volume import Grid, Volume

FD_RADIUS_MM = 50.0
"""Radius of the sphere on which rotations become millimetres (Power 2012)."""

RMSD_RADIUS_MM = 80.0
"""Radius of the sphere that FSL's rmsdiff averages over (Jenkinson 1999)."""


def fsl_matrices(affines: np.ndarray, reference: Grid) -> np.ndarray:
    """FSL ``.mat`` matrices (frame -> reference) of boldref -> frame RAS affines.

    Parameters
    ----------
    affines : (T, 4, 4) array
        Boldref RAS mm -> frame RAS mm.
    reference : Grid
        Lattice of the reference and of the frames.

    Returns
    -------
    (T, 4, 4) array
        Maps FSL millimetres of the frame to FSL millimetres of the reference.
    """
    scale = np.diag([*reference.zooms_mm, 1.0])
    if np.linalg.det(reference.affine[:3, :3]) > 0:
        flip = np.diag([-1.0, 1.0, 1.0, 1.0])
        flip[0, 3] = (reference.shape[0] - 1) * reference.zooms_mm[0]
        scale = flip @ scale
    ras_to_fsl = scale @ reference.ras2vox
    return ras_to_fsl @ np.linalg.inv(affines) @ np.linalg.inv(ras_to_fsl)


def motion_parameters(affines: np.ndarray, reference: Volume) -> np.ndarray:
    """Translations and rotations as fMRIPrep's confounds table has them.

    Parameters
    ----------
    affines : (T, 4, 4) array
        Boldref RAS mm -> frame RAS mm.
    reference : Volume
        The 3D reference (its centre of gravity is MCFLIRT's centre of rotation).

    Returns
    -------
    (T, 6) array
        trans_x, trans_y, trans_z in mm, rot_x, rot_y, rot_z in radians.
    """
    matrices = fsl_matrices(np.asarray(affines, dtype=float), reference.grid)
    mass = np.nan_to_num(np.asarray(reference.data, dtype=float)).clip(min=0)
    if mass.sum() > 0:
        centre = np.array(ndimage.center_of_mass(mass)) * reference.zooms_mm
    else:
        centre = (np.array(reference.shape) - 1) / 2 * reference.zooms_mm
    rotations = matrices[:, :3, :3]
    # FSL's R = Rx Ry Rz has its angles left-handed.
    angles = -Rotation.from_matrix(rotations).as_euler("XYZ")
    shifts = matrices[:, :3, 3] + rotations @ centre - centre
    return np.hstack([shifts, angles])


def framewise_displacement(parameters: np.ndarray, radius_mm: float = FD_RADIUS_MM) -> np.ndarray:
    """Framewise displacement of Power et al. 2012 (NeuroImage 59): sum of absolute changes.

    Parameters
    ----------
    parameters : (T, 6) array
        Translations in mm, rotations in radians.
    radius_mm : float
        Rotations count as arc length on a sphere of this radius.

    Returns
    -------
    (T,) array in mm; NaN for the first frame.
    """
    change = np.abs(np.diff(parameters, axis=0))
    change[:, 3:] *= radius_mm
    return np.concatenate([[np.nan], change.sum(axis=1)])[: len(parameters)]


def rms_displacement(
    affines: np.ndarray, reference: Grid, radius_mm: float = RMSD_RADIUS_MM
) -> np.ndarray:
    """Root mean square displacement between consecutive frames, as FSL's ``rmsdiff``.

    Jenkinson M. Measuring transformation error by RMS deviation. FMRIB TR99MJ1, 1999.

    Parameters
    ----------
    affines : (T, 4, 4) array
        Boldref RAS mm -> frame RAS mm.
    reference : Grid
        Its centre is the sphere's centre.
    radius_mm : float
        Radius of the sphere.

    Returns
    -------
    (T,) array in mm; NaN for the first frame.
    """
    matrices = fsl_matrices(np.asarray(affines, dtype=float), reference)
    centre = (np.array(reference.shape) - 1) / 2 * reference.zooms_mm
    change = matrices[1:] @ np.linalg.inv(matrices[:-1]) - np.eye(4)
    linear = change[:, :3, :3]
    shift = change[:, :3, 3] + linear @ centre
    mean_square = (shift**2).sum(axis=1) + radius_mm**2 / 5 * (linear**2).sum(axis=(1, 2))
    return np.concatenate([[np.nan], np.sqrt(mean_square)])[: len(affines)]
