"""Official checkpoints, read without ever running code that is pickled in them.

A checkpoint is a dictionary with the tensors under ``model_state`` (VINN) or
``model_state_dict`` (v1, names may begin with ``module.``) beside the state of the training.
torch's own restricted unpickler reads it; where it stops at a class it does not know, ours goes
on, which knows the few names tensors need and makes an inert stub of any other.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepprep.errors import InputError
from deepprep.nn.restricted_pickle import restricted_pickle

STATE_KEYS = ("model_state", "model_state_dict")
PARALLEL_PREFIX = "module."
"""Put before all names by torch.nn.DataParallel."""

TORCHSCRIPT_MEMBER = "/constants.pkl"
"""Archives with such a file are programs, which torch would load in another way."""


def load_into(net: nn.Module, path: str | Path) -> nn.Module:
    """Fill a network from an official checkpoint; every tensor must be there and fit.

    Parameters
    ----------
    net : Module
        Network of the checkpoint's architecture and number of classes.
    path : path
        File of the checkpoint.

    Returns
    -------
    Module
        The same network, in evaluation mode.

    Raises
    ------
    InputError
        When the file cannot be read or belongs to another network.
    """
    path = Path(path)
    state = _model_state(_read(path), path)
    _check_fit(net, state, path)
    net.load_state_dict(state, strict=True)
    return net.eval()


def _read(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            _refuse_programs(path)
            return torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=restricted_pickle()
            )
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): check the file."
        ) from error
    except Exception as error:
        raise InputError(
            f"{path} is damaged, cut short or no checkpoint of torch: fetch it again with "
            "'deepprep models fetch', or copy it again."
        ) from error


def _refuse_programs(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith(TORCHSCRIPT_MEMBER) for name in archive.namelist()):
                raise ValueError("a TorchScript archive")


def _model_state(content: Any, path: Path) -> dict[str, torch.Tensor]:
    state = None
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_KEYS if key in content), None)
    if not isinstance(state, Mapping) or not all(torch.is_tensor(t) for t in state.values()):
        raise InputError(
            f"{path} holds no tensors under {' or '.join(STATE_KEYS)}: it is not an official "
            "FastSurfer checkpoint; put one in its place."
        )
    return {str(name).removeprefix(PARALLEL_PREFIX): tensor for name, tensor in state.items()}


def _check_fit(net: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = net.state_dict()
    what = ""
    if missing := [name for name in expected if name not in state]:
        what = f"it lacks {missing[0]} and {len(missing) - 1} more of {len(expected)} tensors"
    elif unknown := [name for name in state if name not in expected]:
        what = f"it holds {unknown[0]} and {len(unknown) - 1} more tensors that are not known"
    else:
        for name, tensor in expected.items():
            if state[name].shape != tensor.shape:
                found, wanted = ("x".join(map(str, t.shape)) for t in (state[name], tensor))
                what = f"{name} is {found} instead of {wanted}"
                break
        else:
            if bad := [n for n, t in state.items() if not torch.isfinite(t).all()]:
                what = f"{bad[0]} is not finite"
    if what:
        raise InputError(
            f"{path} does not fit {type(net).__name__} ({what}): put the file of this network "
            "and view in its place."
        )
