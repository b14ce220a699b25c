"""Files as Keras writes them, of small networks with random weights."""

import h5py
import numpy as np
import torch

from deepprep.registration.synthmorph.network import DeformationNet, FeatureDetector


def keras_file(path, layers):
    """A file as Keras writes it: ``layers`` is a list of lists of arrays."""
    with h5py.File(path, "w") as file:
        names = [f"layer_{k}" for k in range(len(layers) + 1)]
        file.attrs["layer_names"] = [n.encode() for n in names]
        file.create_group(names[-1]).attrs["weight_names"] = []  # an activation
        for name, arrays in zip(names, layers):
            group = file.create_group(name)
            keys = [f"{name}/weight:{i}" for i in range(len(arrays))]
            group.attrs["weight_names"] = [k.encode() for k in keys]
            for key, array in zip(keys, arrays):
                group[key] = array.astype(np.float32)


def convs_of(net):
    return [m for m in net.modules() if isinstance(m, torch.nn.Conv3d)]


def detector_layers(filters, maps, rng):
    """Kernels (3, 3, 3, in, out) and biases of the feature detector, of usual size."""
    return [
        [
            rng.normal(size=(3, 3, 3, c.in_channels, c.out_channels))
            * np.sqrt(2 / (27 * c.in_channels)),
            np.zeros(c.out_channels),
        ]
        for c in convs_of(FeatureDetector(filters, maps))
    ]


def deformation_layers(filters, rng, gain=1.0):
    """The hypernetwork's layers, then those of the U-Net, whose output has the size ``gain``."""
    dense = [[rng.normal(size=(1, 32)), rng.normal(size=32)]]
    dense += [[rng.normal(size=(32, 32)) / 8, rng.normal(size=32)] for _ in range(3)]
    convs = convs_of(DeformationNet(filters))
    made = []
    for c in convs:
        size = 27 * c.in_channels * c.out_channels
        scale = np.sqrt(2 / (27 * c.in_channels)) * (gain if c is convs[-1] else 1.0)
        made.append([
            rng.normal(size=(32, size)) * 0.01 * scale, rng.normal(size=size) * scale,
            np.zeros((32, c.out_channels)), np.zeros(c.out_channels),
        ])  # fmt: skip
    return dense + made
