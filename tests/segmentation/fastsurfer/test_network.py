"""Tensors as in the official checkpoints; the resolution layer's rules; batch norms folded."""

from pathlib import Path

import pytest
import torch

from deepprep.segmentation.fastsurfer.network import FastSurferCNN, FastSurferVINN, folded
from deepprep.segmentation.fastsurfer.zoom import AxisPlan, plan_axis, zoom2d

HERE = Path(__file__).parent


def reference_shapes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official checkpoint (axial: 79 classes)."""
    out = {}
    for line in (HERE / f"keys_{name}.txt").read_text().splitlines():
        key, shape = line.split()
        out[key] = () if shape == "-" else tuple(int(n) for n in shape.split(","))
    for key in ("classifier.conv.weight", "classifier.conv.bias"):
        out[key] = (classes, *out[key][1:])
    return out


@pytest.mark.parametrize(
    ("build", "name", "classes", "parameters", "entries"),
    [
        (FastSurferCNN, "v1", 79, 1_799_206, 205),
        (FastSurferCNN, "v1", 51, 1_797_386, 205),
        (FastSurferVINN, "vinn", 79, 1_854_632, 331),
        (FastSurferVINN, "vinn", 51, 1_852_616, 331),
    ],
)
def test_tensors_are_those_of_the_official_checkpoints(build, name, classes, parameters, entries):
    net = build(classes)
    state = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(state) == entries
    assert state == reference_shapes(name, classes)
    assert list(state) == list(reference_shapes(name, classes))


@pytest.mark.parametrize(
    ("pixels", "target", "scale", "plan"),
    [
        (256, 256, 1.0, AxisPlan(256, 256, 1.0)),
        # 320 pixels of 0.8 mm are 256 mm: all of them become 256 pixels of 1 mm.
        (320, 256, 1.25, AxisPlan(320, 256, 1.25)),
        # 256 pixels of 0.8 mm are 204.8 mm: 204 pixels, the rest of the target stays empty.
        (256, 256, 1.25, AxisPlan(256, 204, 256 / 204)),
        # ... and back: the first 204 pixels become 256.
        (256, 256, 204 / 256, AxisPlan(204, 256, 204 / 256)),
        # A field larger than 256 mm is cropped at its end.
        (400, 256, 1.25, AxisPlan(320, 256, 1.25)),
    ],
)
def test_zoom_crops_or_pads_whole_pixels(pixels, target, scale, plan):
    assert plan_axis(pixels, target, scale) == plan


def test_zoom_with_scale_one_changes_nothing():
    x = torch.rand(2, 3, 32, 48)
    out, scale = zoom2d(x, (1.0, 1.0), (32, 48))
    assert scale == (1.0, 1.0)
    assert torch.equal(out, x)


def test_zoom_pads_at_the_end_and_interpolates_between_pixel_centres():
    x = torch.arange(8.0).expand(1, 1, 8, 8)
    out, scale = zoom2d(x, (2.0, 2.0), (8, 8))
    assert scale == (2.0, 2.0)
    # Pixel centres halve: 0.5, 2.5, ... lie between two pixels of the input.
    assert out[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5, 0, 0, 0, 0]
    assert (out[0, 0, 4:] == 0).all()


@pytest.mark.parametrize("size", [(256, 256), (320, 320), (402, 402), (257, 301)])
@pytest.mark.parametrize("voxel_mm", [0.67, 0.7, 0.8, 0.9, 1.0])
def test_zoom_there_and_back_keeps_shape_and_place(size, voxel_mm):
    ramp = torch.linspace(0, 1, size[0])[:, None] + 2 * torch.linspace(0, 1, size[1])
    inner, realised = zoom2d(ramp[None, None], (1 / voxel_mm,) * 2, (256, 256))
    assert inner.shape == (1, 1, 256, 256)
    back, _ = zoom2d(inner, realised, size, inverse=True)
    assert back.shape[2:] == size
    # Where nothing was cropped, smooth features return to where they were (a pixel here is 0.004).
    seen = [int(256 / voxel_mm) - 12 if n > 256 / voxel_mm else n - 12 for n in size]
    error = (back[0, 0] - ramp)[12 : seen[0], 12 : seen[1]].abs().max()
    assert error < 0.012


@pytest.mark.parametrize("build", [FastSurferCNN, FastSurferVINN])
def test_folding_batch_norms_keeps_the_logits(build):
    torch.manual_seed(0)
    net = build(51)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    net.eval()
    x = torch.rand(1, 7, 32, 48)
    if build is FastSurferVINN:
        net.base_size = 32
    with torch.inference_mode():
        expected = net(x, (1.25, 1.25))
        plain = folded(net)(x, (1.25, 1.25))
        last = folded(net).to(memory_format=torch.channels_last)(x, (1.25, 1.25))
    assert expected.shape == (1, 51, 32, 48)
    tolerance = 1e-4 * float(expected.abs().max())
    assert torch.allclose(plain, expected, atol=tolerance)
    assert torch.allclose(last, expected, atol=tolerance)


def test_unpooling_returns_maxima_to_their_pixels():
    net = FastSurferCNN(79)
    blocks = [m for n, m in net.named_children() if n != "classifier"]
    for block in blocks:  # blocks that pass their input on
        block.forward = lambda x: x[:, :1]
    x = torch.zeros(1, 7, 32, 32)
    x[0, 0, 13, 22] = 5.0
    out = net.features(x)
    assert out[0, 0, 13, 22] == 5.0
    assert int((out > 0).sum()) == 1
