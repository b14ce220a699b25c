"""Tissue fractions from a whole-brain segmentation and the image's own intensities.

The segmentation says where each tissue may be, the intensities how much of it a voxel holds.
Intensities are compared with the tissues' *local* means, so that what is left of the bias field
and the real differences between lobes do not become grey matter.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.labels import DEEP_GREY
from deepprep.segmentation.lattice import interpolate_axes
from deepprep.segmentation.result import Segmentation
from deepprep.segmentation.tissue import (
    CSF,
    GM,
    WM,
    TissueMaps,
    TissueModel,
    bounding_box,
    expected_fraction,
    mixture_densities,
)

SURE = 0.9
"""Posterior from which a voxel helps to estimate its tissue's mean."""

LOCAL_MM = 15.0
"""Standard deviation of the Gaussian in which means are local, mm."""

COARSE_MM = 4.0
"""Voxel size at which local means are computed."""

PRIOR_MM = 0.5
"""The segmentation's borders may be off by about this much (standard deviation), mm."""

FLOOR = 1e-3
"""Least prior of a tissue anywhere in the brain."""

BY_LABEL = (*DEEP_GREY, 16)
"""Structures whose intensity lies between grey and white matter: their label decides."""

_LADDER = 512
"""Entries of the tables over the local intensity scale."""

_LOW, _HIGH = -1.0, 3.0


def tissue_maps(t1w: Volume, segmentation: Segmentation, mask: np.ndarray) -> TissueMaps:
    """Fractions of grey matter, white matter and CSF in every brain voxel.

    The intensity of a voxel is put on a local scale on which CSF is 0, grey matter 1 and white
    matter 2 (piecewise linear between local means). On it five classes compete: three pure
    tissues and the mixtures CSF/GM and GM/WM with uniformly distributed fractions (Santago &
    Gage 1993), each weighted by the segmentation's posterior blurred by its own uncertainty.
    The class is decided first, then the fraction in it. Deep grey nuclei and the brain stem
    keep the segmentation's posteriors, since their intensities say nothing about partial volume.

    Parameters
    ----------
    t1w : Volume
        (X, Y, Z) bias-corrected T1w.
    segmentation : Segmentation
        On the same lattice.
    mask : (X, Y, Z) bool array
        Brain; fractions sum to 1 in it and to 0 elsewhere. What the segmentation leaves without
        a tissue there counts as CSF unless the intensities say otherwise.

    Returns
    -------
    TissueMaps
        ``model`` holds the means over the whole brain, in the units of the image.

    Raises
    ------
    ValueError
        If one of the tissues has too few sure voxels to say what it looks like.

    References
    ----------
    Santago P, Gage HD. IEEE TMI 12:566-574, 1993.
    """
    mask = mask.astype(bool)
    box = bounding_box(mask)
    inside = mask[box]
    data = np.ascontiguousarray(np.nan_to_num(t1w.data[box]), dtype=np.float32)
    zooms = t1w.zooms_mm
    posteriors = [getattr(segmentation, n)[box] for n in ("fluid", "grey", "white")]
    by_label = np.isin(segmentation.labels[box], BY_LABEL) & inside

    means, sds, local = [], [], []
    for name, posterior in zip(("CSF", "grey matter", "white matter"), posteriors):
        sure = inside & (posterior > SURE) & ~by_label
        if sure.sum() < 200:
            sure = inside & (posterior > 0.5) & ~by_label
        if sure.sum() < 200:
            raise ValueError(f"the segmentation found next to no {name}")
        values = data[sure]
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        means.append(middle)
        sds.append(max(spread, 1e-6 * max(abs(middle), 1.0)))
        # the tails of a tissue are partial volume or another tissue
        sure &= np.abs(data - middle) < 2.5 * sds[-1]
        local.append(local_mean(data, sure, middle, zooms))
    if not means[0] < means[1] < means[2]:
        raise ValueError(
            "CSF, grey and white matter are not in the order of a T1-weighted image "
            f"(medians {means[0]:.3g}, {means[1]:.3g}, {means[2]:.3g})"
        )
    gap = [0.25 * (means[1] - means[0]), 0.25 * (means[2] - means[1])]
    csf_mean = np.minimum(local[0], local[1] - gap[0])
    white_mean = np.maximum(local[2], local[1] + gap[1])
    scaled = np.where(
        data < local[1],
        (data - csf_mean) / (local[1] - csf_mean),
        1.0 + (data - local[1]) / (white_mean - local[1]),
    )
    sd = np.array([
        sds[0] / (means[1] - means[0]),
        sds[1] / (means[2] - means[1]),
        sds[2] / (means[2] - means[1]),
    ])  # fmt: skip
    fractions = _decide(scaled, posteriors, inside, np.clip(sd, 0.03, 0.5), zooms)

    total = np.maximum(sum(posteriors), 1e-6)
    for i, posterior in enumerate(posteriors):
        fractions[i][by_label] = (posterior / total)[by_label]
    out = [np.zeros(mask.shape, dtype=np.float32) for _ in range(3)]
    for full, part in zip(out, fractions):
        full[box] = part * inside
    csf, gm, wm = out
    dseg = np.zeros(mask.shape, dtype=np.uint8)
    order = np.array([GM, WM, CSF], dtype=np.uint8)
    dseg[box] = order[np.argmax(np.stack([gm[box], wm[box], csf[box]]), axis=0)]
    dseg[~mask] = 0
    share = [float(f[inside].mean()) for f in fractions]
    model = TissueModel(
        means=np.array(means),
        sds=np.array(sds),
        weights=np.array([share[0], 0, share[1], 0, share[2]]),
    )
    return TissueMaps(dseg, gm, wm, csf, model)


