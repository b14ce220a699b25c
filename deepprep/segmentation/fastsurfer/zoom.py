"""VINN's resolution layer: feature maps to the inner lattice and back.

The official layer computes with 32-bit floats and truncates to whole pixels; so does this one,
because sizes that differ by one pixel would shift all features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class AxisPlan:
    """What happens to one axis.

    Attributes
    ----------
    keep : int
        Pixels of the input that are used, from the first.
    size : int
        Pixels they are interpolated to; zeros follow up to the target.
    scale : float
        Input pixels per output pixel that this amounts to.
    """

    keep: int
    size: int
    scale: float


def plan_axis(pixels: int, target: int, scale: float) -> AxisPlan:
    """Plan one axis of ``pixels`` for ``target`` pixels, ``scale`` input pixels for each.

    Where the target covers more than the input, the whole axis is interpolated and the rest of
    the target stays empty; else the input is cropped at its end.
    """
    wanted = np.float32(scale)
    covered = int(np.float32(target) * wanted)
    if covered > pixels:
        size = int(np.float32(pixels) / wanted)
        return AxisPlan(pixels, size, pixels / size)
    return AxisPlan(covered, target, covered / target)


def zoom2d(
    x: torch.Tensor, scale: Sequence[float], target: Sequence[int], inverse: bool = False
) -> tuple[torch.Tensor, tuple[float, float]]:
    """Resample feature maps (B, C, H, W) to (B, C, \\*target).

    Parameters
    ----------
    x : (B, C, H, W) tensor
    scale : two floats
        Input pixels per output pixel, down and across; with ``inverse`` their reciprocals, that
        is what the way out returned.
    target : two ints
    inverse : bool
        The way back.

    Returns
    -------
    (B, C, \\*target) tensor, and the two scales that whole pixels allowed.
    """
    if inverse:
        scale = [float(np.float32(1) / np.float32(s)) for s in scale]
    down, across = (plan_axis(n, t, s) for n, t, s in zip(x.shape[2:], target, scale, strict=True))
    x = x[:, :, : down.keep, : across.keep]
    if x.shape[2:] != (down.size, across.size):
        x = F.interpolate(x, (down.size, across.size), mode="bilinear", align_corners=False)
    missing = (target[0] - down.size, target[1] - across.size)
    if any(missing):
        x = F.pad(x, (0, missing[1], 0, missing[0]))
    return x, (down.scale, across.scale)
