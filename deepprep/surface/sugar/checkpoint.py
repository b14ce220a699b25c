"""Published SUGAR weights read without running the code in the file.

The files are whole pickled modules. They are unpickled with every class replaced by an empty shell,
except the few functions that rebuild tensors; then the parameters are collected from the shells.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from deepprep.errors import DeepPrepError
from deepprep.nn.restricted_pickle import restricted_pickle


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Tensors of a published file under the names of :class:`SugarNet`.

    Raises
    ------
    DeepPrepError
        Where the file is not a SUGAR checkpoint.
    """
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=False,
            pickle_module=restricted_pickle(replaced={"builtins.set": set}),
        )  # fmt: skip
    except Exception as error:
        raise DeepPrepError(
            f"{path} is not a SUGAR checkpoint: it cannot be read ({error})"
        ) from error
    model = dict.get(content, "model", content) if isinstance(content, dict) else content
    tensors: dict[str, Tensor] = {}
    _collect(model, "", tensors)
    if isinstance(model, dict):
        tensors.update({k: v for k, v in model.items() if isinstance(v, Tensor)})
    if not any(key.startswith("encoding_layers.") for key in tensors):
        raise DeepPrepError(f"{path} is not a SUGAR checkpoint: it has no encoding_layers")
    return tensors


def load_into(network: nn.Module, path: str | os.PathLike) -> None:
    """Fill a network from a published file.

    Raises
    ------
    DeepPrepError
        Where the file belongs to another level.
    """
    tensors = read_checkpoint(path)
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors))
    wrong = [k for k in wanted if k in tensors and tensors[k].shape != wanted[k].shape]
    if missing or wrong:
        raise DeepPrepError(
            f"{path} does not fit this network ({len(missing)} tensors missing, {len(wrong)} of "
            "another shape): choose the file of the same fsaverage level"
        )
    network.load_state_dict({k: tensors[k].detach().float() for k in wanted})


def _collect(module: Any, prefix: str, out: dict[str, Tensor]) -> None:
    state = getattr(module, "__dict__", {})
    for kind in ("_parameters", "_buffers"):
        for name, value in (state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                out[prefix + name] = value
    for name, child in (state.get("_modules") or {}).items():
        if child is not None:
            _collect(child, f"{prefix}{name}.", out)