def local_mean(
    data: np.ndarray, where: np.ndarray, fallback: float, zooms_mm: np.ndarray
) -> np.ndarray:
    """Mean of the voxels ``where`` in a Gaussian neighbourhood; ``fallback`` far from any.

    Parameters
    ----------
    data : (X, Y, Z) float array
    where : (X, Y, Z) bool array
    fallback : float
    zooms_mm : (3,) array

    Returns
    -------
    (X, Y, Z) float32 array
    """
    block = [max(1, round(COARSE_MM / z)) for z in zooms_mm]
    weight = _block_sum(where.astype(np.float32), block)
    value = _block_sum(np.where(where, data - fallback, 0).astype(np.float32), block)
    sigma = [LOCAL_MM / (z * b) for z, b in zip(zooms_mm, block)]
    weight = ndimage.gaussian_filter(weight, sigma, mode="constant")
    value = ndimage.gaussian_filter(value, sigma, mode="constant")
    # the equivalent of a few blocks of sure voxels pulls towards the mean of the brain
    coarse = fallback + value / (weight + 0.02 * float(np.prod(block)))
    coordinates = [
        np.clip((np.arange(n) - (b - 1) / 2) / b, 0, m - 1)
        for n, b, m in zip(data.shape, block, coarse.shape)
    ]
    low = [np.floor(at).astype(int) for at in coordinates]
    part = [(at - below).astype(np.float32) for at, below in zip(coordinates, low)]
    return interpolate_axes(coarse.astype(np.float32), low, part)


def _block_sum(values: np.ndarray, block: list[int]) -> np.ndarray:
    padded = np.pad(values, [(0, -n % b) for n, b in zip(values.shape, block)])
    shape = [k for n, b in zip(padded.shape, block) for k in (n // b, b)]
    return padded.reshape(shape).sum(axis=(1, 3, 5))


def _decide(
    scaled: np.ndarray,
    posteriors: list[np.ndarray],
    inside: np.ndarray,
    sd: np.ndarray,
    zooms_mm: np.ndarray,
) -> list[np.ndarray]:
    """CSF, GM and WM fractions from local intensities and blurred posteriors."""
    steps = np.linspace(_LOW, _HIGH, _LADDER)
    places = np.array([0.0, 1.0, 2.0])
    table = np.log(mixture_densities(steps, places, sd) + 1e-6).astype(np.float32)
    index = torch.from_numpy(
        np.clip((scaled - _LOW) / (_HIGH - _LOW) * (_LADDER - 1), 0, _LADDER - 1).astype(np.int64)
    )
    prior = []
    for posterior in posteriors:
        soft = ndimage.gaussian_filter(posterior, PRIOR_MM / zooms_mm, truncate=3.0)
        prior.append(torch.from_numpy(soft.astype(np.float32)).clamp_(min=FLOOR))
    # outside of everything the segmentation knows, the mask's rim is fluid
    known = posteriors[0] + posteriors[1] + posteriors[2]
    nothing = torch.from_numpy((1.0 - known).clip(0, 1).astype(np.float32))
    prior[0] = prior[0] + nothing
    best = torch.full(scaled.shape, -torch.inf)
    chosen = torch.zeros(scaled.shape, dtype=torch.uint8)
    pure = {0: 0, 2: 1, 4: 2}
    for k in range(5):
        if k in pure:
            weight = prior[pure[k]]
        else:  # a mixture needs both parts nearby
            weight = 2 * torch.sqrt(prior[k // 2] * prior[k // 2 + 1])
        score = weight.log() + torch.from_numpy(table[k])[index]
        better = score > best
        best = torch.where(better, score, best)
        chosen[better] = k
    out = [(chosen == k).float() for k in pure]
    for k in (1, 3):
        pair = [k // 2, k // 2 + 1]
        expected = expected_fraction(steps, places[pair], sd[pair])
        upper = torch.from_numpy(expected.astype(np.float32))[index]
        here = chosen == k
        out[pair[1]][here] = upper[here]
        out[pair[0]][here] = 1 - upper[here]
    return [part.numpy() * inside for part in out]
