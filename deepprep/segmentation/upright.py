"""A head that lies turned in its image is set upright for the networks.

They were trained on heads turned by less than :data:`MAX_DEGREES` to the axes of their lattice
(ours by 18 degrees about each): beyond, segmentation mixes up left and right and loses structures,
and brain extraction is off by a voxel here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.image.brain_mask import NETWORK, BrainMask, extract_brain
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
    brain = resample(head.like(inside.astype(np.float32)), upright, None, "linear").data > 0.5
    found = engine.segment(
        set_upright(head, upright, axes),
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


def extract_brain_upright(
    head: Volume, template: TemplateBrain, mode: str = "auto", device: str = "cpu"
) -> BrainMask:
    """Mask the brain of a head however it lies; see :func:`deepprep.image.brain_mask.extract_brain`.

    Parameters
    ----------
    template : TemplateBrain
        Tells which way is up.

    Returns
    -------
    BrainMask
        On the lattice of ``head``; its reason says when the head was turned.
    """
    found = extract_brain(head, mode, device)
    if found.method != NETWORK:
        return found
    axes = anatomical_axes(head, found.mask, template)
    degrees = turned_by(head.grid, axes)
    if degrees <= MAX_DEGREES:
        return found
    upright = upright_grid(head.grid, axes, found.mask)
    again = extract_brain(set_upright(head, upright, axes), "force", device).mask
    back = Volume(again.astype(np.float32), upright.affine)
    mask = resample(back, head.grid, None, "linear").data > 0.5
    return replace(
        found,
        mask=mask,
        reason=f"{found.reason}; the head lies turned by {degrees:.0f} degrees and was set upright",
        volume_ml=float(mask.sum()) * head.grid.voxel_volume_mm3 / 1000.0,
    )


def set_upright(head: Volume, grid: Grid, axes: np.ndarray) -> Volume:
    """The head on an upright lattice, in a world that is upright too.

    Which axis points right would else be told by the old world.
    """
    turned_back = np.eye(4)
    turned_back[:3, :3] = axes.T
    return Volume(resample_image(head, grid).data, turned_back @ grid.affine)


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
