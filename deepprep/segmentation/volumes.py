"""Volume and intensity of each structure of a segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from deepprep.segmentation.labels import STRUCTURES

OTHER_STRUCTURES: Mapping[int, str] = {
    30: "Left-vessel",
    62: "Right-vessel",
    72: "5th-Ventricle",
    78: "Left-WM-hypointensities",
    79: "Right-WM-hypointensities",
    80: "non-WM-hypointensities",
    81: "Left-non-WM-hypointensities",
    82: "Right-non-WM-hypointensities",
    251: "CC_Posterior",
    252: "CC_Mid_Posterior",
    253: "CC_Central",
    254: "CC_Mid_Anterior",
    255: "CC_Anterior",
}
"""Structures in FreeSurfer's own aseg that the engines here do not look for."""


@dataclass(frozen=True)
class StructureVolume:
    """One row of a table of structures.

    Attributes
    ----------
    label : int
        FreeSurfer number.
    name : str
        FreeSurfer name.
    n_voxels : int
        Voxels with this label.
    volume_mm3 : float
        Volume in mm^3: the sum of the posterior where there is one (partial volume kept), else
        voxels times voxel volume.
    mean, sd, minimum, maximum : float
        Intensity over the voxels, in the unit of the image; all 0 where there is no voxel. The
        standard deviation is that of the population.
    """

    label: int
    name: str
    n_voxels: int
    volume_mm3: float
    mean: float = 0.0
    sd: float = 0.0
    minimum: float = 0.0
    maximum: float = 0.0

    @property
    def value_range(self) -> float:
        """Largest less smallest intensity."""
        return self.maximum - self.minimum


def structure_name(label: int) -> str:
    """FreeSurfer's name of a number; ``Label-<number>`` for one that is not known here."""
    return STRUCTURES.get(label) or OTHER_STRUCTURES.get(label) or f"Label-{label}"


def structure_volumes(
    labels: np.ndarray,
    intensity: np.ndarray,
    voxel_volume_mm3: float,
    posterior_mm3: Mapping[int, float] | None = None,
    without: Iterable[int] = (),
) -> tuple[StructureVolume, ...]:
    """Volume and intensity of all structures.

    Parameters
    ----------
    labels : (X, Y, Z) integer array
        FreeSurfer numbers, 0 outside.
    intensity : (X, Y, Z) array
        Image to describe the structures in, same lattice.
    voxel_volume_mm3 : float
        Volume of a voxel.
    posterior_mm3 : mapping of int to float, optional
        Volumes from posteriors (``Segmentation.volumes_mm3``); structures that it lacks are
        counted.
    without : iterable of int
        Structures to leave out.

    Returns
    -------
    tuple of StructureVolume
        By number: every structure that the engine knows (``posterior_mm3``; without it
        :data:`deepprep.segmentation.labels.STRUCTURES`), empty or not, so that all subjects have
        the same rows, and whatever else ``labels`` holds. What an engine has no class for has no
        row: a volume of 0 would be taken for a finding.
    """
    known = set(STRUCTURES) if posterior_mm3 is None else set(posterior_mm3)
    posterior = posterior_mm3 or {}
    extents = dict(enumerate(ndimage.find_objects(labels), start=1))
    present = {label for label, extent in extents.items() if extent is not None}
    rows = []
    for label in sorted((known | present) - set(without)):
        name, extent = structure_name(label), extents.get(label)
        if extent is None:
            rows.append(StructureVolume(label, name, 0, float(posterior.get(label, 0.0))))
            continue
        values = intensity[extent][labels[extent] == label].astype(np.float64)
        counted = values.size * voxel_volume_mm3
        rows.append(
            StructureVolume(
                label=label,
                name=name,
                n_voxels=int(values.size),
                volume_mm3=float(posterior.get(label, counted)),
                mean=float(values.mean()),
                sd=float(values.std()),
                minimum=float(values.min()),
                maximum=float(values.max()),
            )
        )
    return tuple(rows)


def counted_volumes(labels: np.ndarray, voxel_volume_mm3: float) -> dict[int, float]:
    """Voxels times voxel volume of each label present but 0, in mm^3."""
    found, counts = np.unique(labels[labels > 0], return_counts=True)
    return {int(k): float(n * voxel_volume_mm3) for k, n in zip(found, counts, strict=True)}
