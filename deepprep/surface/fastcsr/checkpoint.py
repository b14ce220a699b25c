"""Official FastCSR checkpoints, read without running code that is pickled in them.

A file (``lh_model.pth``, ``rh_model.pth``) holds nnU-Net's ``plans``, a dictionary with numpy
objects, and the ``state_dict``. Only the classes that these need are made; any other becomes an
inert stub.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepprep.errors import InputError
from deepprep.nn.restricted_pickle import restricted_pickle
from deepprep.surface.fastcsr.network import Architecture, LevelSetNet

NUMPY_GLOBALS = frozenset(
    f"{module}.{name}"
    for module in ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
    for name in ("scalar", "_reconstruct", "ndarray", "dtype")
)
"""What arrays and numbers of numpy need. Arrays of objects hold only what is allowed here."""


def _bytes_of(text: str, encoding: str) -> bytes:
    """What old pickles make bytes with; nothing but that."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode(encoding)


@dataclass(frozen=True)
class LoadedNet:
    """A network with its weights and how its inputs are made.

    Attributes
    ----------
    net : LevelSetNet
        In evaluation mode.
    patch : tuple of int
        Patch of the sliding window, in the network's order of axes.
    transpose : tuple of int
        Axis of the (z, y, x) array that each axis of the network is.
    mask_for_norm : tuple of bool
        Per channel: intensities are normalised within the non-zero part alone.
    """

    net: LevelSetNet
    patch: tuple[int, int, int]
    transpose: tuple[int, int, int]
    mask_for_norm: tuple[bool, ...]


def load_checkpoint(path: str | Path) -> LoadedNet:
    """Read an official file of weights; every tensor must be there and fit.

    Parameters
    ----------
    path : path
        ``lh_model.pth`` or ``rh_model.pth``.

    Raises
    ------
    InputError
        When the file cannot be read or is not FastCSR's.
    """
    path = Path(path)
    try:
        content = torch.load(
            path, map_location="cpu", weights_only=False,
            pickle_module=restricted_pickle(NUMPY_GLOBALS, {"_codecs.encode": _bytes_of}),
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}): check the file."
        ) from error
    except Exception as error:
        raise InputError(
            f"{path} is damaged, cut short or no checkpoint of torch: copy it again."
        ) from error
    if not (isinstance(content, Mapping) and {"plans", "state_dict"} <= set(content)):
        raise InputError(
            f"{path} has no 'plans' and 'state_dict': it is not an official FastCSR checkpoint "
            "(lh_model.pth, rh_model.pth); put one in its place."
        )
    try:
        plans, stage = content["plans"], content["plans"]["plans_per_stage"][0]
        architecture = Architecture(
            pools=_kernels(stage["pool_op_kernel_sizes"]),
            kernels=_kernels(stage["conv_kernel_sizes"]),
            base_features=int(plans["base_num_features"]),
            convolutions=int(plans["conv_per_stage"]),
            inputs=int(plans["num_modalities"]),
        )
        patch, transpose = _triple(stage["patch_size"]), _triple(plans["transpose_forward"])
        masks = plans["use_mask_for_norm"]
        mask_for_norm = tuple(bool(masks[c]) for c in range(architecture.inputs))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{path} has plans that cannot be understood ({error!r}): it is not an official "
            "FastCSR checkpoint; put one in its place."
        ) from error
    net = LevelSetNet(architecture)
    try:
        net.load_state_dict(content["state_dict"], strict=True)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} does not fit the network of its plans ({str(error).splitlines()[-1].strip()}"
            "): put an official FastCSR checkpoint in its place."
        ) from error
    if any(not torch.isfinite(t).all() for t in net.state_dict().values()):
        raise InputError(f"{path} holds weights that are not finite: copy it again.")
    return LoadedNet(net.eval(), patch, transpose, mask_for_norm)


def _triple(values: Any) -> tuple[int, int, int]:
    a, b, c = (int(v) for v in values)
    return a, b, c


def _kernels(values: Any) -> tuple[tuple[int, int, int], ...]:
    return tuple(_triple(v) for v in values)
