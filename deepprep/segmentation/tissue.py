"""Three tissue classes with partial volume: a Gaussian mixture on a Markov random field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from deepprep.image.volume import Volume

GM, WM, CSF = 1, 2, 3
"""Labels of the three tissues in ``dseg``: the BIDS common derivatives' order."""

LABEL_NAMES = {GM: "GM", WM: "WM", CSF: "CSF"}
"""BIDS abbreviation of each label."""

MIXING_STEPS = 9
"""Mixing fractions at which a partial-volume class is integrated."""

EM_ITERATIONS = 40
"""Expectation-maximisation rounds without neighbours."""

MRF_ITERATIONS = 8
"""Mean-field rounds with neighbours."""

MRF_STRENGTH = 0.35
"""Weight of one face neighbour at 1 mm in the Potts prior."""

# Classes in order of T1w intensity: CSF, CSF/GM, GM, GM/WM, WM.
_PURE = (0, 2, 4)
_N_CLASSES = 5
# Affinity of neighbouring classes: a mixture goes with either of its parts.
_AFFINITY = np.array(
    [
        [1.0, 0.6, 0.0, 0.0, -0.6],
        [0.6, 1.0, 0.6, 0.0, -0.3],
        [0.0, 0.6, 1.0, 0.6, 0.0],
        [0.0, 0.0, 0.6, 1.0, 0.6],
        [-0.6, -0.3, 0.0, 0.6, 1.0],
    ]
)


@dataclass(frozen=True)
class TissueModel:
    """What was fitted to the intensities.

    Parameters
    ----------
    means, sds : (3,) arrays
        Mean and standard deviation of CSF, GM, WM, in the image's units.
    weights : (5,) array
        Share of CSF, CSF/GM, GM, GM/WM, WM.
    """

    means: np.ndarray
    sds: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class TissueMaps:
    """Tissue segmentation of one brain.

    Parameters
    ----------
    dseg : (X, Y, Z) uint8 array
        0 outside, then ``GM``, ``WM``, ``CSF``.
    gm, wm, csf : (X, Y, Z) float32 arrays
        Partial-volume fraction of each tissue, summing to 1 in the mask.
    model : TissueModel
    """

    dseg: np.ndarray
    gm: np.ndarray
    wm: np.ndarray
    csf: np.ndarray
    model: TissueModel

    def volumes_ml(self, voxel_volume_mm3: float) -> dict[str, float]:
        """Tissue volumes in millilitres, from the fractions."""
        return {
            name: float(data.sum(dtype=np.float64)) * voxel_volume_mm3 / 1000.0
            for name, data in (("GM", self.gm), ("WM", self.wm), ("CSF", self.csf))
        }


