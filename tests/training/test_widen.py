"""Widening the fine head keeps what the network says."""

import pytest
import torch

from deepprep.segmentation.compact.network import Architecture, SegmentationNet
from training.segmentation.widen import nearly_equal, widen

NARROW = Architecture(coarse=(4, 6, 8, 8), fine=6, lift=3)


def test_widened_network_predicts_nearly_the_same():
    torch.manual_seed(0)
    old = SegmentationNet(NARROW)
    new = widen(old, Architecture(coarse=(4, 6, 8, 8), fine=12, lift=7))
    assert new.fine_head.weight.shape[1] == 12
    assert nearly_equal(old, new) < 0.01


def test_only_the_fine_head_may_be_widened():
    old = SegmentationNet(NARROW)
    with pytest.raises(ValueError, match="only the fine head"):
        widen(old, Architecture(coarse=(8, 8, 8, 8), fine=12))
    with pytest.raises(ValueError, match="narrower"):
        widen(old, Architecture(coarse=(4, 6, 8, 8), fine=4, lift=3))
