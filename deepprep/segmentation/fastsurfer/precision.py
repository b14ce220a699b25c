"""Half precision only where it gives the labels of full precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from deepprep.segmentation.fastsurfer.inference import Region, prepared
from deepprep.segmentation.fastsurfer.views import VIEWS, stacks

Precision = Literal["auto", "fp32", "bf16"]

MIN_AGREEMENT = 0.995
"""Share of the pixels labelled by either precision that must have the same label."""

SLICES_COMPARED = 3
"""Slices of each view, evenly spread over the region."""


def has_bf16_units(device: str) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


@torch.inference_mode()
def agreement(
    net: nn.Module, stack: torch.Tensor, scale: float, device: str, inside: torch.Tensor
) -> float:
    """Share of pixels to which bfloat16 and float32 give the same class.

    Parameters
    ----------
    net : Module
        Network in float32.
    stack : (B, 7, H, W) float32 tensor
    scale : float
        1 mm over the voxel size in mm.
    device : str
    inside : (B, H, W) bool tensor
        Pixels that count; of these, those that either precision calls background do not.
    """
    classes = []
    for dtype in (torch.float32, torch.bfloat16):
        ready = prepared(net, device, dtype)
        one = stack.to(device, dtype).contiguous(memory_format=torch.channels_last)
        parts = [ready(one[i : i + 1], (scale, scale)).argmax(1) for i in range(len(one))]
        classes.append(torch.cat(parts).cpu())
    full, half = classes
    labelled = inside & ((full > 0) | (half > 0))
    return float((full == half)[labelled].float().mean()) if labelled.any() else 1.0


def choose_precision(
    asked: Precision,
    nets: Mapping[str, nn.Module],
    image: torch.Tensor,
    region: Region,
    *,
    scale: float,
    device: str,
) -> tuple[dict[str, torch.dtype], str]:
    """Precision of each view, and why.

    ``auto`` takes bfloat16 for a view where the device has units for it and a few slices get
    the same labels in both precisions.

    Returns
    -------
    dict of view name to dtype; a sentence for the report.
    """
    full = {view.name: torch.float32 for view in VIEWS}
    if asked == "fp32":
        return full, "The networks ran in 32-bit floats, as asked."
    if asked == "bf16":
        return dict.fromkeys(full, torch.bfloat16), "The networks ran in bfloat16, as asked."
    if not has_bf16_units(device):
        return full, f"The networks ran in 32-bit floats: {device} has no bfloat16 units."
    chosen, shares = {}, []
    for view in VIEWS:
        wanted = view.arrange(region.mask)
        which = torch.nonzero(wanted.flatten(1).any(1))[:, 0]
        steps = torch.linspace(0, len(which) - 1, SLICES_COMPARED + 2).long()[1:-1]
        which = which[steps.unique()]
        stack = stacks(view.arrange(image), which)
        share = agreement(nets[view.name], stack, scale, device, wanted[which])
        chosen[view.name] = torch.bfloat16 if share >= MIN_AGREEMENT else torch.float32
        half = "bfloat16" if share >= MIN_AGREEMENT else "32-bit floats"
        shares.append(f"{view.name} {half} ({100 * share:.2f} %)")
    return chosen, (
        "Precision by agreement of the labels of bfloat16 and 32-bit floats on "
        f"{SLICES_COMPARED} slices: {', '.join(shares)}."
    )
