"""A whole head through three networks: conform, sum the views, repair, and back.

The networks are given; :mod:`deepprep.segmentation.fastsurfer.engine` fills them from files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from deepprep.image.volume import Volume
from deepprep.segmentation.fastsurfer import postprocess
from deepprep.segmentation.fastsurfer.conform import VoxelSize, box_of, conform
from deepprep.segmentation.fastsurfer.inference import (
    Posteriors,
    Region,
    most_likely,
    posteriors,
    sum_views,
)
from deepprep.segmentation.fastsurfer.precision import Precision, choose_precision
from deepprep.segmentation.fastsurfer.way_back import WayBack
from deepprep.segmentation.result import Segmentation

SEARCH_MM = 10.0
"""Voxels this near to the brain mask are segmented too: masks err."""

HEAD_FRACTION = 0.04
"""Without a brain mask, voxels brighter than this share of 255 and what they enclose."""

ROOM_VOX = 14
"""Empty voxels around the labels while they are repaired (four sigma of the widest blur)."""

SIDE_SIGMA_VOX = 3.0
"""Blur that decides the hemisphere of a voxel near the cortex."""

MAX_RIM_FRACTION = 0.001
"""More labels than this share at the rim of the searched region are worth a note."""


def segment_with(
    nets: Mapping[str, nn.Module],
    head: Volume,
    mask: np.ndarray,
    *,
    engine: str,
    rule: VoxelSize,
    device: str = "cpu",
    threshold: float = 0.5,
    precision: Precision = "auto",
    progress: Callable[[str, int, int], None] | None = None,
) -> Segmentation:
    """Segment a head with three networks.

    Parameters
    ----------
    nets : mapping
        View name -> network in float32, from stacks (B, 7, H, W) and two scales to logits.
    head : Volume
        (X, Y, Z) T1w, any orientation and voxel size.
    mask : (X, Y, Z) bool array
        Brain mask; only what is near it is segmented. Empty: the whole head.
    engine : str
        Name written in the result.
    rule : {'1mm', 'min'}
        Voxel size to work at.
    device : str
        Torch device; a GPU whose memory is too small is left for the CPU.
    threshold : float
        See :func:`~deepprep.segmentation.fastsurfer.inference.most_likely`.
    precision, progress
        See the engines.

    Returns
    -------
    Segmentation
        On the lattice of ``head``. Uncertainty is one minus the posterior (softmax of the
        weighted sum of the three views' logits) of the structure each voxel was given.

    Raises
    ------
    StageError
        When the image is constant or its affine is singular.
    """
    conformed = conform(head, rule)
    voxel_mm = float(conformed.zooms_mm[0])
    region = Region.of(search_region(conformed, head.like(mask)))
    image, scale = torch.from_numpy(conformed.data), 1.0 / voxel_mm
    notes = [
        f"{engine} worked on {len(region) / 1e6:.1f} million voxels of {voxel_mm:g} mm near the "
        "brain mask, coronal and axial views with weight 0.4, sagittal with 0.2."
    ]

    def run(on: str, batch: int | None) -> torch.Tensor:
        dtypes, why = choose_precision(precision, nets, image, region, scale=scale, device=on)
        table = sum_views(
            nets, image, region,
            scale=scale, device=on, batch=batch, dtypes=dtypes, progress=progress,
        )  # fmt: skip
        notes.append(why)
        return table

    table = _within_memory(run, device, notes)
    classes = region.volume(most_likely(table, threshold))
    box = box_of(region.mask.numpy())
    aseg, inside, right = _repaired(classes[box])
    notes += _warnings(classes, region, aseg, voxel_mm)
    del classes
    here = region.mask.numpy()[box]
    found = posteriors(table, aseg[here], right[here], inside[here])
    del table
    return _on_lattice_of(head, conformed, region, box, aseg, found, engine, tuple(notes))


def search_region(conformed: Volume, mask: Volume) -> np.ndarray:
    """Voxels of the conformed head to segment: all near the brain mask, or the whole head.

    Parameters
    ----------
    conformed : Volume
        (N, N, N) uint8.
    mask : Volume
        Brain mask on its own lattice.

    Returns
    -------
    (N, N, N) bool array
    """
    to_mask = mask.grid.ras2vox @ conformed.affine
    near = ndimage.affine_transform(
        mask.data.astype(np.uint8), to_mask[:3, :3], to_mask[:3, 3],
        output_shape=conformed.shape, order=0,
    ).astype(bool)  # fmt: skip
    if not near.any():
        head = conformed.data > HEAD_FRACTION * 255
        box = box_of(head)
        near[box] = ndimage.binary_fill_holes(head[box])
        return near
    voxel_mm = float(conformed.zooms_mm[0])
    box = box_of(near, int(np.ceil(SEARCH_MM / voxel_mm)))
    near[box] = ndimage.distance_transform_edt(~near[box]) * voxel_mm <= SEARCH_MM
    return near


def _within_memory(
    run: Callable[[str, int | None], torch.Tensor], device: str, notes: list[str]
) -> torch.Tensor:
    """Run with the usual batch, then slice by slice, then on the CPU."""
    if device == "cpu":
        return run(device, None)
    for batch in (None, 1):
        try:
            return run(device, batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    notes.append(f"The memory of {device} is too small for the networks; they ran on the CPU.")
    return run("cpu", None)


def _repaired(classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aseg, brain mask and right half of the box that holds the labels."""
    labels, inner = postprocess.padded(classes, ROOM_VOX)
    labels = postprocess.split_cortex_labels(labels)
    inside = postprocess.brain_mask(labels)
    aseg = postprocess.reduce_to_aseg(labels)
    aseg[~inside] = 0
    aseg = postprocess.flip_wm_islands(aseg)
    right = postprocess.sidedness(aseg, SIDE_SIGMA_VOX) > 0
    return aseg[inner], inside[inner], right[inner]


def _warnings(classes: np.ndarray, region: Region, aseg: np.ndarray, voxel_mm: float) -> list[str]:
    """Sentences about results that look wrong."""
    notes = []
    litres = postprocess.brain_litres(aseg, voxel_mm)
    if litres < postprocess.MIN_BRAIN_LITRES:
        notes.append(
            f"The segmented volume is {litres:.2f} l, less than {postprocess.MIN_BRAIN_LITRES} l: "
            "FastSurfer's quality check failed."
        )
    inside = region.mask.numpy()
    box = box_of(inside, 1)
    rim = inside[box] & ~ndimage.binary_erosion(inside[box])
    labelled = max(1, int(np.count_nonzero(classes)))
    if np.count_nonzero(classes[box][rim]) > MAX_RIM_FRACTION * labelled:
        notes.append(
            f"Structures reach the rim of the searched region ({SEARCH_MM:g} mm around the brain "
            "mask): the brain mask may be too small."
        )
    return notes


def _on_lattice_of(
    head: Volume,
    conformed: Volume,
    region: Region,
    box: tuple[slice, slice, slice],
    aseg: np.ndarray,
    found: Posteriors,
    engine: str,
    notes: tuple[str, ...],
) -> Segmentation:
    labels = np.zeros(conformed.shape, dtype=np.uint8)
    labels[box] = aseg

    way_back = WayBack(conformed.grid, head.grid, box)

    def back(rows: np.ndarray) -> np.ndarray:
        return way_back.map(region.volume(np.ascontiguousarray(rows)))

    voxel_mm3 = conformed.grid.voxel_volume_mm3
    return Segmentation(
        labels=way_back.labels(labels),
        grey=back(found.tissues[:, 0]),
        white=back(found.tissues[:, 1]),
        fluid=back(found.tissues[:, 2]),
        uncertainty=back(1.0 - found.certainty),
        volumes_mm3={label: n * voxel_mm3 for label, n in found.volumes_vox.items()},
        engine=engine,
        notes=notes,
    )
