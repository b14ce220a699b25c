"""Our own, small version of FastCSR's network: one hemisphere at a time, 1 mm.

The architecture is FastCSR's with fewer features and steps; one network serves both sides, right
hemispheres are mirrored. ``training/surface`` makes the weights. Far from the border of the filled
hemisphere the labels decide, so that the network can move the surface but not invent one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.nn.described_weights import read_weights, with_weights
from deepprep.surface.fastcsr.inference import CLIP_MM, normalised
from deepprep.surface.fastcsr.network import Architecture, LevelSetNet
from deepprep.surface.filled import fill_hemisphere
from deepprep.surface.spline_lattice import finer_grid, to_finer

COMPACT = Architecture(pools=((2, 2, 2),) * 3, kernels=((3, 3, 3),) * 4, base_features=12)
"""0.8 million parameters."""

BELIEVED_MM = 2.0
"""Levels beyond this are distances of their own: the network was not asked for them."""

REACH_MM = 3.0
"""How far the network may move the surface from the border of the filled hemisphere. On real heads
less than one voxel in a thousand of either lies farther from the other."""


def load_compact(path: str | Path) -> LevelSetNet:
    """Network of a safetensors file whose metadata hold its architecture.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown or of another shape.
    """
    described, state = read_weights(path)
    return with_weights(LevelSetNet(architecture_of(described)), state, path)


def architecture_of(described: dict) -> Architecture:
    """Architecture from plain values, as checkpoints hold them."""
    pools, kernels = (
        tuple((int(a), int(b), int(c)) for a, b, c in described[key])
        for key in ("pools", "kernels")
    )
    return Architecture(
        pools, kernels, described["base_features"], described["convolutions"], described["inputs"]
    )


def network_input(image: np.ndarray, filled: np.ndarray) -> torch.Tensor:
    """(1, 2, X, Y, Z) channels: image scaled by its own mean and spread, filled hemisphere.

    Parameters
    ----------
    image : (X, Y, Z) array
        T1w, left hemisphere or mirrored right one at low x; anything outside the brain 0.
    filled : (X, Y, Z) bool array
        What labels say is inside the white surface.
    """
    scaled = normalised(image[None], image > 0, (True,))[0]
    return torch.from_numpy(np.stack([scaled, filled.astype(np.float32)])[None])


@torch.no_grad()
def compact_level(
    net: LevelSetNet, labels: Volume, image: Volume, side: str, device: str = "cpu"
) -> Volume:
    """Level set of one hemisphere.

    Parameters
    ----------
    net : LevelSetNet
        From :func:`load_compact`.
    labels, image : Volume
        (X, Y, Z) FreeSurfer numbers and T1w on one lattice with axes to right, anterior and
        superior.
    side : {'left', 'right'}
    device : str
        Torch device.

    Returns
    -------
    Volume
        float32, mm, negative inside, at 1 mm around the hemisphere.

    Raises
    ------
    ValueError
        If the axes are in another order.
    """
    if labels.grid.axcodes != ("R", "A", "S"):
        raise ValueError(f"the axes must be RAS, these are {''.join(labels.grid.axcodes)}")
    hemisphere = fill_hemisphere(labels, side)
    inner = labels.part(hemisphere.box).like(hemisphere.inside.astype(np.float32))
    grid = finer_grid(inner.grid, 1.0)
    data = np.where(labels.data > 0, image.data, 0)[hemisphere.box]
    channels = [
        np.maximum(to_finer(data, inner.grid, grid, degree=1), 0),
        to_finer(inner.data, inner.grid, grid, degree=1) > 0.5,
    ]
    if side == "right":
        channels = [c[::-1] for c in channels]
    x = network_input(*channels)
    lack = [-n % m for n, m in zip(x.shape[2:], net.multiple)]
    x = torch.nn.functional.pad(x, [p for n in reversed(lack) for p in (0, n)])
    level = net.to(device)(x.to(device))[0, 0].float().cpu().numpy()
    level = level[tuple(slice(n) for n in grid.shape)]
    if side == "right":
        level, channels = level[::-1], [c[::-1] for c in channels]
    level = np.clip(level, -1, 1) * CLIP_MM
    level = regrown(within_reach(level, channels[1], REACH_MM), BELIEVED_MM)
    return Volume(np.ascontiguousarray(level), grid.affine)


def within_reach(level: np.ndarray, filled: np.ndarray, reach_mm: float) -> np.ndarray:
    """A level set whose sign is that of labels wherever their border is far.

    Parameters
    ----------
    level : (X, Y, Z) float array
        At 1 mm, negative inside.
    filled : (X, Y, Z) bool array
        What labels say is inside.
    reach_mm : float
        Distance from the border of ``filled`` beyond which it decides.

    Returns
    -------
    (X, Y, Z) float32 array
    """
    out = np.array(level, dtype=np.float32)
    for inside, sign in ((filled, -1.0), (~filled, 1.0)):
        deep = ndimage.distance_transform_edt(inside) > reach_mm
        out[deep & (sign * out <= 0)] = sign * CLIP_MM
    return out


def regrown(level: np.ndarray, believed_mm: float) -> np.ndarray:
    """A level set whose far values are distances grown on from its near ones.

    On a plateau, or where the network wavers deep inside, the correction of topology would part
    the white matter through its middle rather than at a thin bridge.

    Parameters
    ----------
    level : (X, Y, Z) float array
        At 1 mm.
    believed_mm : float
        Levels up to this, of either sign, stay.

    Returns
    -------
    (X, Y, Z) float32 array
    """
    out = np.array(level, dtype=np.float32)
    for sign in (-1.0, 1.0):
        far = sign * out > believed_mm
        grown = believed_mm + ndimage.distance_transform_edt(far)[far]
        out[far] = sign * grown
    return out
