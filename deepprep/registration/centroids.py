"""A linear start from where the brain structures of two heads lie: no search, any pose.

Centroids of the same structures are matched by weighted least squares, as the affine network of
SynthMorph does with the barycentres of its features (Hoffmann et al., Imaging Neuroscience 2024).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.registration.label_channels import N_LABELS, LabelPair
from deepprep.registration.transforms import Affine

MIN_VOXELS = 20
"""Structures with fewer voxels have no centroid worth using."""

MIN_STRUCTURES = {6: 4, 12: 10}
"""Structures in common that a rigid and that an affine fit ask for."""

UNRELIABLE = (0, 24, 77)
"""Background, CSF and hypointensities: not in the same place in two heads."""


def start_from_labels(pair: LabelPair, dof: int) -> Affine | None:
    """Map of fixed points to moving points from the centroids of structures.

    Parameters
    ----------
    pair : LabelPair
        Segmentations of both heads.
    dof : {6, 7, 9, 12}
        Affine from 12 where there are structures enough, else rigid.

    Returns
    -------
    Affine or None
        None where the two have too few structures in common.
    """
    fixed, moving, weight = matched_centroids(pair)
    if dof == 12 and len(fixed) >= MIN_STRUCTURES[12]:
        return fit_affine(fixed, moving, weight)
    if len(fixed) >= MIN_STRUCTURES[6]:
        return fit_rigid(fixed, moving, weight)
    return None


def matched_centroids(pair: LabelPair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centroids of the structures that both heads have.

    Returns
    -------
    fixed, moving : (N, 3) arrays
        RAS mm, in the same order.
    weight : (N,) array
        Cube root of the smaller volume in mm^3: small structures are found less surely, but a
        large one must not outweigh all others.
    """
    own, other = _centroids(pair.fixed), _centroids(pair.moving)
    common = sorted(set(own) & set(other))
    points = [np.array([f[k][0] for k in common]).reshape(-1, 3) for f in (own, other)]
    weight = np.array([min(own[k][1], other[k][1]) ** (1 / 3) for k in common])
    return points[0], points[1], weight


def fit_affine(fixed: np.ndarray, moving: np.ndarray, weight: np.ndarray) -> Affine:
    """Weighted least squares of ``moving = A fixed + t``; (N, 3), (N, 3), (N,), RAS mm."""
    root = np.sqrt(weight)[:, None]
    design = np.c_[fixed, np.ones(len(fixed))]
    solution = np.linalg.lstsq(design * root, moving * root, rcond=None)[0]
    matrix = np.eye(4)
    matrix[:3] = solution.T
    return Affine(matrix)


def fit_rigid(fixed: np.ndarray, moving: np.ndarray, weight: np.ndarray) -> Affine:
    """Rotation and translation with the least weighted squares (Kabsch 1976)."""
    share = weight / weight.sum()
    a, b = share @ fixed, share @ moving
    u, _, vt = np.linalg.svd((moving - b).T @ ((fixed - a) * share[:, None]))
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = b - turn @ a
    return Affine(matrix)


def _centroids(labels: Volume) -> dict[int, tuple[np.ndarray, float]]:
    """Centroid (RAS mm) and volume (mm^3) of each structure."""
    numbers = np.rint(labels.data).astype(np.int64)
    numbers[(numbers < 0) | (numbers >= N_LABELS)] = 0
    count = np.bincount(numbers.ravel(), minlength=N_LABELS)
    wanted = [int(k) for k in np.flatnonzero(count >= MIN_VOXELS) if k not in UNRELIABLE]
    if not wanted:
        return {}
    middles = ndimage.center_of_mass(np.ones(numbers.shape, np.uint8), numbers, wanted)
    matrix, voxel = labels.affine, labels.grid.voxel_volume_mm3
    return {
        k: (matrix[:3, :3] @ np.array(m) + matrix[:3, 3], float(count[k] * voxel))
        for k, m in zip(wanted, middles)
    }
