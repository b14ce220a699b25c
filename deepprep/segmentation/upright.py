"""A head that lies turned in its image is set upright for the segmentation network.

Networks were trained on heads turned by less than :data:`MAX_DEGREES` to the axes of their lattice
(ours by 18 degrees about each): beyond, they mix up left and right and lose structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.image.resample import Interpolation, resample, resample_image
from deepprep.image.volume import Grid, Volume
from deepprep.registration.affine import register_affine
from deepprep.segmentation.intracranial import TemplateBrain
from deepprep.segmentation.result import Engine, Segmentation

MAX_DEGREES = 20.0
"""A head turned by less, about whatever axis, is segmented on its own lattice."""

ROOM_MM = 40.0
"""How much of the head around the brain is kept: networks for whole heads look at the skull."""


def segment_upright(
    engine: Engine,
    head: Volume,
    mask: np.ndarray,
    files: Sequence[Path],
    template: TemplateBrain,
    *,
    device: str = "cpu",
    threshold: float = 0.5,
) -> Segmentation:
    """Segment a head however it lies; see :meth:`deepprep.segmentation.result.Engine.segment`.

    Parameters
    ----------
    template : TemplateBrain
        Tells which way is up.

    Returns
    -------
    Segmentation
        On the lattice of ``head``; a note says when the head was turned.
    """
    inside = mask.astype(bool)
    if not inside.any():
        raise ValueError("the brain mask is empty")
    axes = anatomical_axes(head, inside, template)
    degrees = turned_by(head.grid, axes)
    if degrees <= MAX_DEGREES:
        return engine.segment(head, mask, list(files), device=device, threshold=threshold)
    upright = upright_grid(head.grid, axes, inside)
    image = resample_image(head, upright)
    brain = resample(head.like(inside.astype(np.float32)), upright, None, "linear").data > 0.5
    # in a world that is upright too, or which axis points right would be told by the old one
    turned_back = np.eye(4)
    turned_back[:3, :3] = axes.T
    found = engine.segment(
        Volume(image.data, turned_back @ upright.affine),
        brain,
        list(files),
        device=device,
        threshold=threshold,
    )
    note = f"The head lies turned by {degrees:.0f} degrees and was set upright for the network."

    def back(data: np.ndarray, interpolation: Interpolation = "linear") -> np.ndarray:
        return resample(Volume(data, upright.affine), head.grid, None, interpolation).data

    return replace(
        found,
        labels=back(found.labels, "label"),
        grey=back(found.grey),
        white=back(found.white),
        fluid=back(found.fluid),
        uncertainty=back(found.uncertainty),
        notes=(*found.notes, note),
    )


def anatomical_axes(head: Volume, mask: np.ndarray, template: TemplateBrain) -> np.ndarray:
    """(3, 3) matrix whose columns point right, to the front and up in the head (unit RAS)."""
    inside = head.like(mask.astype(np.float32))
    fit = register_affine(template.head, head, fixed_mask=template.mask, moving_mask=inside, dof=7)
    u, _, vt = np.linalg.svd(fit.matrix[:3, :3])
    return u @ vt


def lattice_axes(grid: Grid) -> np.ndarray:
    """(3, 3) matrix whose columns are the axes of a lattice nearest to right, front and up."""
    ornt = nib.io_orientation(grid.affine)
    columns = np.argsort(ornt[:, 0])
    return grid.affine[:3, :3][:, columns] / grid.zooms_mm[columns] * ornt[columns, 1]


def turned_by(grid: Grid, axes: np.ndarray) -> float:
    """Degrees between the axes of a lattice and those of the head in it."""
    cosine = (np.trace(lattice_axes(grid).T @ axes) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


def upright_grid(grid: Grid, axes: np.ndarray, mask: np.ndarray) -> Grid:
    """A lattice along ``axes`` that covers the brain and :data:`ROOM_MM` around it.

    Voxels are cubes of the smallest edge of ``grid``.
    """
    zoom = float(grid.zooms_mm.min())
    voxels = np.argwhere(mask)
    along = (voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]) @ axes
    low, high = along.min(0) - ROOM_MM, along.max(0) + ROOM_MM
    shape = np.ceil((high - low) / zoom).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * zoom
    affine[:3, 3] = axes @ low
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
