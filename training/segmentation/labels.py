"""Classes of the segmentation network and the label maps it is trained on.

The label maps are SynthSeg's training maps (Billot et al., Medical Image Analysis 2023;
86:102789; Apache-2.0): whole heads at 1 mm with left/right brain structures in FreeSurfer
numbering and extracerebral classes from 502 upwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.labels import mirrored

SMALL = (26, 58, 13, 52, 18, 54, 5, 44, 11, 50, 12, 51, 17, 53, 28, 60, 10, 49, 14, 15)
"""Structures around which training patches are centred more often than chance would."""

FAR_CSF = 1024
"""Source label given to CSF far from the brain (spinal canal, orbits): looks like CSF, target 0."""

FAR_CSF_MM = 12
"""CSF farther than this from brain tissue, in mm, is not segmented."""

MERGED = {25: 2, 57: 41, 30: 2, 62: 41, 72: 24, 136: 4, 137: 5, 163: 43, 164: 44}
"""Source label -> class: lesions and vessels to white matter, choroid plexus to its ventricle.

136/163 and 137/164 lie inside the left/right lateral and inferior horns. The optic chiasm
(85) and everything from 502 upwards is background.
"""

SOURCES = (
    *CLASSES, 25, 57, 30, 62, 72, 85, 136, 137, 163, 164,
    502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530, FAR_CSF,
)  # fmt: skip
"""All labels the generator paints; a label map is stored as indices into this tuple."""

LABELS_ENV = "DEEPPREP_SYNTHSEG_LABELS"
"""Environment variable naming the folder of ``seg_XX.nii.gz`` where no argument does."""

PALLIDUM_SHARE = 0.40
"""Volume of the pallidum over that of the putamen of its side, at least.

FreeSurfer's means in adults are near it (about 2.0 and 4.8 ml in the UK Biobank); half of the label maps
have 0.18 to 0.30.
"""

PALLIDUM_REACH_MM = 2.0
"""A pallidum is enlarged by at most this, into white matter."""

POINTS_PER_CLASS = 400
"""Voxels remembered of each structure, to centre patches on."""


def target_of_source() -> np.ndarray:
    """Class index (into CLASSES) of every entry of SOURCES; uint8."""
    index = {label: i for i, label in enumerate(CLASSES)}
    return np.array([index.get(MERGED.get(s, s), 0) for s in SOURCES], dtype=np.uint8)


def mirrored_classes() -> np.ndarray:
    """Class index after a left/right mirror, for every class index; int64."""
    return np.array([CLASSES.index(mirrored(label)) for label in CLASSES])


@dataclass(frozen=True)
class LabelMap:
    """One head.

    Attributes
    ----------
    name : str
        Number of the map in its file name.
    sources : (X, Y, Z) uint8 tensor
        Indices into SOURCES; 1 mm, axes to right, anterior, superior; one voxel of air around.
    centre : (3,) array
        Centre of the brain's bounding box, voxels.
    box : (2, 3) array
        First and last voxel of the brain (without CSF).
    points : dict of int to (N, 3) array
        A sample of voxels of each class index present (0 left out).
    """

    name: str
    sources: torch.Tensor
    centre: np.ndarray
    box: np.ndarray
    points: dict[int, np.ndarray]


def labels_folder(argument: str | Path | None) -> Path:
    """Folder of the label maps: the argument, else the environment variable."""
    folder = argument or os.environ.get(LABELS_ENV)
    if not folder:
        raise SystemExit(f"Say where the label maps are: --labels FOLDER or {LABELS_ENV}.")
    return Path(folder)


def load_maps(
    folder: Path, numbers: tuple[int, ...], device: str = "cpu", even_pallidum: bool = False
) -> list[LabelMap]:
    """Read ``seg_XX.nii.gz`` for each number."""
    return [load_map(folder / f"seg_{n:02d}.nii.gz", device, even_pallidum) for n in numbers]


def load_map(path: Path, device: str = "cpu", even_pallidum: bool = False) -> LabelMap:
    """Read one label map, reorient it to RAS and crop it to the head.

    ``even_pallidum``: see :func:`enlarge_pallidum`; for training, never for validation.
    """
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asanyarray(image.dataobj).round().astype(np.int16)
    head = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    labels = np.pad(labels[head], 1)
    table = np.full(int(max(SOURCES)) + 1, len(SOURCES) - 1, dtype=np.uint8)
    table[list(SOURCES)] = np.arange(len(SOURCES))
    unknown = np.setdiff1d(labels, SOURCES)
    if unknown.size:
        raise SystemExit(f"{path.name} has labels this recipe does not know: {unknown.tolist()}")
    labels[(labels == 24) & ~_near_brain(labels)] = FAR_CSF
    if even_pallidum:
        enlarge_pallidum(labels)
    sources = table[labels]
    classes = target_of_source()[sources]
    corners = np.argwhere(classes > 1)
    box = np.stack([corners.min(0), corners.max(0)])
    points = remembered_points(classes)
    name = path.name.split(".")[0].removeprefix("seg_")
    return LabelMap(name, torch.from_numpy(sources).to(device), box.mean(0), box, points)


def enlarge_pallidum(labels: np.ndarray) -> None:
    """Let small pallida grow into white matter, to PALLIDUM_SHARE of the putamen; in place.

    The maps follow several definitions of its medial border; a network that learns from all of them
    draws one between.

    Parameters
    ----------
    labels : (X, Y, Z) int array
        FreeSurfer numbers at 1 mm.
    """
    for pallidum, putamen, white in ((13, 12, 2), (52, 51, 41)):
        wanted = PALLIDUM_SHARE * np.count_nonzero(labels == putamen)
        own = labels == pallidum
        missing = round(wanted - np.count_nonzero(own))
        if missing <= 0 or not own.any():
            continue
        away = ndimage.distance_transform_edt(~own)
        near = np.flatnonzero((away <= PALLIDUM_REACH_MM) & (labels == white))
        soft = ndimage.gaussian_filter(own.astype(np.float32), 1.0).ravel()[near]
        labels.flat[near[np.argsort(-soft, kind="stable")[:missing]]] = pallidum


def remembered_points(classes: np.ndarray) -> dict[int, np.ndarray]:
    """``POINTS_PER_CLASS`` voxels (N, 3) of each class index present in a map (0 left out)."""
    rng = np.random.default_rng(0)
    points = {}
    for c in range(1, len(CLASSES)):
        voxels = np.argwhere(classes == c)
        if len(voxels):
            points[c] = voxels[rng.integers(0, len(voxels), POINTS_PER_CLASS)]
    return points


def _near_brain(labels: np.ndarray) -> np.ndarray:
    tissue = (labels > 0) & (labels < 500) & (labels != 24)
    size = 2 * FAR_CSF_MM + 1
    return ndimage.maximum_filter(tissue.astype(np.uint8), size=size) > 0


def class_weights(maps: list[LabelMap]) -> torch.Tensor:
    """Weight of each class in the cross-entropy: (median / own volume)^(1/2), in [0.5, 4]."""
    target = torch.from_numpy(target_of_source())
    count = torch.zeros(len(CLASSES))
    for head in maps:
        here = torch.bincount(head.sources.cpu().flatten(), minlength=len(SOURCES)).float()
        count.index_add_(0, target.long(), here)
    weight = (count[1:].median() / count.clamp(min=1)).sqrt()
    return weight.clamp(0.5, 4.0)
