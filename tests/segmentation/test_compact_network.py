"""The segmentation network is the function it says, however it is computed."""

import numpy as np
import pytest
import torch

from deepprep.image.volume import Grid
from deepprep.segmentation.compact.inference import Prepared, mirrored_posterior, tiles
from deepprep.segmentation.compact.network import (
    CLASSES,
    Architecture,
    SegmentationNet,
    fold,
)
from deepprep.segmentation.labels import mirrored


@pytest.fixture
def net() -> SegmentationNet:
    """Small, with random weights and statistics."""
    torch.manual_seed(0)
    net = SegmentationNet(Architecture(coarse=(4, 6, 8, 10), fine=5, lift=3)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            module.weight.data.normal_()
            module.bias.data.normal_()
    return net


def test_a_block_is_convolutions_with_normalisation_of_an_enlarged_image_beside_another(
    net: SegmentationNet,
) -> None:
    """However it is computed, with stored statistics and with those of the batch, and its derivative."""
    x, skip = torch.rand(2, 6, 4, 3, 5, requires_grad=True), torch.rand(2, 4, 8, 6, 10)
    for training in (False, True):
        block = net.up0.train(training)
        found = block(x, skip)
        enlarged = torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        expected = torch.nn.Sequential(*block)(torch.cat([enlarged, skip], 1))
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        parts = [block[1].weight, block[0].weight, x]
        ours = torch.autograd.grad(found.square().sum(), parts, retain_graph=True)
        theirs = torch.autograd.grad(expected.square().sum(), parts)
        for one, other in zip(ours, theirs):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


def test_lifted_features_lie_where_folding_would_take_them_from(net: SegmentationNet) -> None:
    image, features = torch.rand(2, 1, 8, 6, 4), torch.rand(2, 4, 4, 3, 2)
    with torch.no_grad():
        raised = net._raised(features, image)
        assert torch.equal(raised[:, -1:], image)
        torch.testing.assert_close(fold(raised[:, :-1].contiguous()), net.lift(features))
        by_convolution = net.fine_head(net.fine_block(raised))
        torch.testing.assert_close(net.fine(image, features), by_convolution)


def test_tiles_and_mirror_image_give_the_mean_of_two_whole_passes(net: SegmentationNet) -> None:
    inside = np.zeros((48, 32, 32), bool)
    inside[10:40, 6:20, 9:25] = True
    inside[10:16, 6:20, 20:] = False
    image = torch.rand(1, 1, *inside.shape) * torch.from_numpy(inside)
    origin = torch.tensor([[-25.0, -14.0, -17.0]])
    turned = torch.tensor([[25.0 - 47, -14.0, -17.0]])
    twins = [CLASSES.index(mirrored(label)) for label in CLASSES]
    prepared = Prepared(image, origin, Grid(inside.shape, np.diag([1.0, 1, 1, 1])), inside)
    found, labels = mirrored_posterior(net, prepared, "cpu")
    with torch.no_grad():
        one = net(image, origin)[0].softmax(0)
        other = net(image.flip(2), turned)[0].softmax(0).flip(1)[twins]
    part = prepared.around_brain()
    expected = ((one + other) / 2)[:, *prepared.box].numpy()
    assert part.grid.shape == found.shape[1:] == labels.shape == part.inside.shape
    assert np.array_equal(part.grid.affine[:3, 3], [b.start for b in prepared.box])
    assert torch.equal(part.origin - origin, torch.tensor([[b.start for b in prepared.box]]))
    assert torch.equal(part.image, image[:, :, *prepared.box])
    assert np.abs(found - expected)[:, part.inside].max() < 1e-3
    agree = np.sort(expected, axis=0)[-2:]
    clear = part.inside & (agree[1] - agree[0] > 1e-3)
    assert np.array_equal(labels[clear], expected.argmax(0)[clear])


def test_tiles_hold_all_of_the_brain_and_have_even_bounds() -> None:
    inside = np.random.default_rng(0).random((70, 40, 36)) > 0.999
    held = np.zeros(inside.shape, bool)
    for tile in tiles(inside, 16):
        assert all(part.start % 2 == 0 and part.stop % 2 == 0 for part in tile)
        assert not held[tile].any()
        held[tile] = True
    assert held[inside].all()
    assert not list(tiles(np.zeros((8, 8, 8), bool)))
