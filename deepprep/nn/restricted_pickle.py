"""A pickle module for torch.load that makes only what tensors need.

Official checkpoints hold more than tensors: configurations, optimisers, whole modules. Everything
that is not on the list becomes an inert stub, so that no code of the file ever runs.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

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


class Stub(dict):
    """Stands for an object of any class; takes whatever it is given and does nothing.

    The state of an object is kept as its attributes, so that tensors inside a pickled module can be
    found.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Stub:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __call__(self, *args: Any, **kwargs: Any) -> Stub:
        return self

    def append(self, item: Any) -> None:
        """As of a list."""

    def extend(self, items: Any) -> None:
        """As of a list."""

    def add(self, item: Any) -> None:
        """As of a set."""


def restricted_pickle(
    more: frozenset[str] = frozenset(), replaced: Mapping[str, Any] | None = None
) -> Any:
    """What torch.load takes as ``pickle_module``.

    Parameters
    ----------
    more : frozenset of str
        ``module.name`` of further things that may be made as they are.
    replaced : mapping, optional
        ``module.name`` -> what is made instead.
    """
    known, instead = KNOWN_GLOBALS | more, replaced or {}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full = f"{module}.{name}"
            if full in instead:
                return instead[full]
            return super().find_class(module, name) if full in known else Stub

    return SimpleNamespace(
        Unpickler=Unpickler,
        load=lambda file, **options: Unpickler(file, **options).load(),
        __name__="pickle",
    )
