"""Lesion masks: which ROI files are one, which T1w they belong to, and whether they can be used.

As in fMRIPrep, an ``anat/*_roi.nii.gz`` of the data set (``label-lesion``, ``desc-lesion`` or
unlabelled) is left out of the cost of the normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepprep.bids.image_integrity import Finding
from deepprep.bids.records import Image

SAME_LATTICE_MM = 0.05
"""Largest distance of corresponding corners of two lattices that count as the same."""

MAX_SHARE = 0.4
"""A lesion that fills more of its image than this is an inverted mask."""

FILLED_WITH = {"mirror": "the tissue of the other hemisphere", "white": "white matter"}
"""What a lesion can be filled with, by ``--lesion-fill``."""

MASK_REMEDY = "Write 1 in the lesion and 0 elsewhere, or remove the file."


def is_lesion(image: Image) -> bool:
    """Whether an ROI file is meant as a lesion: it says so, or it says nothing."""
    words = [image.entities[k] for k in ("label", "desc") if k in image.entities]
    return not words or any("lesion" in word.lower() for word in words)


def partner(lesion: str, t1w: Sequence[str]) -> int:
    """Which of several T1w a lesion was drawn on.

    Parameters
    ----------
    lesion : str
        Path of the mask.
    t1w : sequence of str
        Paths of readable T1w images.

    Returns
    -------
    int
        Index of the T1w on the same lattice; among several, or with none, of the one whose name
        shares most entities with the lesion's; the first among equals.
    """
    words = set(Path(lesion).name.split(".")[0].split("_"))

    def likeness(path: str) -> tuple[bool, int]:
        return corner_distance_mm(lesion, path) <= SAME_LATTICE_MM, len(
            words & set(Path(path).name.split(".")[0].split("_"))
        )

    return max(range(len(t1w)), key=lambda n: likeness(t1w[n]))


def corner_distance_mm(first: str, second: str) -> float:
    """Largest distance between corresponding corners of two images' lattices, in mm.

    Infinite where the shapes differ. The order of the axes does not matter.
    """
    import nibabel as nib

    images: list[Any] = [nib.as_closest_canonical(nib.load(path)) for path in (first, second)]
    if images[0].shape[:3] != images[1].shape[:3]:
        return float("inf")
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * (np.array(images[0].shape[:3]) - 1)
    a, b = (nib.affines.apply_affine(image.affine, corners) for image in images)
    return float(np.linalg.norm(a - b, axis=1).max())


def check_lesion(lesion: Image, t1w: Sequence[Image]) -> list[tuple[str, Finding]]:
    """Findings about a mask whose file is whole, each with its level.

    Parameters
    ----------
    lesion : Image
    t1w : sequence of Image
        Those of the participant that can be used; at least one.
    """
    import nibabel as nib

    image: Any = nib.load(lesion.path)
    problem = values_finding(np.asanyarray(image.dataobj))
    if problem is not None:
        return [("error", problem)]
    own = t1w[partner(lesion.path, [i.path for i in t1w])]
    if corner_distance_mm(lesion.path, own.path) <= SAME_LATTICE_MM:
        return []
    head: Any = nib.load(own.path)
    where = _inside(image, head)
    if not where:
        return [
            (
                "error",
                Finding(
                    "LESION_ELSEWHERE",
                    f"none of the lesion lies in the field of view of {own.name}",
                    "Draw the mask on that T1w, or correct the affine of the mask.",
                ),
            )
        ]
    what = f"its lattice is not that of {own.name}, so it is resampled to it by their affines"
    remedy = "Check in the report that the lesion lies where it should."
    return [("warning", Finding("LESION_RESAMPLED", what, remedy))]


def values_finding(data: np.ndarray) -> Finding | None:
    """What makes these voxels no lesion mask, or ``None``.

    A mask holds 0 and one other value, or probabilities from 0 to 1.
    """
    if data.ndim != 3 and (data.ndim != 4 or data.shape[3] != 1):
        what = f"it has the shape {'x'.join(map(str, data.shape))}, a lesion mask is one volume"
        return Finding("LESION_NOT_3D", what, MASK_REMEDY)
    low, high = float(data.min()), float(data.max())
    between = ~np.isin(data, (0, high))
    if low < 0 or (high > 1 and between.any()):
        return Finding(
            "LESION_NOT_A_MASK",
            f"it is not a mask: its values go from {low:g} to {high:g}, not just 0 and 1",
            MASK_REMEDY,
        )
    share = float((data > 0.5 * max(high, 1e-12)).mean())
    if high <= 0 or share == 0:
        return Finding("LESION_EMPTY", "the lesion mask is empty", MASK_REMEDY)
    if share > MAX_SHARE:
        return Finding(
            "LESION_INVERTED",
            f"it marks {100 * share:.0f} % of the image as lesion, so it seems inverted",
            MASK_REMEDY,
        )
    return None


def _inside(lesion: Any, head: Any) -> bool:
    """Whether any lesion voxel lies in the field of view of the T1w."""
    data = np.asanyarray(lesion.dataobj)
    voxels = np.argwhere(data.reshape(data.shape[:3]) > 0)
    to_head = np.linalg.inv(head.affine) @ lesion.affine
    there = voxels @ to_head[:3, :3].T + to_head[:3, 3]
    return bool(((there >= -0.5) & (there <= np.array(head.shape[:3]) - 0.5)).all(axis=1).any())
