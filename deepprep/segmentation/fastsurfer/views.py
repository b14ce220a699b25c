"""Slices of a LIA volume in three views, with their neighbours, and where their pixels belong.

In a LIA array x runs to the left, y down and z forward. A view is a permutation of these axes
to (slice, height, width) as the official networks were trained; nothing is ever flipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepprep.segmentation.fastsurfer.network import CHANNELS

NEIGHBOURS = CHANNELS // 2
"""Slices on each side that the network sees; the outermost slice is repeated at the ends."""


@dataclass(frozen=True)
class View:
    """One of the three networks' views.

    Attributes
    ----------
    name : str
    order : tuple of int
        Axes of the LIA array that are slices, height and width.
    weight : float
        Share in the sum of logits.
    """

    name: str
    order: tuple[int, int, int]
    weight: float

    def arrange(self, volume: torch.Tensor) -> torch.Tensor:
        """(X, Y, Z) -> (slices, H, W), without a copy."""
        return volume.permute(self.order)

    def restore(self, slices: torch.Tensor) -> torch.Tensor:
        """(slices, H, W) -> (X, Y, Z); undoes :meth:`arrange`."""
        back = [self.order.index(axis) for axis in range(3)]
        return slices.permute(back)


VIEWS = (
    View("coronal", (2, 0, 1), 0.4),
    View("axial", (1, 2, 0), 0.4),
    View("sagittal", (0, 2, 1), 0.2),
)
"""Sagittal slices do not show the side and count half."""


def stacks(slices: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Slices with their neighbours.

    Parameters
    ----------
    slices : (S, H, W) tensor, 0..255
    which : (B,) integer tensor
        Slices to take.

    Returns
    -------
    (B, 7, H, W) float32 tensor in 0..1; channels in the order of the slices.
    """
    reach = torch.arange(-NEIGHBOURS, NEIGHBOURS + 1, device=slices.device)
    index = (which.to(slices.device)[:, None] + reach).clamp(0, slices.shape[0] - 1)
    return slices[index].to(torch.float32).div_(255.0).clamp_(0.0, 1.0)