def segment_tissues(t1w: Volume, mask: np.ndarray, device: str = "cpu") -> TissueMaps:
    """Classify brain voxels into grey matter, white matter and CSF with partial volume.

    Five classes are fitted to a bias-corrected T1w: three Gaussian tissues and two mixtures
    (CSF with GM, GM with WM) whose density is the pure Gaussians' integrated over a uniform
    mixing fraction (Santago & Gage 1993; Tohka et al. 2004). A Potts-like Markov random field,
    solved by mean-field iteration, regularises the labels (Zhang et al. 2001). The fraction of
    a tissue in a mixed voxel is its posterior mean, so noise is not copied into the maps.

    Parameters
    ----------
    t1w : Volume
        (X, Y, Z) bias-corrected T1w image, WM brighter than GM brighter than CSF.
    mask : (X, Y, Z) bool array
        Brain.
    device : str
        'cpu' or a CUDA device.

    Returns
    -------
    TissueMaps

    Raises
    ------
    ValueError
        If the mask is empty or the image is constant in it.

    References
    ----------
    Zhang Y, Brady M, Smith S. IEEE TMI 20:45-57, 2001.
    Tohka J, Zijdenbos A, Evans A. NeuroImage 23:84-97, 2004.
    """
    mask = mask.astype(bool)
    values = np.nan_to_num(t1w.data[mask]).astype(np.float64)
    if values.size < 1000:
        raise ValueError("the brain mask holds too few voxels for a tissue segmentation")
    low, high = np.percentile(values, [0.2, 99.8])
    if not high > low:
        raise ValueError("the T1w image is constant inside the brain mask")
    scale = 1.0 / (high - low)
    model = _fit_mixture(np.clip((values - low) * scale, -0.05, 1.05))

    box = bounding_box(mask)
    inside = torch.as_tensor(mask[box], device=device)
    y = torch.as_tensor(
        np.ascontiguousarray(np.nan_to_num(t1w.data[box]), dtype=np.float32), device=device
    )
    y = ((y - float(low)) * float(scale)).clamp(-0.05, 1.05)
    log_like = _log_likelihoods(y, model)
    posterior = _mean_field(log_like, inside, t1w.zooms_mm)
    fractions = _fractions(y, posterior, model) * inside
    csf, gm, wm = (np.zeros(mask.shape, dtype=np.float32) for _ in range(3))
    for full, part in zip((csf, gm, wm), fractions):
        full[box] = part.cpu().numpy()
    dseg = np.zeros(mask.shape, dtype=np.uint8)
    order = np.array([GM, WM, CSF], dtype=np.uint8)
    dseg[box] = order[np.argmax(np.stack([gm[box], wm[box], csf[box]]), axis=0)]
    dseg[~mask] = 0
    fitted = TissueModel(
        means=model.means / scale + low, sds=model.sds / scale, weights=model.weights
    )
    return TissueMaps(dseg, gm, wm, csf, fitted)


def bounding_box(mask: np.ndarray, margin: int | np.ndarray = 1) -> tuple[slice, slice, slice]:
    """Where a mask is and ``margin`` voxels (of all axes or of each) around it, cut at the border."""
    found = []
    margins = np.broadcast_to(margin, 3)
    for axis in range(3):
        other = tuple(a for a in range(3) if a != axis)
        index = np.flatnonzero(mask.any(axis=other))
        first, stop = int(index[0] - margins[axis]), int(index[-1] + margins[axis]) + 1
        found.append(slice(max(0, first), min(mask.shape[axis], stop)))
    return found[0], found[1], found[2]


