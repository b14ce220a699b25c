"""The B0 field a head makes: susceptibility of tissue against air, shimmed."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage


def susceptibility_field(
    head: np.ndarray, air: np.ndarray, zooms_mm: np.ndarray, smooth_mm: float = 2.0
) -> np.ndarray:
    """Relative field perturbation of a head in air (arbitrary units, B0 along axis 2).

    Parameters
    ----------
    head, air : (X, Y, Z) bool arrays
        Inside of the head; air in it.
    zooms_mm : (3,) array
        Voxel edges.
    smooth_mm : float
        Standard deviation of a Gaussian smoothing.

    Returns
    -------
    (X, Y, Z) float32 array

    Notes
    -----
    Convolution of the susceptibility with the dipole kernel ``1/3 - kz^2/k^2`` (Salomir 2003,
    Marques and Bowtell 2005). The neck is continued downwards, air surrounds the rest.
    """
    tissue = (head & ~air).astype(np.float32)
    n = np.array(head.shape)
    margin = n // 3
    tissue = np.pad(tissue, [(m, m) for m in margin[:2]] + [(0, margin[2])])
    # The body goes on below the field of view.
    tissue = np.pad(tissue, [(0, 0), (0, 0), (2 * margin[2], 0)], mode="edge")
    shape = [fft.next_fast_len(int(s), real=True) for s in tissue.shape]
    k = np.meshgrid(
        fft.fftfreq(shape[0], zooms_mm[0]),
        fft.fftfreq(shape[1], zooms_mm[1]),
        fft.rfftfreq(shape[2], zooms_mm[2]),
        indexing="ij",
        sparse=True,
    )
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    k2[0, 0, 0] = 1.0
    kernel = 1.0 / 3.0 - k[2] ** 2 / k2
    kernel *= np.exp(-2 * (np.pi * smooth_mm) ** 2 * k2)
    kernel[0, 0, 0] = 0.0
    field = fft.irfftn(fft.rfftn(tissue, shape, workers=2) * kernel, shape, workers=2)
    start = [margin[0], margin[1], 2 * margin[2]]
    window = tuple(slice(s, s + size) for s, size in zip(start, n, strict=True))
    return field[window].astype(np.float32)


def shim(field: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Subtract the second-order polynomial that fits the field best over the brain.

    A scanner's shim coils do this: what is left is zero on average over the brain.
    """
    axes = [np.linspace(-1, 1, n) for n in field.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    terms = [np.ones((1, 1, 1)), x, y, z, x * y, x * z, y * z, x * x, y * y, z * z]
    inside = np.flatnonzero(ndimage.binary_erosion(brain).ravel())[::7]
    basis = np.stack(
        [np.broadcast_to(np.asarray(t), field.shape).reshape(-1)[inside] for t in terms], axis=1
    )
    weights = np.linalg.lstsq(basis, field.reshape(-1)[inside], rcond=None)[0]
    out = field.astype(np.float64)
    for term, weight in zip(terms, weights, strict=True):
        out = out - weight * term
    return out.astype(np.float32)


def scale_to_hz(field: np.ndarray, brain: np.ndarray, peak_hz: float) -> np.ndarray:
    """Scale so that the 99.5th percentile of the size in the brain is ``peak_hz``, softly capped.

    The cap (1.5 times the peak) keeps voxels beside a sinus from folding onto each other.
    """
    top = np.percentile(np.abs(field[brain]), 99.5)
    hz = field * (peak_hz / max(float(top), 1e-12))
    cap = 1.5 * peak_hz
    return (cap * np.tanh(hz / cap)).astype(np.float32)
