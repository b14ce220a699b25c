"""FastCSR's level set of a head: inputs, sliding window, and back to the head.

Follows nnU-Net's inference: crop to what is not zero, z-score per channel, windows that overlap
by half with Gaussian weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.freesurfer_space import (
    byte_scaling,
    conform_image,
    conform_labels,
    conformed_grid,
    to_byte,
)
from deepprep.image.volume import Volume
from deepprep.surface.fastcsr.checkpoint import LoadedNet
from deepprep.surface.filled import SIDES, fill_hemisphere

FILLED = {"left": 255, "right": 127}
"""Values of FreeSurfer's filled.mgz."""

CLIP_MM = 3.0
"""The networks give level / 3 mm."""

NEAR_LABELS_VOX = 6
"""Farther from a hemisphere's labels, in steps through faces, everything is outside."""

NEAR_LABELS = {
    "left": (2, 4, 5, 10, 11, 12, 13, 17, 18, 26, 28, 30, 31),
    "right": (41, 43, 44, 49, 50, 51, 52, 53, 54, 58, 60, 62, 63),
}
"""FreeSurfer numbers of these labels, as FastCSR has them."""


def filled_volume(labels: Volume) -> Volume:
    """Both hemispheres filled, as FreeSurfer's filled.mgz: left 255, right 127.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers.
    """
    out = np.zeros(labels.shape, dtype=np.uint8)
    for side in SIDES:
        filled = fill_hemisphere(labels, side)
        out[filled.box][filled.inside] = FILLED[side]
    return labels.like(out)


def fastcsr_levels(
    nets: Mapping[str, LoadedNet],
    head: Volume,
    labels: Volume,
    *,
    device: str = "cpu",
    mirror: bool = False,
) -> dict[str, Volume]:
    """Level set of each side that has a network.

    Parameters
    ----------
    nets : mapping of {'left', 'right'} to LoadedNet
    head : Volume
        (X, Y, Z) whole-head T1w, any orientation and voxel size.
    labels : Volume
        FreeSurfer numbers on the same lattice.
    device : str
        Torch device.
    mirror : bool
        Average over the eight mirrored heads, as FastCSR does; eight times as long.

    Returns
    -------
    dict of str to Volume
        float32, mm, clipped at 3, negative inside, on FreeSurfer's conformed lattice.
    """
    grid = conformed_grid(head.grid)
    orig = to_byte(byte_scaling(head.data).apply(conform_image(head, grid).data))
    conformed = conform_labels(labels, grid)
    filled = filled_volume(conformed).data
    # SimpleITK's order of axes, in which the networks were trained
    channels = np.stack([orig, filled]).transpose(0, 3, 2, 1)
    out = {}
    for side, loaded in nets.items():
        level = _predict(loaded, channels, device, mirror).transpose(2, 1, 0)
        near = ndimage.binary_dilation(
            np.isin(conformed.data, NEAR_LABELS[side]), iterations=NEAR_LABELS_VOX
        )
        near = ndimage.binary_fill_holes(near)
        level = np.where(near, np.clip(level, -1, 1), 1.0) * CLIP_MM
        out[side] = Volume(level.astype(np.float32), grid.affine)
    return out


@torch.no_grad()
def _predict(loaded: LoadedNet, channels: np.ndarray, device: str, mirror: bool) -> np.ndarray:
    """Level / 3 mm of a (C, Z, Y, X) array; 0 outside of what is not zero."""
    whole = ndimage.binary_fill_holes((channels != 0).any(axis=0))
    box = ndimage.find_objects(whole.view(np.uint8))[0]
    data = normalised(channels[:, *box], whole[box], loaded.mask_for_norm)
    data = data.transpose(0, *(1 + axis for axis in loaded.transpose))
    size = data.shape[1:]
    lack = [max(0, p - n) for p, n in zip(loaded.patch, size)]
    data = np.pad(data, [(0, 0), *((k // 2, k - k // 2) for k in lack)])
    net = loaded.net.to(device)
    source = torch.from_numpy(np.ascontiguousarray(data))
    weight = torch.from_numpy(window_weight(loaded.patch))
    total = torch.zeros(source.shape[1:])
    share = torch.zeros(source.shape[1:])
    for corner in window_corners(tuple(source.shape[1:]), loaded.patch):
        part = tuple(slice(c, c + p) for c, p in zip(corner, loaded.patch))
        patch = source[None, :, *part].to(device)
        total[part] += weight * _mean_of_mirrors(net, patch, mirror)
        share[part] += weight
    level = (total / share).numpy()
    level = level[tuple(slice(k // 2, k // 2 + n) for k, n in zip(lack, size))]
    out = np.zeros(channels.shape[1:], dtype=np.float32)
    out[box] = level.transpose(np.argsort(loaded.transpose))
    return out


def _mean_of_mirrors(net: torch.nn.Module, patch: torch.Tensor, mirror: bool) -> torch.Tensor:
    flips: list[tuple[int, ...]] = [()]
    if mirror:
        flips = [f for n in range(4) for f in itertools.combinations((2, 3, 4), n)]
    outputs = [net(patch.flip(f)).flip(f) for f in flips]
    return torch.stack(outputs).mean(dim=0)[0, 0].float().cpu()


def normalised(data: np.ndarray, mask: np.ndarray, within: tuple[bool, ...]) -> np.ndarray:
    """Each channel to mean 0 and standard deviation 1, over everything or within ``mask``.

    Parameters
    ----------
    data : (C, X, Y, Z) array
    mask : (X, Y, Z) bool array
    within : tuple of bool, length C
        Where true, statistics are those in ``mask`` and the rest becomes 0.
    """
    out = np.zeros(data.shape, dtype=np.float32)
    for channel, inside_only, result in zip(data, within, out):
        values = channel[mask] if inside_only else channel
        values = values.astype(np.float32)
        scaled = (channel.astype(np.float32) - values.mean()) / (values.std() + 1e-8)
        result[...] = np.where(mask, scaled, 0) if inside_only else scaled
    return out


def window_corners(
    shape: tuple[int, ...], patch: tuple[int, ...]
) -> Iterator[tuple[int, int, int]]:
    """First voxels of windows that overlap by half at least and reach both ends."""
    starts = []
    for n, p in zip(shape, patch):
        count = int(np.ceil((n - p) / (p / 2))) + 1
        step = (n - p) / max(count - 1, 1)
        starts.append([int(np.round(step * i)) for i in range(count)])
    yield from itertools.product(*starts)  # type: ignore[misc]


def window_weight(patch: tuple[int, int, int]) -> np.ndarray:
    """Gaussian of an eighth of the window, 1 in the middle, never 0; float32."""
    peak = np.zeros(patch)
    peak[tuple(n // 2 for n in patch)] = 1
    weight = ndimage.gaussian_filter(peak, [n / 8 for n in patch], mode="constant")
    weight /= weight.max()
    return np.maximum(weight, weight[weight > 0].min()).astype(np.float32)