def mixture_densities(y: np.ndarray, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Densities of the five classes at ``y`` (N,), shape (5, N)."""
    out = np.zeros((_N_CLASSES, y.size))
    for k, pure in enumerate(_PURE):
        out[pure] = np.exp(-0.5 * ((y - means[k]) / sds[k]) ** 2) / (sds[k] * np.sqrt(2 * np.pi))
    for mixed, (a, b) in ((1, (0, 1)), (3, (1, 2))):
        for fraction in (np.arange(MIXING_STEPS) + 0.5) / MIXING_STEPS:
            mean = (1 - fraction) * means[a] + fraction * means[b]
            sd = np.sqrt(((1 - fraction) * sds[a]) ** 2 + (fraction * sds[b]) ** 2)
            out[mixed] += np.exp(-0.5 * ((y - mean) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
        out[mixed] /= MIXING_STEPS
    return out


def _fit_mixture(values: np.ndarray) -> TissueModel:
    """Expectation-maximisation on the histogram of ``values`` (scaled to about 0..1)."""
    counts, edges = np.histogram(values, bins=256)
    centres = (edges[:-1] + edges[1:]) / 2
    means = _three_means(centres, counts)
    sds = np.full(3, 0.06)
    weights = np.array([0.12, 0.12, 0.36, 0.12, 0.28])
    for _ in range(EM_ITERATIONS):
        joint = weights[:, None] * mixture_densities(centres, means, sds) + 1e-12
        posterior = joint / joint.sum(axis=0) * counts
        weights = np.maximum(posterior.sum(axis=1), 1e-3 * counts.sum())
        weights = weights / weights.sum()
        for k, pure in enumerate(_PURE):
            total = max(posterior[pure].sum(), 1e-9)
            means[k] = (posterior[pure] * centres).sum() / total
            variance = (posterior[pure] * (centres - means[k]) ** 2).sum() / total
            sds[k] = np.clip(np.sqrt(variance), 0.015, 0.12)
        # The tissues of a T1w stay in order and apart.
        means[1] = max(means[1], means[0] + 0.05)
        means[2] = max(means[2], means[1] + 0.05)
    return TissueModel(means, sds, weights)


def _three_means(centres: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """k-means of a histogram, started at the 8th, 45th and 85th percentile."""
    cumulative = np.cumsum(counts) / counts.sum()
    means = np.array([centres[np.searchsorted(cumulative, q)] for q in (0.08, 0.45, 0.85)])
    means += np.array([-1e-3, 0.0, 1e-3])
    for _ in range(30):
        nearest = np.abs(centres[:, None] - means).argmin(axis=1)
        for k in range(3):
            share = counts * (nearest == k)
            if share.sum() > 0:
                means[k] = (share * centres).sum() / share.sum()
    return np.sort(means)


def _log_likelihoods(y: torch.Tensor, model: TissueModel) -> torch.Tensor:
    """(5, X, Y, Z) log density, by a look-up table over the intensity."""
    table_y = np.linspace(-0.06, 1.06, 1024)
    table = np.log(
        model.weights[:, None] * mixture_densities(table_y, model.means, model.sds) + 1e-9
    )
    lut = torch.as_tensor(table, dtype=torch.float32, device=y.device)
    index = ((y + 0.06) / 1.12 * 1023).round().long().clamp(0, 1023)
    return lut[:, index]


def _mean_field(log_like: torch.Tensor, inside: torch.Tensor, zooms_mm: np.ndarray) -> torch.Tensor:
    affinity = torch.as_tensor(_AFFINITY, dtype=torch.float32, device=log_like.device)
    posterior = torch.softmax(log_like, dim=0) * inside
    for _ in range(MRF_ITERATIONS):
        support = torch.zeros_like(posterior)
        for axis in range(3):
            # A neighbour further away says less.
            weight = MRF_STRENGTH / float(zooms_mm[axis])
            n = posterior.shape[axis + 1]
            support.narrow(axis + 1, 0, n - 1).add_(
                posterior.narrow(axis + 1, 1, n - 1), alpha=weight
            )
            support.narrow(axis + 1, 1, n - 1).add_(
                posterior.narrow(axis + 1, 0, n - 1), alpha=weight
            )
        prior = torch.einsum("kl,lxyz->kxyz", affinity, support)
        posterior = torch.softmax(log_like + prior, dim=0) * inside
    return posterior


def _fractions(y: torch.Tensor, posterior: torch.Tensor, model: TissueModel) -> torch.Tensor:
    """(3, X, Y, Z) fractions of CSF, GM, WM.

    The class of a voxel is decided first (pure or mixed, as in FAST): averaging over classes
    would leave a few percent of grey matter all over the white matter.
    """
    chosen = torch.nn.functional.one_hot(posterior.argmax(dim=0), _N_CLASSES)
    posterior = chosen.movedim(-1, 0).to(posterior.dtype)
    out = posterior[list(_PURE)].clone()
    table_y = np.linspace(-0.06, 1.06, 1024)
    index = ((y + 0.06) / 1.12 * 1023).round().long().clamp(0, 1023)
    for mixed, (a, b) in ((1, (0, 1)), (3, (1, 2))):
        expected = expected_fraction(table_y, model.means[[a, b]], model.sds[[a, b]])
        upper = torch.as_tensor(expected, dtype=torch.float32, device=y.device)[index]
        out[b] += posterior[mixed] * upper
        out[a] += posterior[mixed] * (1 - upper)
    return out


def expected_fraction(y: np.ndarray, means: np.ndarray, sds: np.ndarray) -> np.ndarray:
    """Posterior mean share of the brighter tissue in a two-tissue voxel of intensity ``y``."""
    fractions = (np.arange(MIXING_STEPS) + 0.5) / MIXING_STEPS
    mean = (1 - fractions) * means[0] + fractions * means[1]
    sd = np.sqrt(((1 - fractions) * sds[0]) ** 2 + (fractions * sds[1]) ** 2)
    log_density = -0.5 * ((y[:, None] - mean) / sd) ** 2 - np.log(sd)
    density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
    return (density * fractions).sum(axis=1) / density.sum(axis=1)
