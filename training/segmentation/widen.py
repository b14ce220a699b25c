"""A wider 1 mm head that starts from what a narrower one has learnt.

Function-preserving widening in the manner of Net2Net (Chen, Goodfellow and Shlens, ICLR 2016):
old channels keep their weights and read next to nothing from the new ones, new channels start at
random, so that the first predictions are nearly those of the narrow network.
"""

from __future__ import annotations

import torch

from deepprep.segmentation.compact.network import Architecture, SegmentationNet

QUIET = 0.02
"""Factor on the random weights by which old channels read new ones."""


def widen(old: SegmentationNet, architecture: Architecture) -> SegmentationNet:
    """The network ``old`` with a wider fine head.

    Raises
    ------
    ValueError
        If the new network is narrower somewhere, or differs in another part.
    """
    was = old.architecture
    if was.coarse != architecture.coarse or was.classes != architecture.classes:
        raise ValueError("only the fine head may be widened")
    if architecture.fine < was.fine or architecture.lift < was.lift:
        raise ValueError("the new fine head must not be narrower")
    new = SegmentationNet(architecture)
    state = new.state_dict()
    for name, value in old.state_dict().items():
        if state[name].shape == value.shape:
            state[name] = value.clone()
            continue
        target = state[name]
        if target.dim() == 1:  # biases, statistics and factors of channels
            target[: len(value)] = value
            continue
        kept = slice(0, value.shape[0])
        if name == "fine_block.0.weight":
            # the image is the last input channel of both
            target[kept] *= QUIET
            target[kept, : was.lift] = value[:, :-1]
            target[kept, -1] = value[:, -1]
        else:
            target[kept] *= QUIET
            target[kept, : value.shape[1]] = value
        state[name] = target
    new.load_state_dict(state)
    return new


def nearly_equal(old: SegmentationNet, new: SegmentationNet, side: int = 32) -> float:
    """Largest difference of probabilities on a random input, to check a widened network."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, side, side, side, generator=generator)
    origin = torch.zeros(1, 3)
    with torch.no_grad():
        first, second = (net.eval()(image, origin).softmax(1) for net in (old, new))
    return float((first - second).abs().max())
