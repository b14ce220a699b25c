"""A simple model of time, memory and disk, for the plan.

Linear in what each part is proportional to: voxels of the T1w for the anatomy, voxel-frames for
BOLD. The constants stand for two CPU threads without a GPU and come from
benchmarks/results/main_job.md; expect a factor of two either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepprep.bids.records import Run, SubjectInputs
from deepprep.bids.spaces import OutputSpace

T1W_MEGAVOXELS = 10.0
"""Size of the T1w that the anatomical constants are for (1 mm whole head)."""

ANAT_MINUTES = 0.5
"""Bias field, brain mask, tissues, figures for such a T1w."""

AVERAGE_MINUTES = 0.5
"""Each further T1w in the average."""

TEMPLATE_MINUTES = 2.0
"""Normalisation to one template."""

SURFACE_MINUTES = 5.0
"""Surfaces, spheres and parcels of both hemispheres."""

BOLD_MINUTES_PER_GIGAVOXEL = 20.0
"""Motion, coregistration, confounds and figures, per 1e9 voxel-frames of the input."""

RESAMPLE_MINUTES_PER_GIGAVOXEL = 4.0
"""One output grid, per 1e9 voxel-frames of the output."""

BASE_MEMORY_GB = 1.0
"""Python, torch and a network."""

SURFACE_VERTICES = 330_000
"""Of both hemispheres."""

TEMPLATE_FIELD_MM = (193.0, 229.0, 193.0)
"""Field of view of the MNI templates."""

T1W_FIELD_MM = (180.0, 230.0, 230.0)


@dataclass(frozen=True)
class Estimate:
    """Cost on two CPU threads; memory is the larger, the rest the sum of the parts."""

    cpu_minutes: float
    memory_gb: float
    output_gb: float
    work_gb: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.cpu_minutes + other.cpu_minutes,
            max(self.memory_gb, other.memory_gb),
            self.output_gb + other.output_gb,
            self.work_gb + other.work_gb,
        )


def anatomical(subject: SubjectInputs, n_templates: int, *, surfaces: bool = True) -> Estimate:
    """Cost of the anatomy of a participant."""
    megavoxels = max((float(np.prod(i.shape[:3])) / 1e6 for i in subject.t1w), default=0.0)
    minutes = ANAT_MINUTES * max(megavoxels / T1W_MEGAVOXELS, 0.2)
    minutes += AVERAGE_MINUTES * (len(subject.t1w) - 1) + TEMPLATE_MINUTES * n_templates
    if surfaces:
        minutes += SURFACE_MINUTES
    # About ten float32 arrays of the T1w's size are alive at the peak.
    return Estimate(
        cpu_minutes=minutes,
        memory_gb=BASE_MEMORY_GB + 10 * 4 * megavoxels / 1e3,
        output_gb=0.008 * megavoxels * (1 + n_templates),
        work_gb=0.04 * megavoxels,
    )


def functional(run: Run, spaces: Sequence[OutputSpace]) -> Estimate:
    """Cost of one BOLD run and its output grids."""
    n_frames = run.shape[3] if len(run.shape) > 3 else 1
    source = float(np.prod(run.shape[:3])) * n_frames / 1e9
    outputs = [_grid_voxels(run, s) * n_frames / 1e9 for s in spaces]
    minutes = 0.5 + BOLD_MINUTES_PER_GIGAVOXEL * source
    minutes += RESAMPLE_MINUTES_PER_GIGAVOXEL * sum(outputs)
    return Estimate(
        cpu_minutes=minutes,
        memory_gb=BASE_MEMORY_GB + 4 * (2 * source + max(outputs, default=0.0)),
        # float32, of which compression leaves about half inside a brain's field of view.
        output_gb=4 * 0.5 * sum(outputs),
        work_gb=4 * (2 * source + sum(outputs)),
    )


def _grid_voxels(run: Run, space: OutputSpace) -> float:
    """Voxels of one frame of an output grid."""
    if space.name == "boldref" or len(run.zooms) < 3:
        return float(np.prod(run.shape[:3]))
    if space.surface:
        return float(SURFACE_VERTICES)
    if not space.standard:
        return float(np.prod(T1W_FIELD_MM) / np.prod(run.zooms[:3]))
    if space.native_res:
        return float(np.prod(TEMPLATE_FIELD_MM) / np.prod(run.zooms[:3]))
    # TemplateFlow's index is the edge in mm for the MNI templates.
    edge_mm = float(space.res or 1) if str(space.res).isdigit() else 2.0
    return float(np.prod(TEMPLATE_FIELD_MM) / max(edge_mm, 0.5) ** 3)
