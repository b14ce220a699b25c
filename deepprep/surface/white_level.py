"""Level set of the white surface: intensities between white and grey, held to the labels.

Where white matter meets cortex, the surface lies where the intensity is half-way between the local
means of the two, at sub-voxel precision; labels say how far that may be from where they put the
border. Elsewhere (corpus callosum, brain stem, ventricles, hippocampus) the labels decide.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.partial_volume import local_mean
from deepprep.surface.filled import CORTEX, WHITE, FilledHemisphere
from deepprep.surface.spline_lattice import finer_grid, to_finer

LATTICE_MM = 0.95
"""Voxel size of the level set: about 150 000 vertices on a hemisphere of an adult."""

POSTERIOR_WEIGHT = 0.3
"""Part of a segmentation's posterior in the fraction of white matter; the rest is intensity. It
calms noise; more of it loses thin blades, where networks at 1 mm are unsure."""

TRUST_MM = 1.5
"""The surface may leave the labels' border between white matter and cortex by so much."""

GUARD_MM = 1.0
"""Within this distance of structures whose intensities mislead, the labels' border holds."""

RAMP = 1.2
"""Distance over which partial volume takes the intensity from grey to white, in voxels."""

NOISE = 0.15
"""Standard deviation of the fraction of white matter within it that is tolerated; noisier images
are smoothed, no more than that needs, since smoothing loses thin blades."""

SMOOTHINGS_VOX = (0.0, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Gaussians to choose from, voxels."""

SMOOTHING_VOX = 0.6
"""Standard deviation that takes the steps out of the distance to labels, voxels."""


def white_level(
    filled: FilledHemisphere,
    labels: Volume,
    side: str,
    image: Volume | None = None,
    white: np.ndarray | None = None,
) -> Volume:
    """Signed distance to the white surface of a hemisphere, near it.

    Parameters
    ----------
    filled : FilledHemisphere
    labels : Volume
        The labels it was made from.
    side : {'left', 'right'}
    image : Volume, optional
        (X, Y, Z) T1w on the lattice of ``labels``, bias-corrected. Without it labels alone
        decide.
    white : (X, Y, Z) array, optional
        Posterior of white matter on the same lattice.

    Returns
    -------
    Volume
        float32, mm, negative inside, on an isotropic lattice of ``LATTICE_MM`` with the axes of
        ``labels``.
    """
    zooms = labels.zooms_mm
    source = labels.grid.part(filled.box)
    target = finer_grid(source, LATTICE_MM)
    by_labels = ndimage.gaussian_filter(_signed_distance(filled.inside, zooms), SMOOTHING_VOX)
    prior = to_finer(by_labels, source, target, degree=1)
    if image is None:
        return Volume(prior, target.affine)
    data = np.nan_to_num(np.asarray(image.data[filled.box], dtype=np.float32))
    part = white_part(data, np.asarray(labels.data[filled.box]), side, zooms)
    part = calmed(part, filled.inside & np.isin(labels.data[filled.box], WHITE[side]))
    if white is not None:
        posterior = np.asarray(white[filled.box], dtype=np.float32)
        part = (1 - POSTERIOR_WEIGHT) * part + POSTERIOR_WEIGHT * posterior
    ramp_mm = RAMP * float(zooms.mean())
    by_intensity = ramp_mm * (0.5 - to_finer(part, source, target))
    unsure = ndimage.distance_transform_edt(filled.plain, sampling=zooms)
    freedom = np.clip(to_finer(unsure, source, target, degree=1) - GUARD_MM, 0, TRUST_MM)
    return Volume(np.clip(by_intensity, prior - freedom, prior + freedom), target.affine)


def white_part(data: np.ndarray, labels: np.ndarray, side: str, zooms_mm: np.ndarray) -> np.ndarray:
    """Place of each intensity between the local means of cortex (0) and white matter (1).

    Parameters
    ----------
    data : (X, Y, Z) float array
    labels : (X, Y, Z) int array
    side : {'left', 'right'}
    zooms_mm : (3,) array

    Returns
    -------
    (X, Y, Z) float32 array
        Limited to -0.5 and 1.5.

    Raises
    ------
    ValueError
        If white matter is not brighter than cortex.
    """
    white = np.isin(labels, WHITE[side])
    cortex = np.isin(labels, CORTEX[side])
    cross = ndimage.generate_binary_structure(3, 1)
    means = []
    for mask in (white, cortex):
        # what borders on another tissue holds some of it
        sure = ndimage.binary_erosion(mask, cross)
        if sure.sum() < 200:
            sure = mask
        middle = float(np.median(data[sure]))
        spread = max(1.4826 * float(np.median(np.abs(data[sure] - middle))), 1e-6)
        sure &= np.abs(data - middle) < 2.5 * spread
        means.append((middle, local_mean(data, sure, middle, zooms_mm)))
    (white_middle, white_mean), (grey_middle, grey_mean) = means
    if not white_middle > grey_middle:
        raise ValueError(
            f"white matter ({white_middle:.3g}) is not brighter than cortex ({grey_middle:.3g}): "
            "is this a T1-weighted image?"
        )
    gap = np.maximum(white_mean - grey_mean, 0.25 * (white_middle - grey_middle))
    return np.clip((data - grey_mean) / gap, -0.5, 1.5).astype(np.float32)


def calmed(part: np.ndarray, white: np.ndarray) -> np.ndarray:
    """Smooth a fraction of white matter as much as its noise within white matter asks for.

    Parameters
    ----------
    part : (X, Y, Z) float array
    white : (X, Y, Z) bool array
        White matter; its outermost two voxels are not looked at.
    """
    sure = ndimage.binary_erosion(white, iterations=2)
    if sure.sum() < 200:
        return part
    # differences of neighbours: noise, not what is left of the bias field
    steps = np.diff(part, axis=0)[sure[1:] & sure[:-1]]
    noise = 1.4826 * float(np.median(np.abs(steps))) / np.sqrt(2)
    peak = np.zeros(13)
    peak[6] = 1
    for sigma in SMOOTHINGS_VOX:
        left = np.sqrt((ndimage.gaussian_filter1d(peak, sigma) ** 2).sum()) ** 3 if sigma else 1.0
        if noise * left <= NOISE:
            break
    return ndimage.gaussian_filter(part, sigma) if sigma else part


def _signed_distance(inside: np.ndarray, zooms_mm: np.ndarray) -> np.ndarray:
    """Distance to the border between voxels, mm, negative inside."""
    half = float(zooms_mm.mean()) / 2
    out = ndimage.distance_transform_edt(~inside, sampling=zooms_mm) - half
    within = ndimage.distance_transform_edt(inside, sampling=zooms_mm) - half
    return np.where(inside, -within, out).astype(np.float32)
