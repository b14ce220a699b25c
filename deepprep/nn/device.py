"""Which torch device a task may use."""

from __future__ import annotations


def usable_device(device: str) -> str:
    """``device``, or ``cpu`` where this process was given no GPU.

    A task that holds no GPU slot sees none, whatever ``--device`` the run has; it shares the processors
    with others instead of waiting for the GPU.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``mps``: the run's.
    """
    if not device.startswith("cuda"):
        return device
    import torch

    return device if torch.cuda.is_available() else "cpu"
