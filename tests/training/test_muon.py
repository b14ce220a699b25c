"""The optimizer that makes the updates of convolutions orthogonal."""

import pytest
import torch
from torch import nn

from training.muon import LIKE_ADAMW, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonal(matrix) @ v.T
    assert inner.diagonal().min() > 0.6 and inner.diagonal().max() < 1.3
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-3


def test_a_convolution_turns_against_its_gradient_and_the_rest_follows_adamw() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Conv3d(4, 2, 1))
    twin = nn.Sequential(nn.Conv3d(3, 4, 3), nn.Conv3d(4, 2, 1))
    twin.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 5, 5, 5)
    ours, theirs = Muon(net, 0.01), torch.optim.AdamW(twin.parameters(), 0.01, weight_decay=1e-4)
    for one in (net, twin):
        one(image).square().mean().backward()
    before, gradient = net[0].weight.detach().clone(), net[0].weight.grad.clone()
    ours.step()
    theirs.step()
    expected = orthogonal(gradient.flatten(1)) * 0.01 * LIKE_ADAMW * 81**0.5
    torch.testing.assert_close((before - net[0].weight).flatten(1), expected, rtol=1e-3, atol=1e-6)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(net.get_parameter(name), twin.get_parameter(name)), name


def test_no_gradient_no_update() -> None:
    assert torch.isfinite(orthogonal(torch.zeros(3, 4))).all()
