"""Brain mask of the BOLD reference."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from deepprep.image.volume import Volume

BIAS_FWHM_MM = 60.0
"""Smoothing that leaves only the receive field."""

OPENING_MM = 4.0
"""Radius of the opening that cuts eyes and scalp from the brain."""

PRIOR_MARGIN_MM = 6.0
"""How far outside an anatomical prior the BOLD mask may reach: coregistration and distortion
are a few mm at most."""


def bold_brain_mask(
    reference: Volume, prior: Volume | None = None, prior_margin_mm: float = PRIOR_MARGIN_MM
) -> Volume:
    """Brain mask by intensity and shape.

    The receive field is divided out, bright voxels found by Otsu's threshold, thin bridges to
    the eyes and scalp opened, the largest piece kept, closed and filled.

    Parameters
    ----------
    reference : Volume
        3D BOLD reference.
    prior : Volume, optional
        Mask (or probability) of the brain from the anatomy, on the same lattice. The result
        then lies within ``prior_margin_mm`` of it and contains all of its inner bright part.
    prior_margin_mm : float
        See ``prior``.

    Returns
    -------
    Volume
        bool. All false when the reference is empty.
    """
    values = np.nan_to_num(np.asarray(reference.data, dtype=np.float32)).clip(min=0)
    zooms = reference.zooms_mm
    if not values.any():
        return reference.like(np.zeros(values.shape, dtype=bool))
    values = np.minimum(values, np.percentile(values[values > 0], 99.5))
    rough = values > _otsu(values)
    flat = values / _receive_field(values, rough, zooms)
    soft = ndimage.gaussian_filter(flat, 0.5)
    threshold = _between_background_and_brain(soft, rough)
    bright = soft > threshold
    inside = _largest(_open(bright, OPENING_MM, zooms))
    if prior is not None:
        if prior.shape != reference.shape:
            raise ValueError(f"prior {prior.shape} and reference {reference.shape} differ")
        anatomy = prior.data > 0.5
        distance = ndimage.distance_transform_edt(~anatomy, sampling=zooms)
        inside = (inside & (distance <= prior_margin_mm)) | (anatomy & bright)
        inside = _largest(inside)
    inside = _close(inside, 2.5 * OPENING_MM, zooms)
    for axis in range(3):
        inside = _fill_planes(inside, axis)
    return reference.like(ndimage.binary_fill_holes(inside))


def _otsu(values: np.ndarray) -> float:
    return float(threshold_otsu(values)) if np.ptp(values) > 0 else 0.0


def _receive_field(values: np.ndarray, rough: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    sigma = BIAS_FWHM_MM / 2.355 / zooms
    weight = ndimage.gaussian_filter(rough.astype(np.float32), sigma)
    field = ndimage.gaussian_filter(np.where(rough, values, 0), sigma) / np.maximum(weight, 1e-3)
    return np.maximum(field, 0.3 * values[rough].mean() if rough.any() else 1e-6)


def _between_background_and_brain(flat: np.ndarray, rough: np.ndarray) -> float:
    """Otsu mixes cerebrospinal fluid, brain and dark rim; half of the brain's level is the
    edge of a blurred step between brain and background."""
    if not rough.any():
        return 0.0
    brain = float(np.median(flat[rough]))
    background = float(np.median(flat[~rough])) if (~rough).any() else 0.0
    return background + 0.45 * (brain - background)


def _distance(inside: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    # The field of view's edge is no edge of the brain: slabs keep their first and last slices.
    padded = np.pad(inside, 1, mode="edge")
    return ndimage.distance_transform_edt(padded, sampling=zooms)[1:-1, 1:-1, 1:-1]


def _open(inside: np.ndarray, radius_mm: float, zooms: np.ndarray) -> np.ndarray:
    core = _distance(inside, zooms) > radius_mm
    if not core.any():
        return inside
    core = _largest(core)
    return inside & (ndimage.distance_transform_edt(~core, sampling=zooms) <= radius_mm + 1e-3)


def _close(inside: np.ndarray, radius_mm: float, zooms: np.ndarray) -> np.ndarray:
    if not inside.any():
        return inside
    width = [int(np.ceil(radius_mm / zoom)) + 1 for zoom in zooms]
    padded = np.pad(inside, [(n, n) for n in width])
    grown = ndimage.distance_transform_edt(~padded, sampling=zooms) <= radius_mm
    shrunk = ndimage.distance_transform_edt(grown, sampling=zooms) > radius_mm
    inner = tuple(slice(n, -n) for n in width)
    return inside | shrunk[inner]


def _fill_planes(inside: np.ndarray, axis: int) -> np.ndarray:
    planes = np.moveaxis(inside.copy(), axis, 0)
    for n, plane in enumerate(planes):
        planes[n] = ndimage.binary_fill_holes(plane)
    return np.moveaxis(planes, 0, axis)


def _largest(inside: np.ndarray) -> np.ndarray:
    labels, n = ndimage.label(inside)
    if n <= 1:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()
