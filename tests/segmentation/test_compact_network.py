"""The segmentation network: folding its normalisation changes nothing but rounding."""

import torch

from deepprep.segmentation.compact.network import Architecture, SegmentationNet, fold_normalisation


def test_normalisation_folded_into_convolutions_is_the_same_function() -> None:
    torch.manual_seed(0)
    net = SegmentationNet(Architecture(coarse=(4, 6, 8, 10), fine=5, lift=3)).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            module.weight.data.normal_()
            module.bias.data.normal_()
    image, origin = torch.rand(1, 1, 32, 16, 16), torch.zeros(1, 3)
    with torch.no_grad():
        before = net(image, origin)
        after = fold_normalisation(net)(image, origin)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in net.modules())
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
