"""Where aCompCor looks: CSF and white matter without grey matter, in BOLD voxels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.resample import PointTransform, resample
from deepprep.image.volume import Grid, Volume

GM_MIN = 0.05
"""Voxels with at least this share of grey matter count as grey."""

GM_DILATION_MM = 3.0
"""Distance kept from grey matter (3 voxels of a 1 mm T1w in fMRIPrep)."""

PURE = 0.99
"""Share of tissue a BOLD voxel needs (Behzadi et al. 2007)."""

RELAXED = (0.95, 0.9, 0.8, 0.7)
"""Shares tried next when a mask would stay smaller than ``MIN_VOXELS`` (large BOLD voxels)."""

MIN_VOXELS = 10
"""Fewest voxels to decompose."""

SUBSAMPLES = 3
"""Points per axis at which the anatomy is averaged over a BOLD voxel."""

MASKS = ("CSF", "WM", "combined")
"""Names in fMRIPrep's order."""


def acompcor_masks(
    gm: Volume,
    wm: Volume,
    csf: Volume,
    brain_mask: Volume,
    bold_to_anatomy: PointTransform | None = None,
) -> dict[str, Volume]:
    """CSF, WM and combined masks on the BOLD lattice, from anatomical tissue probabilities.

    Grey matter is dilated at the anatomy's resolution and removed from white matter and from
    the sum of both (as in fMRIPrep, in place of Behzadi's erosion); each map is averaged over
    the BOLD voxel and kept where it is purer than 0.99 inside the brain.

    Parameters
    ----------
    gm, wm, csf : Volume
        Tissue probabilities on one anatomical lattice.
    brain_mask : Volume
        BOLD brain mask; gives the lattice.
    bold_to_anatomy : PointTransform, optional
        Maps BOLD reference RAS mm to anatomical RAS mm; identity when absent.

    Returns
    -------
    dict of bool Volume, keys 'CSF', 'WM', 'combined'
        A mask with fewer than ten voxels is retried at lower purity; it may still be empty.
    """
    grey = gm.data > GM_MIN
    near_grey = (
        ndimage.distance_transform_edt(~grey, sampling=gm.zooms_mm) <= GM_DILATION_MM
        if grey.any()
        else grey
    )
    white_only = np.where(near_grey, 0, wm.data).astype(np.float32)
    maps = {
        "CSF": csf.data.astype(np.float32),
        "WM": white_only,
        "combined": np.where(near_grey, 0, csf.data + white_only).astype(np.float32),
    }
    inside = brain_mask.data > 0
    masks = {}
    for name in MASKS:
        share = _average_over_voxels(gm.like(maps[name]), brain_mask.grid, bold_to_anatomy)
        chosen = inside & (share >= PURE)
        for purity in RELAXED:
            if chosen.sum() >= MIN_VOXELS:
                break
            chosen = inside & (share >= purity)
        masks[name] = brain_mask.like(chosen)
    return masks


def _average_over_voxels(
    image: Volume, target: Grid, transform: PointTransform | None
) -> np.ndarray:
    """Mean of ``image`` over each voxel of ``target``."""
    n = SUBSAMPLES
    to_fine = np.diag([1 / n, 1 / n, 1 / n, 1.0])
    to_fine[:3, 3] = (1 / n - 1) / 2
    fine = Grid(tuple(n * size for size in target.shape), target.affine @ to_fine)  # type: ignore[arg-type]
    values = resample(image, fine, transform, "linear").data
    x, y, z = target.shape
    return values.reshape(x, n, y, n, z, n).mean(axis=(1, 3, 5))
