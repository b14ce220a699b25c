"""Official SynthMorph weights from a user's Keras file (.h5) into the networks of this package.

Names of layers differ from file to file, so arrays are matched by order and shape, strictly:
nothing may be missing, left over, or of another shape. The deformation file holds a hypernetwork
(33 numbers for each weight, 3.5 GB); it is read one array at a time and collapsed at one
strength of regularisation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np
import torch
from torch import nn

from deepprep.errors import InputError
from deepprep.registration.synthmorph.network import DeformationNet, FeatureDetector

HYPER_UNITS = 32
"""Width of the hypernetwork's layers."""

HYPER_LAYERS = 4
"""Fully connected layers between the strength of regularisation and the kernels."""

DEFAULT_STRENGTH = 0.5
"""Regularisation (0 to 1) that SynthMorph takes unless told otherwise."""


@dataclass(frozen=True)
class KerasLayer:
    """Arrays of one layer in the order in which Keras saved them.

    Attributes
    ----------
    name : str
        Layer, sub-models before it.
    arrays : tuple of h5py.Dataset
        Not read yet.
    """

    name: str
    arrays: tuple[h5py.Dataset, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays."""
        return [tuple(a.shape) for a in self.arrays]


def load_detector(
    path: str | os.PathLike, filters: int | None = None, maps: int | None = None
) -> FeatureDetector:
    """Feature detector of ``synthmorph.affine.2.h5`` or ``synthmorph.rigid.1.h5``.

    Parameters
    ----------
    path : path-like
    filters, maps : int, optional
        Width and feature maps that the file must have; its own when absent (the official one has
        256 and 64; ``deepprep models verify`` says whether a file is the official one).

    Raises
    ------
    InputError
        The file is not of this network.
    """
    with _open(path) as file:
        layers = [layer for layer in keras_layers(file) if layer.arrays]
        net = FeatureDetector(filters or _width(layers, 0), maps or _width(layers, -1))
        convs = [*net.down, *net.same, net.last]
        _check_count(path, len(layers), len(convs), "convolutions")
        for layer, conv in zip(layers, convs):
            kernel, bias = _expect(path, layer, [_keras_shape(conv), (conv.out_channels,)])
            _assign(conv, kernel[()], bias[()])
    return net.eval()


def load_deformation(
    path: str | os.PathLike, strength: float = DEFAULT_STRENGTH, filters: int | None = None
) -> DeformationNet:
    """Deformation network of ``synthmorph.deform.3.h5`` (or ``.2``) at one strength.

    Parameters
    ----------
    path : path-like
    strength : float
        Regularisation, 0 to 1.
    filters : int, optional
        Width that the file must have; its own when absent (256 in the official one).

    Raises
    ------
    InputError
        The file is not of this network, or the strength is out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise InputError(f"The regularisation of SynthMorph is 0 to 1, not {strength}.")
    with _open(path) as file:
        layers = [layer for layer in keras_layers(file) if layer.arrays]
        net = DeformationNet(filters or _width(layers[HYPER_LAYERS:], 0))
        convs = [*net.down, *net.up, *net.fine, net.last]
        _check_count(path, len(layers), HYPER_LAYERS + len(convs), "layers")
        code = hyper_code(path, layers[:HYPER_LAYERS], strength)
        for layer, conv in zip(layers[HYPER_LAYERS:], convs):
            kernel, bias = collapse(path, layer, conv, code)
            _assign(conv, kernel, bias)
    return net.eval()


def hyper_code(path: str | os.PathLike, layers: list[KerasLayer], strength: float) -> np.ndarray:
    """(32,) output of the hypernetwork's rectified layers for one strength."""
    code = np.array([strength], dtype=np.float64)
    for layer in layers:
        kernel, bias = _expect(path, layer, [(code.size, HYPER_UNITS), (HYPER_UNITS,)])
        code = np.maximum(code @ kernel[()].astype(np.float64) + bias[()], 0.0)
    return code


def collapse(
    path: str | os.PathLike, layer: KerasLayer, conv: nn.Conv3d, code: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (3, 3, 3, in, out) and bias (out,) that the hypernetwork makes for one layer."""
    shape = _keras_shape(conv)
    size, out = int(np.prod(shape)), conv.out_channels
    arrays = _expect(path, layer, [(code.size, size), (size,), (code.size, out), (out,)])
    # one row at a time: the largest array has 113 million numbers
    kernel = arrays[1][()].astype(np.float64)
    for row, value in enumerate(code):
        kernel += value * arrays[0][row]
    bias = code @ arrays[2][()].astype(np.float64) + arrays[3][()]
    return kernel.reshape(shape), bias


def keras_layers(group: h5py.Group, prefix: str = "") -> Iterator[KerasLayer]:
    """Layers of a Keras file in the order of the model, sub-models in their place."""
    if "model_weights" in group:
        group = group["model_weights"]
    for raw in group.attrs.get("layer_names", ()):
        name = raw.decode() if isinstance(raw, bytes) else str(raw)
        inner = group[name]
        if "layer_names" in inner.attrs:
            yield from keras_layers(inner, f"{prefix}{name}/")
            continue
        names = inner.attrs.get("weight_names", ())
        decoded = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
        yield from _split(f"{prefix}{name}", [(n, inner[n]) for n in decoded])


def _split(name: str, arrays: list[tuple[str, h5py.Dataset]]) -> Iterator[KerasLayer]:
    """One layer for each common path: Keras keeps the arrays of a sub-model in one flat group."""
    parts: dict[str, list[h5py.Dataset]] = {}
    for path, array in arrays:
        parts.setdefault(path.rpartition("/")[0], []).append(array)
    for part, found in parts.items():
        yield KerasLayer(f"{name}/{part}" if part else name, tuple(found))


def _open(path: str | os.PathLike) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read as a Keras .h5 file: fetch it again.") from error


def _width(layers: list[KerasLayer], index: int) -> int:
    """Output channels of a layer: the length of its last array, the bias."""
    shapes = layers[index].shapes if layers else []
    return int(shapes[-1][0]) if shapes and len(shapes[-1]) == 1 else 1


def _check_count(path: str | os.PathLike, found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise InputError(
            f"{path} has {found} layers with weights where SynthMorph has {wanted} {what}: "
            "give the official file."
        )


def _expect(
    path: str | os.PathLike, layer: KerasLayer, shapes: list[tuple[int, ...]]
) -> tuple[h5py.Dataset, ...]:
    if layer.shapes != shapes:
        raise InputError(
            f"{path}: layer {layer.name} has arrays of shapes {layer.shapes}, SynthMorph's are "
            f"{shapes}: give the official file."
        )
    return layer.arrays


def _keras_shape(conv: nn.Conv3d) -> tuple[int, ...]:
    return (*conv.kernel_size, conv.in_channels, conv.out_channels)


def _assign(conv: nn.Conv3d, kernel: np.ndarray, bias: np.ndarray) -> None:
    # Keras: (x, y, z, in, out); torch: (out, in, x, y, z)
    turned = np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2), dtype=np.float32)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(turned))
        assert conv.bias is not None
        conv.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))
