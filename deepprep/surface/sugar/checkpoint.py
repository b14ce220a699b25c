"""Published SUGAR weights read without running the code in the file.

The files are whole pickled modules. They are unpickled with every class replaced by an empty shell,
except the few functions that rebuild tensors; then the parameters are collected from the shells.
"""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from deepprep.errors import DeepPrepError

ALLOWED = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    **{
        ("torch", name): getattr(torch, name)
        for name in (
            "FloatStorage",
            "DoubleStorage",
            "HalfStorage",
            "LongStorage",
            "IntStorage",
            "BoolStorage",
            "ByteStorage",
        )
    },
}
"""What a file may name and get; everything else becomes an empty shell."""


class _Shell:
    """Stands for any other class; takes state, does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Shell:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> _Shell:
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Lists of strange classes are dropped."""

    def extend(self, values: Any) -> None:
        """Lists of strange classes are dropped."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name), _Shell)


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Tensors of a published file under the names of :class:`SugarNet`.

    Raises
    ------
    DeepPrepError
        Where the file is not a SUGAR checkpoint.
    """
    module = SimpleNamespace(
        Unpickler=_Reader, load=lambda f, **kw: _Reader(f, **kw).load(), __name__="pickle"
    )
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
    except Exception as error:
        raise DeepPrepError(
            f"{path} is not a SUGAR checkpoint: it cannot be read ({error})"
        ) from error
    model = content.get("model", content) if isinstance(content, dict) else content
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
