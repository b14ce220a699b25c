"""Official checkpoints, read without ever running code that is pickled in them.

A checkpoint is a dictionary with the tensors under ``model_state`` (VINN) or
``model_state_dict`` (v1, names may begin with ``module.``) beside the state of the training.
Only torch's restricted unpickler is used; classes it does not know become empty stubs.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from deepprep.errors import InputError

STATE_KEYS = ("model_state", "model_state_dict")
PARALLEL_PREFIX = "module."
"""Put before all names by torch.nn.DataParallel."""

KNOWN_GLOBALS = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch.FloatStorage",
        "torch.DoubleStorage",
        "torch.HalfStorage",
        "torch.BFloat16Storage",
        "torch.LongStorage",
        "torch.IntStorage",
        "torch.ShortStorage",
        "torch.ByteStorage",
        "torch.BoolStorage",
    }
)
"""All that tensors need; everything else in a checkpoint is replaced."""

LEGACY_PICKLES = 5
"""Pickles at the start of a file of torch before 1.6: magic, protocol, system, object, keys."""


class _Stub(dict):
    """Stands for an object of any class; takes whatever it is given and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Stub:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


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
        with open(path, "rb") as file:
            foreign = sorted(set(_globals(file)) - KNOWN_GLOBALS)
        # A stub stands first in torch's list of what may be called, so nothing else can be.
        with torch.serialization.safe_globals([(_Stub, name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): check the file."
        ) from error
    except Exception as error:
        raise InputError(
            f"{path} is damaged, cut short or no checkpoint of torch: fetch it again with "
            "'deepprep models fetch', or copy it again."
        ) from error


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


def _globals(file: BinaryIO) -> Iterator[str]:
    """Names of the classes and functions that a checkpoint mentions, without loading it."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    yield from _globals_of_pickle(archive.read(name))
        return
    file.seek(0)
    for _ in range(LEGACY_PICKLES):
        yield from _globals_of_pickle(file)


def _globals_of_pickle(pickle: bytes | BinaryIO) -> Iterator[str]:
    for code, argument, _ in pickletools.genops(pickle):
        # torch writes protocol 2, where names are written out; its unpickler refuses others.
        if code.name == "GLOBAL":
            yield str(argument).replace(" ", ".", 1)
