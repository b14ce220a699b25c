"""FastSurferCNN v1 and FastSurferVINN as engines: a head and files of weights in, aseg out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import nn

from deepprep.image.volume import Volume
from deepprep.nn.models import find_models_dir, find_weight_files
from deepprep.segmentation.fastsurfer import network
from deepprep.segmentation.fastsurfer.checkpoint import load_into
from deepprep.segmentation.fastsurfer.conform import VoxelSize
from deepprep.segmentation.fastsurfer.labels import CLASSES, SAGITTAL_CLASSES
from deepprep.segmentation.fastsurfer.precision import Precision
from deepprep.segmentation.fastsurfer.segment import segment_with
from deepprep.segmentation.fastsurfer.views import VIEWS
from deepprep.segmentation.result import Segmentation


@dataclass(frozen=True)
class _FastSurferEngine:
    """What both engines do; they differ in the network and in the lattice.

    Attributes
    ----------
    precision : {'auto', 'fp32', 'bf16'}
        ``auto``: bfloat16 where the device has it and labels agree with 32-bit floats.
    progress : callable, optional
        Told the view, slices done and slices to do.
    """

    name: ClassVar[str]
    architecture: ClassVar[type[network.FastSurferCNN] | type[network.FastSurferVINN]]
    voxel_size: ClassVar[VoxelSize]

    precision: Precision = "auto"
    progress: Callable[[str, int, int], None] | None = None

    def weight_files(self, models_dir: Path | None) -> list[Path] | None:
        """Coronal, axial and sagittal checkpoint under their official names, or None.

        They are searched in the folder of models and its sub-folders.
        """
        return find_weight_files(self.name, find_models_dir(models_dir))

    def segment(
        self,
        head: Volume,
        mask: np.ndarray,
        files: list[Path],
        *,
        device: str = "cpu",
        threshold: float = 0.5,
    ) -> Segmentation:
        """Segment a T1w head of any orientation; see :class:`deepprep.segmentation.result.Engine`."""
        nets: dict[str, nn.Module] = {}
        for view, file in zip(VIEWS, files, strict=True):
            classes = len(SAGITTAL_CLASSES if view.name == "sagittal" else CLASSES)
            net = self.architecture(classes)
            load_into(net, file)
            nets[view.name] = network.folded(net)
        return segment_with(
            nets, head, mask, engine=self.name, rule=self.voxel_size, device=device,
            threshold=threshold, precision=self.precision, progress=self.progress,
        )  # fmt: skip


class FastSurferV1(_FastSurferEngine):
    """FastSurferCNN v1 (Henschel et al., NeuroImage 2020) at 1 mm."""

    name = "fastsurfer-v1"
    architecture = network.FastSurferCNN
    voxel_size = "1mm"


class FastSurferVINN(_FastSurferEngine):
    """FastSurferVINN (Henschel et al., NeuroImage 2022) at the smallest voxel size up to 1 mm."""

    name = "fastsurfer-vinn"
    architecture = network.FastSurferVINN
    voxel_size = "min"
