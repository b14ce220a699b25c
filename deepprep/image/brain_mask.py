"""Brain extraction of a T1w head: deepbet, cleaned up."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.image.conform import to_ras
from deepprep.image.volume import Volume

NETWORK = "deepbet"
"""Method of a mask that the network made."""

THRESHOLD = 0.5
"""Network probability from which a voxel is brain."""

PLAUSIBLE_LITRES = (0.6, 2.3)
"""Brain volumes outside this range make the mask suspect."""


@dataclass(frozen=True)
class BrainMask:
    """A brain mask and how it was made.

    Parameters
    ----------
    mask : (X, Y, Z) bool array
    method : str
        ``'deepbet'`` or ``'input'`` (the image was skull-stripped already).
    reason : str
        Why this method, in a phrase for the report.
    volume_ml : float
        Volume of the mask.
    """

    mask: np.ndarray
    method: str
    reason: str
    volume_ml: float

    @property
    def plausible(self) -> bool:
        """Whether the volume is one a human brain may have."""
        low, high = PLAUSIBLE_LITRES
        return low <= self.volume_ml / 1000 <= high


def extract_brain(volume: Volume, mode: str = "auto", device: str = "cpu") -> BrainMask:
    """Mask the brain of a T1w image.

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) T1w head or skull-stripped brain.
    mode : {'auto', 'skip', 'force'}
        ``auto`` uses the input's own mask when the image is stripped already; ``skip`` always
        takes the non-zero voxels; ``force`` always runs the network.
    device : str
        Where the network runs.

    Returns
    -------
    BrainMask

    Raises
    ------
    ValueError
        If the result is empty.

    References
    ----------
    Fisch L et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional neural
    networks. Comput Biol Med 179:108845, 2024.
    """
    stripped = is_skull_stripped(to_ras(volume))
    if mode == "skip" or (mode == "auto" and stripped):
        reason = (
            "asked for with --skull-strip-t1w skip"
            if mode == "skip"
            else "the input is skull-stripped already"
        )
        return _finish(np.nan_to_num(volume.data) > 0, "input", reason, volume, close_mm=2.0)
    reason = "forced with --skull-strip-t1w force" if mode == "force" else "the input has a skull"
    return _finish(_deepbet(volume, device), NETWORK, reason, volume, close_mm=0.0)


def is_skull_stripped(volume: Volume) -> bool:
    """Whether the image has been brain-extracted already.

    Looks at the background: a stripped image is exactly constant (zero) in most of the field
    of view and all along its outer shell, and what remains is one compact blob that does not
    touch the bottom of the image the way a neck does.

    Parameters
    ----------
    volume : Volume
        RAS-ordered head or brain.
    """
    data = np.nan_to_num(volume.data)
    inside = data != 0
    fraction = float(inside.mean())
    if fraction == 0.0 or fraction > 0.6:
        return False
    shell = np.concatenate([np.take(inside, [0, 1, -2, -1], axis=a).ravel() for a in range(3)])
    if shell.mean() > 0.005:
        return False
    labels, n = ndimage.label(inside)
    if n == 0:
        return False
    litres = np.bincount(labels.ravel())[1:].max() * volume.grid.voxel_volume_mm3 / 1e6
    # A brain holds 0.7 to 2.2 litres; a head without air more than 2.5.
    return bool(0.5 <= litres <= 2.3)


def weight_files() -> list[Path]:
    """Files of the networks that :func:`extract_brain` runs, found without importing deepbet."""
    spec = importlib.util.find_spec("deepbet")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("deepbet is not installed: pip install deepbet")
    models = Path(spec.origin).parents[1] / "data" / "models"
    return [models / "bbox_model.pt", models / "model.pt"]


def _deepbet(volume: Volume, device: str) -> np.ndarray:
    import nibabel as nib
    import torch
    from deepbet.bet import BrainExtraction

    # The network resamples by nearest neighbour; it sees the head in RAS order.
    ornt = nib.io_orientation(volume.affine)
    ras = np.ascontiguousarray(nib.apply_orientation(volume.data, ornt), dtype=np.float32)
    bet = BrainExtraction(no_gpu=True)
    for net in (bet.model, bet.bbox_model):
        net.to(torch.device(device))
    try:
        probability = bet.run_model(np.nan_to_num(ras))
    except (AssertionError, ValueError) as err:
        raise ValueError("no brain was found in the T1w image") from err
    back = nib.orientations.ornt_transform(
        [[0, 1], [1, 1], [2, 1]], nib.io_orientation(volume.affine)
    )
    probability = nib.apply_orientation(probability, back)
    # Half a voxel of smoothing takes the nearest-neighbour stairs off the edge.
    smooth = ndimage.gaussian_filter(probability.astype(np.float32), 0.6)
    return smooth > THRESHOLD


def _finish(
    mask: np.ndarray, method: str, reason: str, volume: Volume, close_mm: float
) -> BrainMask:
    labels, n = ndimage.label(mask)
    if n == 0:
        raise ValueError("no brain was found in the T1w image")
    mask = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    if close_mm > 0:
        steps = max(1, round(close_mm / float(volume.zooms_mm.min())))
        padded = np.pad(mask, steps + 1)
        padded = ndimage.binary_closing(padded, iterations=steps)
        inner = slice(steps + 1, -(steps + 1))
        mask = padded[inner, inner, inner] | mask
    mask = ndimage.binary_fill_holes(mask)
    ml = float(mask.sum()) * volume.grid.voxel_volume_mm3 / 1000.0
    return BrainMask(mask, method, reason, ml)
