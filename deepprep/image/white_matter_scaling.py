"""FreeSurfer's intensity scale: white matter at 110, everywhere in the head.

FreeSurfer finds its control points by intensity; here the segmentation says where white matter
is. The gain is smooth: a local mean of the logarithm over white matter, drawn to the global gain
where there is none nearby.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume

WHITE_MATTER_LEVEL = 110.0
"""Intensity of white matter in T1.mgz, nu.mgz, norm.mgz and brainmask.mgz."""

WORKING_ZOOM_MM = 4.0
"""The gain is computed on boxes of about this size."""

SIGMAS_MM = (40.0, 20.0, 20.0, 14.0)
"""Widths of the successive local means; each fits what the one before left."""

PULL = 0.02
"""Weight of the global gain, as a share of the mean density of white matter around white matter:
it rules beyond about two sigmas from the last white-matter voxel."""

ROUNDS = 3
"""Fits; after each, voxels that do not agree with their surroundings are left out."""

OUTLIER_SDS = 2.5
"""Robust standard deviations (1.4826 MAD) from the local level at which a voxel is left out."""

MIN_SPREAD = 0.01
"""Smallest standard deviation assumed: images that were scaled before have none."""

MIN_CORE_FRACTION = 0.1
"""White matter is eroded by one voxel against partial volume, unless less than this is left."""


@dataclass(frozen=True)
class WhiteMatterScaling:
    """Result of :func:`scale_white_matter`.

    Parameters
    ----------
    scaled : Volume
        float32 image with white matter at 110.
    log_gain : (X, Y, Z) float32 array
        Natural logarithm of the local gain over ``far_gain``.
    far_gain : float
        Factor where no white matter is near; ``scaled = image * far_gain * exp(log_gain)``.
    """

    scaled: Volume
    log_gain: np.ndarray
    far_gain: float


def white_matter_core(white: np.ndarray) -> np.ndarray:
    """White matter without its border voxels, (X, Y, Z) bool; all of it where it is too thin."""
    core = ndimage.binary_erosion(white)
    return core if core.sum() >= MIN_CORE_FRACTION * white.sum() else white


def global_gain(volume: Volume, white: np.ndarray) -> float:
    """Factor that brings the median of the white matter to 110.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) image.
    white : (X, Y, Z) bool array
        White matter.

    Raises
    ------
    ValueError
        If there is no white matter with a positive value.
    """
    values = volume.data[white_matter_core(white)]
    values = values[values > 0]
    if values.size == 0:
        raise ValueError("the segmentation has no white matter with a positive intensity")
    return WHITE_MATTER_LEVEL / float(np.median(values))


def scale_white_matter(volume: Volume, white: np.ndarray) -> WhiteMatterScaling:
    """Scale an image so that white matter is 110 everywhere.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) non-negative image, best bias-corrected.
    white : (X, Y, Z) bool array
        Cerebral white matter.

    Returns
    -------
    WhiteMatterScaling
        Its gain stays within what white matter itself needed: nothing outside is amplified more.

    Raises
    ------
    ValueError
        If there is no white matter with a positive value.
    """
    gain = global_gain(volume, white)
    core = white_matter_core(white) & (volume.data > 0)
    where = np.nonzero(core)
    log_value = np.log(volume.data[where].astype(np.float64) * (gain / WHITE_MATTER_LEVEL))
    factors = [max(1, round(WORKING_ZOOM_MM / z)) for z in volume.zooms_mm]
    shape = tuple(-(-n // f) for n, f in zip(volume.shape[:3], factors, strict=True))
    boxes = tuple(i // f for i, f in zip(where, factors, strict=True))
    sigmas = [[s / (f * z) for f, z in zip(factors, volume.zooms_mm)] for s in SIGMAS_MM]

    keep = np.ones(log_value.size, dtype=bool)
    field = np.zeros(shape)
    for _ in range(ROUNDS):
        kept = tuple(b[keep] for b in boxes)
        field = _smooth_field(kept, log_value[keep], shape, sigmas)
        residual = log_value - field[boxes]
        middle = float(np.median(residual[keep]))
        spread = 1.4826 * float(np.median(np.abs(residual[keep] - middle)))
        spread = max(spread, MIN_SPREAD)
        keep = np.abs(residual - middle) <= OUTLIER_SDS * spread

    own = field[tuple(b[keep] for b in boxes)]
    field = np.clip(field, own.min(), own.max())
    log_gain = -_to_voxels(field, factors, volume.shape[:3])
    scaled = volume.data * (np.float32(gain) * np.exp(log_gain))
    # The local fit is a mean; the level itself is a median, as people measure it.
    level = float(np.median(scaled[core]))
    scaled *= np.float32(WHITE_MATTER_LEVEL / level)
    return WhiteMatterScaling(volume.like(scaled), log_gain, gain * WHITE_MATTER_LEVEL / level)


def _smooth_field(
    boxes: tuple[np.ndarray, ...],
    values: np.ndarray,
    shape: tuple[int, ...],
    sigmas: list[list[float]],
) -> np.ndarray:
    """Local mean of ``values`` on the coarse lattice, drawn to 0 where there are none."""
    index = np.ravel_multi_index(boxes, shape)
    size = int(np.prod(shape))
    weight = np.bincount(index, minlength=size).reshape(shape).astype(np.float64)
    total = np.bincount(index, weights=values, minlength=size).reshape(shape)
    field = np.zeros(shape)
    for sigma in sigmas:
        rest = total - weight * field
        density = ndimage.gaussian_filter(weight, sigma, mode="constant")
        usual = float((density * weight).sum() / weight.sum())
        field += ndimage.gaussian_filter(rest, sigma, mode="constant") / (density + PULL * usual)
    return field


def _to_voxels(field: np.ndarray, factors: list[int], shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation from boxes of ``factors`` voxels to every voxel, float32."""
    out = field.astype(np.float32)
    for axis, (factor, n) in enumerate(zip(factors, shape, strict=True)):
        at = (np.arange(n) + 0.5) / factor - 0.5
        low = np.clip(np.floor(at).astype(int), 0, out.shape[axis] - 1)
        high = np.minimum(low + 1, out.shape[axis] - 1)
        share = np.clip(at - low, 0, 1).astype(np.float32)
        share = share.reshape([-1 if a == axis else 1 for a in range(3)])
        out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
    return out
