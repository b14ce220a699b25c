"""What a head made of T1w intensities looks like to a gradient-echo EPI sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume

EPI_SIGNAL = {"csf": 1.30, "gm": 1.0, "wm": 0.80}
"""Steady-state T2*-weighted signal of each tissue, relative to grey matter (3 T, TE 30 ms)."""

MUSCLE_SIGNAL, FAT_SIGNAL, BONE_SIGNAL = 0.28, 0.10, 0.02
"""Signal outside the brain: fat is suppressed, bone and air are nearly silent."""

FIRST_FRAME_EXCESS = {"csf": 1.6, "gm": 0.65, "wm": 0.45}
"""Relative extra signal of the very first frame, before T1 saturation (long T1: more)."""


@dataclass(frozen=True)
class HeadModel:
    """Maps on the T1w lattice, all float32.

    Parameters
    ----------
    brain : (X, Y, Z) bool array
    gm, wm, csf : (X, Y, Z) arrays
        Tissue fractions, summing to one in the brain, zero elsewhere.
    signal : (X, Y, Z) array
        EPI signal, grey matter 1.
    excess : (X, Y, Z) array
        Extra signal of the first frame.
    head : (X, Y, Z) bool array
        Inside of the head, cavities filled.
    air : (X, Y, Z) bool array
        Sinuses and other air inside the head.
    """

    brain: np.ndarray
    gm: np.ndarray
    wm: np.ndarray
    csf: np.ndarray
    signal: np.ndarray
    excess: np.ndarray
    head: np.ndarray
    air: np.ndarray


def model_head(t1w: Volume, brain: np.ndarray) -> HeadModel:
    """Tissue fractions and EPI signal from T1w intensities.

    Parameters
    ----------
    t1w : Volume
        Head, RAS order.
    brain : (X, Y, Z) bool array
        Brain mask on the same lattice.

    Returns
    -------
    HeadModel

    Notes
    -----
    In the brain, three intensity classes by k-means on the T1w values; between two class
    centres the fractions mix linearly, which is what partial volume does. Outside, dark is
    bone or air, mid-grey muscle, bright fat.
    """
    data = t1w.data.astype(np.float32)
    c, g, w = three_means(data[brain])
    gm, wm, csf = (m * brain for m in _fractions(data, c, g, w))
    # Cerebrospinal fluid goes on for a few millimetres outside a tight brain mask.
    reach = max(1, round(2.0 / float(t1w.zooms_mm.min())))
    rim = ndimage.binary_dilation(brain, iterations=reach) & ~brain & (data < (c + g) / 2)
    head = _head_mask(data, c)
    outside = np.where(data > 1.1 * w, FAT_SIGNAL, MUSCLE_SIGNAL * np.clip(data / g, 0, 1))
    outside = np.where(data < 0.5 * c, BONE_SIGNAL, outside) * head
    signal = np.where(rim, 0.7 * EPI_SIGNAL["csf"], outside)
    tissue = {"csf": csf, "gm": gm, "wm": wm}
    signal = np.where(brain, sum(EPI_SIGNAL[k] * m for k, m in tissue.items()), signal)
    excess = sum(EPI_SIGNAL[k] * FIRST_FRAME_EXCESS[k] * m for k, m in tissue.items())
    excess = np.where(brain, excess, 0.5 * signal)
    air = _sinuses(data, brain, head, c, t1w.zooms_mm)
    return HeadModel(
        brain=brain,
        gm=gm.astype(np.float32),
        wm=wm.astype(np.float32),
        csf=csf.astype(np.float32),
        signal=(signal * ~air).astype(np.float32),
        excess=(excess * ~air).astype(np.float32),
        head=head,
        air=air,
    )


def three_means(values: np.ndarray, iterations: int = 50) -> tuple[float, float, float]:
    """Centres of three intensity classes (1D k-means on a histogram), ascending."""
    low, high = np.percentile(values, [0.5, 99.5])
    counts, edges = np.histogram(values, bins=256, range=(low, high))
    middle = (edges[1:] + edges[:-1]) / 2
    centres = low + (high - low) * np.array([0.15, 0.55, 0.85])
    for _ in range(iterations):
        nearest = np.abs(middle[:, None] - centres).argmin(axis=1)
        for k in range(3):
            mine = nearest == k
            if counts[mine].sum():
                centres[k] = np.average(middle[mine], weights=counts[mine])
    return float(centres[0]), float(centres[1]), float(centres[2])


def _fractions(
    data: np.ndarray, c: float, g: float, w: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    wm = np.clip((data - g) / (w - g), 0, 1)
    csf = np.clip((g - data) / (g - c), 0, 1)
    return 1 - wm - csf, wm, csf


def _head_mask(data: np.ndarray, csf_level: float) -> np.ndarray:
    """Everything inside the outer skin, cavities filled."""
    solid = ndimage.binary_opening(data > 0.5 * csf_level, iterations=1)
    labels, n = ndimage.label(solid)
    if n > 1:
        solid = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    # Pad by replication so that the neck, cut by the field of view, closes.
    solid = np.pad(solid, 8, mode="edge")
    solid = ndimage.binary_closing(solid, iterations=6)
    for axis in range(3):
        solid = _fill_planes(solid, axis)
    return solid[8:-8, 8:-8, 8:-8]


def _fill_planes(mask: np.ndarray, axis: int) -> np.ndarray:
    planes = [ndimage.binary_fill_holes(p) for p in np.moveaxis(mask, axis, 0)]
    return np.moveaxis(np.stack(planes), 0, axis)


def _sinuses(
    data: np.ndarray, brain: np.ndarray, head: np.ndarray, csf_level: float, zooms: np.ndarray
) -> np.ndarray:
    """Air inside the head: dark, roomy cavities at and below the skull base.

    Bone is as dark as air in T1w, so a cavity must be wider than the skull's tables and lie in
    the lower third of the brain or below; the few bits of bone that pass do no harm here.
    """
    lowest, highest = np.flatnonzero(brain.any(axis=(0, 1)))[[0, -1]]
    below = np.zeros_like(brain)
    below[:, :, : lowest + int(0.35 * (highest - lowest))] = True
    dark = (data < 0.35 * csf_level) & head & below & ~ndimage.binary_dilation(brain)
    width = max(1, round(2.0 / float(zooms.min())))
    return ndimage.binary_opening(dark, iterations=width)
