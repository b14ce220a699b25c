"""Parcels of the surfaces carried into the volume: aparc+aseg, wmparc."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh

CORTEX = {"lh": 3, "rh": 42}
"""Label of the cortical ribbon in aseg."""
WHITE_MATTER = {"lh": 2, "rh": 41}
"""Label of cerebral white matter in aseg."""
FIRST_CORTEX = {"aparc": {"lh": 1000, "rh": 2000}, "a2009s": {"lh": 11100, "rh": 12100}}
"""Number before the first parcel in the volume, of the atlases that FreeSurfer numbers."""
FIRST_WHITE = {"lh": 3000, "rh": 4000}
"""Number before the first parcel of white matter in wmparc (aparc only)."""
DEEP_WHITE = {"lh": 5001, "rh": 5002}
"""White matter far from every parcel."""
NEAR_MM = 5.0
"""White matter within this distance of a parcel belongs to it."""
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where between white and pial surface points are compared with voxels."""


YIELDING = (0, 2, 3, 24, 41, 42, 77)
"""Labels of aseg that the cortex of the surfaces replaces; deep structures stay."""


@dataclass(frozen=True)
class HemisphereParcels:
    """One hemisphere's surfaces and labels.

    Parameters
    ----------
    white, pial : Mesh
        RAS+ mm, the same triangles.
    labels : (V,) int array
        Rows of the colour table; 0 and below are no cortex.
    """

    white: Mesh
    pial: Mesh
    labels: np.ndarray


def with_ribbon(aseg: Volume, ribbon: np.ndarray) -> Volume:
    """``aseg`` whose cortex is that of the surfaces, as FreeSurfer's final one.

    Parameters
    ----------
    aseg : Volume
        (X, Y, Z) FreeSurfer numbers.
    ribbon : (X, Y, Z) int array
        2 and 41 inside the white surfaces, 3 and 42 between white and pial, else 0, on the same
        lattice.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    if aseg.shape != ribbon.shape:
        raise ValueError(f"the ribbon has shape {ribbon.shape}, the segmentation {aseg.shape}")
    out = np.array(aseg.data, dtype=np.int32)
    before = np.isin(out, (3, 42))
    # Cortex that no surface holds is none; inside the white surface it is white matter.
    out[before & (ribbon == 0)] = 0
    for white in WHITE_MATTER.values():
        out[before & (ribbon == white)] = white
    for grey in CORTEX.values():
        out[(ribbon == grey) & np.isin(aseg.data, YIELDING)] = grey
    return aseg.like(out)


def label_ribbon(
    aseg: Volume, hemispheres: dict[str, HemisphereParcels], parcellation: str = "aparc"
) -> Volume:
    """``aparc+aseg``: each voxel of cortex gets the parcel of the nearest point of the ribbon.

    Parameters
    ----------
    aseg : Volume
        (X, Y, Z) FreeSurfer numbers; voxels of 3 and 42 are replaced.
    hemispheres : dict of {'lh', 'rh'} to HemisphereParcels
    parcellation : {'aparc', 'a2009s'}

    Raises
    ------
    ValueError
        Where FreeSurfer has no numbers for the parcellation.
    """
    if parcellation not in FIRST_CORTEX:
        raise ValueError(
            f"volume numbers exist for {' and '.join(FIRST_CORTEX)}, not for {parcellation}"
        )
    out = np.array(aseg.data, dtype=np.int32)
    for hemi, parcels in hemispheres.items():
        voxels = np.argwhere(out == CORTEX[hemi])
        labelled = np.asarray(parcels.labels) > 0
        if not len(voxels) or not labelled.any():
            continue
        white, pial = parcels.white.vertices[labelled], parcels.pial.vertices[labelled]
        points = np.concatenate([white + depth * (pial - white) for depth in DEPTHS])
        nearest = cKDTree(points).query(_world(aseg, voxels))[1] % int(labelled.sum())
        names = np.asarray(parcels.labels)[labelled][nearest]
        out[tuple(voxels.T)] = FIRST_CORTEX[parcellation][hemi] + names
    return aseg.like(out)


def label_white_matter(
    aparc_aseg: Volume, hemispheres: dict[str, HemisphereParcels], near_mm: float = NEAR_MM
) -> Volume:
    """``wmparc``: white matter within 5 mm of a parcel is named after it, the rest is deep.

    Parameters
    ----------
    aparc_aseg : Volume
        From :func:`label_ribbon` with ``aparc``.
    hemispheres : dict of {'lh', 'rh'} to HemisphereParcels
    near_mm : float
    """
    out = np.array(aparc_aseg.data, dtype=np.int32)
    for hemi, parcels in hemispheres.items():
        voxels = np.argwhere(out == WHITE_MATTER[hemi])
        labels = np.asarray(parcels.labels)
        labelled = labels > 0
        if not len(voxels):
            continue
        names = np.full(len(voxels), DEEP_WHITE[hemi], dtype=np.int32)
        if labelled.any():
            tree = cKDTree(parcels.white.vertices[labelled])
            distance, nearest = tree.query(_world(aparc_aseg, voxels), distance_upper_bound=near_mm)
            near = np.isfinite(distance)
            names[near] = FIRST_WHITE[hemi] + labels[labelled][nearest[near]]
        out[tuple(voxels.T)] = names
    return aparc_aseg.like(out)


def _world(volume: Volume, voxels: np.ndarray) -> np.ndarray:
    return voxels @ volume.affine[:3, :3].T + volume.affine[:3, 3]
