"""A lesion painted over with healthy tissue: that of the other hemisphere, or white matter.

A network has never seen a tumour or the cavity of a stroke, and what it makes of one spreads to
structures beside it. In an image whose lesion is filled, brain structures, surfaces and the map to
a template are those of a whole brain (Nachev et al. 2008, enantiomorphic normalisation; Sdika &
Pelletier 2009, inpainting with white matter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration.affine import register_affine
from deepprep.registration.diffeomorphic import LEVELS, register_diffeomorphic
from deepprep.registration.lesion import LESION_RIM_MM, with_rim
from deepprep.segmentation.tissue import bounding_box, segment_tissues

Filling = Literal["mirror", "white"]

SHELL_MM = 10.0
"""How far around a lesion both hemispheres are compared, for the brightness of what is filled in."""

WHITE_WIDTH_MM = 8.0
"""Width (Gaussian) over which the level of white matter around a lesion is carried into it."""

PURE_WHITE = 0.9
"""Share of white matter of a voxel that counts for that level."""


@dataclass(frozen=True)
class FilledHead:
    """A head without its lesion.

    Parameters
    ----------
    t1w : Volume
        The image; untouched further than the rim of 2 mm from the lesion.
    mask : (X, Y, Z) bool array
        Brain. With ``mirror`` it has the part of the lesion that faces brain on the other side.
    mirrored_share : float
        Share of the filled lesion that has tissue of the other side; the rest is white matter.
    """

    t1w: Volume
    mask: np.ndarray
    mirrored_share: float


def fill_lesion(
    t1w: Volume, mask: np.ndarray, lesion: Volume, how: Filling, *, seed: int = 0
) -> FilledHead:
    """Fill a lesion with the tissue at the same place of the other hemisphere, or with white matter.

    Parameters
    ----------
    t1w : Volume
        (X, Y, Z) bias-corrected T1w.
    mask : (X, Y, Z) bool array
        Brain.
    lesion : Volume
        On the lattice of ``t1w``; above 0.5 is inside.
    how : {'mirror', 'white'}
        ``mirror`` registers the head to its mirror image, the lesion of both left out, and takes
        what is there, as bright as the surroundings; where that is lesion too or no brain, white
        matter is taken. ``white`` takes the local level of white matter, with its noise, for
        lesions that lie in it.
    seed : int
        Of the noise.

    Returns
    -------
    FilledHead

    Raises
    ------
    InputError
        Nothing of the lesion is in the brain, or it leaves no brain to go by.
    """
    t1w, mask = t1w.like(np.nan_to_num(t1w.data).astype(np.float32)), mask.astype(bool)
    inside = np.nan_to_num(lesion.data) > 0.5
    rim = with_rim(lesion)
    healthy = mask & ~(rim.data > 0.5)
    if healthy.sum() < 0.2 * mask.sum() or not mask.any():
        raise InputError(
            "The lesion mask leaves less than a fifth of the brain: check that it is not inverted."
        )
    brain, tissue, usable = mask, None, np.zeros(mask.shape, bool)
    if how == "mirror":
        tissue, usable = _other_side(t1w, mask, t1w.like(inside.astype(np.float32)), rim)
        brain = mask | (inside & usable)
    filled = inside & brain
    if not filled.any():
        raise InputError(
            "No part of the lesion lies in the brain, so there is nothing to fill: check the mask."
        )
    new = t1w.data.copy()
    white = filled & ~usable
    if white.any():
        new[white] = _white_matter(t1w, healthy, white, seed)
    if tissue is not None:
        # the rim fades from the other side's tissue to what is there
        away = ndimage.distance_transform_edt(~inside, sampling=t1w.zooms_mm)
        weight = np.clip(1.0 - away / LESION_RIM_MM, 0.0, 1.0) * (usable & brain)
        new += (weight * (tissue - new)).astype(np.float32)
    return FilledHead(t1w.like(new), brain, float((usable & filled).sum() / filled.sum()))


def _other_side(
    t1w: Volume, mask: np.ndarray, lesion: Volume, rim: Volume
) -> tuple[np.ndarray, np.ndarray]:
    """The mirror image on the head, as bright as it is around the lesion; where it is healthy brain."""
    brain = t1w.like(np.where(mask, t1w.data, 0).astype(np.float32))
    flipped, sick = _flip(brain), _flip(lesion)
    # the head's own lesion is a hole of the mirror image too, where the map takes it: found twice
    hole = sick.like(np.maximum(sick.data, lesion.data))
    affine = register_affine(brain, flipped, lesion=hole)
    there = resample(lesion, flipped.grid, affine.inverse(), "linear")
    hole = sick.like(np.maximum(sick.data, there.data))
    affine = register_affine(brain, flipped, init=affine, lesion=hole)
    found = register_diffeomorphic(brain, flipped, affine, lesion=hole, levels=LEVELS[:1])
    across = found.fixed_to_moving()

    inside_rim = rim.data > 0.5
    room = np.ceil(SHELL_MM / t1w.zooms_mm).astype(int)
    box = bounding_box(inside_rim, 1 + room)
    grid = t1w.grid.part(box)

    def other_side(volume: Volume) -> np.ndarray:
        return resample(_flip(volume), grid, across, "linear").data

    tissue = np.zeros(mask.shape, np.float32)
    usable, near = (np.zeros(mask.shape, bool) for _ in range(2))
    tissue[box] = other_side(t1w)
    usable[box] = (other_side(t1w.like(mask.astype(np.float32))) > 0.5) & (other_side(rim) <= 0.5)
    near[box] = ndimage.distance_transform_edt(~inside_rim[box], sampling=t1w.zooms_mm) <= SHELL_MM
    shell = near & ~inside_rim & usable & mask
    theirs = float(tissue[shell].sum())
    if theirs > 0:
        tissue *= float(t1w.data[shell].sum()) / theirs
    return tissue, usable


def _white_matter(t1w: Volume, healthy: np.ndarray, where: np.ndarray, seed: int) -> np.ndarray:
    """White matter at the voxels of ``where``: its local level and its noise."""
    tissues = segment_tissues(t1w, healthy)
    pure = healthy & (tissues.wm >= PURE_WHITE)
    if not pure.any():
        raise InputError("No white matter was found to fill the lesion with: use the other side.")
    sigma = WHITE_WIDTH_MM / t1w.zooms_mm
    values = np.where(pure, t1w.data, 0).astype(np.float32)
    total = ndimage.gaussian_filter(values, sigma)
    weight = ndimage.gaussian_filter(pure.astype(np.float32), sigma)
    known = weight > 1e-3
    level = np.where(known, total / np.maximum(weight, 1e-3), tissues.model.means[2])
    spread = float(np.std((t1w.data - level)[pure & known])) if (pure & known).any() else 0.0
    noise = np.random.default_rng(seed).normal(scale=spread, size=int(where.sum()))
    return (level[where] + noise).astype(np.float32)


def _flip(volume: Volume) -> Volume:
    """The mirror image on the same lattice: reversed along the axis that runs left to right."""
    axis = int(np.argmax(np.abs(volume.affine[0, :3]) / volume.zooms_mm))
    return volume.like(np.ascontiguousarray(np.flip(volume.data, axis)))
