"""Where aCompCor looks: CSF and white matter without grey matter, in BOLD voxels."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.resample import PointTransform, sample_linear
from deepprep.image.volume import Grid, Volume

NOISE_SIGMA_MM = 1.0
"""Smoothing of the tissue maps before they are thresholded: single noisy voxels of grey matter,
dilated, would otherwise leave no white matter in high-resolution images."""

GM_MIN = 0.3
"""Voxels with at least this share of grey matter, after smoothing, count as grey."""

WM_MIN = 0.7
"""Voxels with at least this share of white matter, after smoothing, count as wholly white."""

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
    gm, wm, csf = _cropped(gm, wm, csf)
    sigma = NOISE_SIGMA_MM / gm.zooms_mm
    grey = ndimage.gaussian_filter(gm.data.astype(np.float32), sigma, truncate=3.0) > GM_MIN
    white = ndimage.gaussian_filter(wm.data.astype(np.float32), sigma, truncate=3.0) > WM_MIN
    near_grey = (
        ndimage.distance_transform_edt(~grey, sampling=gm.zooms_mm) <= GM_DILATION_MM
        if grey.any()
        else grey
    )
    white_only = np.where(near_grey, 0, np.where(white, 1, wm.data)).astype(np.float32)
    maps = {
        "CSF": csf.data.astype(np.float32),
        "WM": white_only,
        "combined": np.where(near_grey, 0, np.minimum(1, csf.data + white_only)).astype(np.float32),
    }
    inside = brain_mask.data > 0
    where = _points_over_voxels(brain_mask, gm.grid, bold_to_anatomy)
    masks = {}
    for name in MASKS:
        share = sample_linear(maps[name], where).mean(axis=1)
        chosen = share >= PURE
        for purity in RELAXED:
            if chosen.sum() >= MIN_VOXELS:
                break
            chosen = share >= purity
        mask = np.zeros(inside.shape, dtype=bool)
        mask[inside] = chosen
        masks[name] = brain_mask.like(mask)
    return masks


def _cropped(*tissues: Volume) -> list[Volume]:
    """The tissues within their common bounding box: a distance map of a whole head is slow."""
    present = np.any([tissue.data > PURE / 2 for tissue in tissues], axis=0)
    boxes = ndimage.find_objects(present.astype(np.uint8))
    if not boxes:
        return list(tissues)
    # One empty voxel is kept around, so that sampling falls to zero beyond the box.
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in boxes[0])
    return [tissue.part(box) for tissue in tissues]


def _points_over_voxels(mask: Volume, source: Grid, transform: PointTransform | None) -> np.ndarray:
    """Source voxel coordinates (3, N, 27) of points spread over each of the N mask voxels."""
    steps = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    spread = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    ijk = (np.argwhere(mask.data > 0)[:, np.newaxis] + spread).reshape(-1, 3)
    points = ijk @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    if transform is not None:
        points = np.asarray(transform.map_points(points))
    vox = points @ source.ras2vox[:3, :3].T + source.ras2vox[:3, 3]
    return np.ascontiguousarray(vox.T, dtype=np.float32).reshape(3, -1, SUBSAMPLES**3)
