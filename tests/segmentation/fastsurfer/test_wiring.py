"""The networks against the published equations, written out from the tensors alone."""

import pytest
import torch
import torch.nn.functional as F

from deepprep.segmentation.fastsurfer.network import FastSurferCNN, FastSurferVINN


class Equations:
    """Forward passes as functions of a state dictionary."""

    def __init__(self, state: dict[str, torch.Tensor], base: int) -> None:
        self.state, self.base = state, base

    def act(self, block, x):
        return F.prelu(x, self.state[f"{block}.prelu.weight"])

    def bn(self, block, name, x):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{block}.{name}.{n}"] for n in names))

    def conv(self, block, i, x, norm="bn"):
        weight = self.state[f"{block}.conv{i}.weight"]
        bias = self.state[f"{block}.conv{i}.bias"]
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        return self.bn(block, f"{norm}{i + 1}", x)

    def dense_v1(self, b, x, first=False):
        if first:
            m1 = self.conv(b, 0, self.bn(b, "bn0", x))
        else:
            m1 = torch.max(x, self.conv(b, 0, self.act(b, x)))
        m2 = torch.max(self.conv(b, 1, self.act(b, m1)), m1)
        return self.conv(b, 2, self.act(b, m2))

    def dense_vinn(self, b, x, first=False, competes=True, norm="bn"):
        if first:
            m1 = self.conv(b, 0, self.bn(b, "bn0", x), norm)
        else:
            m1 = self.conv(b, 0, self.act(b, x), norm)
            m1 = torch.max(x, m1) if competes else m1
        m2 = torch.max(self.conv(b, 1, self.act(b, m1), norm), m1)
        m3 = torch.max(self.conv(b, 2, self.act(b, m2), norm), m2)
        return self.conv(b, 3, self.act(b, m3), norm)

    def unet(self, dense, x):
        skips = []
        for k in "1234":
            skip = dense(f"encode{k}", x, first=k == "1")
            x, where = F.max_pool2d(skip, 2, return_indices=True)
            skips.append((skip, where))
        x = dense("bottleneck", x)
        for k in "4321":
            skip, where = skips.pop()
            x = dense(f"decode{k}", torch.max(F.max_unpool2d(x, where, [2, 2]), skip))
        return x

    def classify(self, x):
        return F.conv2d(x, self.state["classifier.conv.weight"], self.state["classifier.conv.bias"])

    def v1(self, x):
        return self.classify(self.unet(self.dense_v1, x))

    def vinn(self, x, kept):
        """``kept``: pixels of the inner lattice that the image fills."""
        native = self.dense_vinn("inp_block", x, first=True, norm="gn")
        inner = F.interpolate(native, (kept, kept), mode="bilinear", align_corners=False)
        inner = F.pad(inner, (0, self.base - kept, 0, self.base - kept))
        back = self.unet(self.dense_vinn, inner)[:, :, :kept, :kept]
        back = F.interpolate(back, native.shape[2:], mode="bilinear", align_corners=False)
        both = torch.cat([back, native], 1)
        return self.classify(self.dense_vinn("outp_block", both, competes=False, norm="gn"))


def randomised(net):
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.PReLU):
            module.weight.data.uniform_(0.1, 0.4)
    return net.eval()


@torch.inference_mode()
def test_v1_is_wired_as_published():
    net, x = randomised(FastSurferCNN(79)), torch.rand(2, 7, 32, 48)
    assert torch.allclose(net(x), Equations(net.state_dict(), 0).v1(x), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("voxel_mm", "size", "kept"), [(1.0, 64, 64), (0.8, 80, 64), (0.8, 64, 51)]
)
def test_vinn_is_wired_as_published(voxel_mm, size, kept):
    net, x = randomised(FastSurferVINN(51, base_size=64)), torch.rand(1, 7, size, size)
    found = net(x, (1 / voxel_mm, 1 / voxel_mm))
    assert found.shape == (1, 51, size, size)
    assert torch.allclose(found, Equations(net.state_dict(), 64).vinn(x, kept), atol=1e-6)
