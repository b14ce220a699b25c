"""Weights of our own networks: safetensors files whose metadata hold the architecture."""

from __future__ import annotations

import json
import os
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def read_weights(path: str | os.PathLike) -> tuple[dict, dict[str, torch.Tensor]]:
    """Architecture, as plain values, and float32 tensors of a file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["architecture"])
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    return described, state


def with_weights(net: Net, state: dict[str, torch.Tensor], path: str | os.PathLike) -> Net:
    """The network with these weights, ready for inference.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown or of another shape.
    """
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is not of this network: {error}") from error
    return net.eval()
