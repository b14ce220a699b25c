"""Muon: the update of each 3x3x3 convolution is made orthogonal; AdamW for everything else.

Jordan et al., *Muon: an optimizer for hidden layers in neural networks* (2024), with the scale of Liu et al.,
*Muon is scalable for LLM training* (arXiv:2502.16982, 2025), by which its rate is that of AdamW. A
convolution is taken as the matrix (outputs, inputs x taps).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

MOMENTUM = 0.95

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that takes all singular values near 1."""

ROUNDS = 5

LIKE_ADAMW = 0.2
"""Root mean square of an update at rate 1."""


class Muon(torch.optim.AdamW):
    """Optimizer of a network; see the module's text."""

    def __init__(self, net: nn.Module, rate: float) -> None:
        inner = [
            m.weight for m in net.modules() if isinstance(m, nn.Conv3d) and max(m.kernel_size) > 1
        ]
        known = {id(weight) for weight in inner}
        others = [p for p in net.parameters() if id(p) not in known]
        groups = [{"params": others}, {"params": inner, "orthogonal": True}]
        super().__init__(groups, rate, weight_decay=1e-4)

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One update; the gradients of convolutions are used up."""
        for group in self.param_groups:
            if group.get("orthogonal"):
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._turn(weight, group["lr"])
                        weight.grad = None
        super().step(closure)

    def _turn(self, weight: nn.Parameter, rate: float) -> None:
        assert weight.grad is not None
        gradient = weight.grad.flatten(1)
        state = self.state[weight]
        if not state:
            # AdamW looks for a number of steps in every state that it reads
            state["step"], state["momentum"] = torch.tensor(0.0), torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(momentum, MOMENTUM))
        scale = LIKE_ADAMW * max(update.shape) ** 0.5
        weight.sub_(rate * scale * update.view(weight.shape))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest (N, M) matrix whose singular values are all 1: they come out at 0.7 to 1.2."""
    x = matrix.float() / (matrix.norm() + 1e-12)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x
