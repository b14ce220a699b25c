"""Tiny networks that label by intensity, so that what happens around networks can be tested."""

import torch
from torch import nn

from deepprep.segmentation.fastsurfer.labels import CLASSES, SAGITTAL_CLASSES
from deepprep.segmentation.fastsurfer.views import VIEWS

LEVELS = {0: 0, 40: 24, 80: 3, 110: 17, 140: 42, 170: 41, 200: 2, 230: 16}
"""Intensity -> structure."""


class ByIntensity(nn.Module):
    """Logits fall with the distance to each structure's intensity, in the middle slice."""

    def __init__(self, sagittal: bool = False) -> None:
        super().__init__()
        classes = (SAGITTAL_CLASSES if sagittal else CLASSES).tolist()
        table = torch.full((256, len(classes)), -40.0)
        for level, label in LEVELS.items():
            channel = {3: 1003, 42: 2002}.get(label, label)
            channel = _sagittal(channel) if sagittal else channel
            logits = -((torch.arange(256.0) - level) ** 2) / 50
            i = classes.index(channel)
            table[:, i] = torch.maximum(table[:, i], logits)
        self.register_buffer("table", table)

    def forward(self, x: torch.Tensor, scale: tuple[float, float]) -> torch.Tensor:
        return self.table[(x[:, 3].float() * 255).round().long()].permute(0, 3, 1, 2)


def _sagittal(label: int) -> int:
    return {2: 41, 17: 53, 2002: 1002}.get(label, label)


class Random(nn.Module):
    """One random convolution over neighbours and slices: no symmetry of any kind."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(7, classes, 3, padding=1)

    def forward(self, x: torch.Tensor, scale: tuple[float, float]) -> torch.Tensor:
        return 5 * self.conv(x)


def by_intensity() -> dict[str, nn.Module]:
    """Networks of the three views."""
    return {view.name: ByIntensity(view.name == "sagittal") for view in VIEWS}


def random_nets() -> dict[str, nn.Module]:
    """Networks of the three views."""
    return {
        view.name: Random(51 if view.name == "sagittal" else 79, i) for i, view in enumerate(VIEWS)
    }
