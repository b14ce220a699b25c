"""Brain structures as a few soft maps that a registration can pull together.

Structures that do not touch share a map, so that six maps carry the borders of all of them: the
overlap of segmentations drives the velocity as tissue maps do (SynthMorph learns the same
overlap; Hoffmann et al., IEEE TMI 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from deepprep.errors import InputError
from deepprep.image.compiled import compiled
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Affine

GROUPS: tuple[tuple[int, ...], ...] = (
    (2, 41, 7, 46, 77),
    (3, 42, 13, 52),
    (4, 5, 14, 15, 31, 43, 44, 63, 12, 51),
    (10, 49, 18, 54, 8, 47),
    (11, 50, 17, 53),
    (16, 26, 58),
)
"""FreeSurfer numbers of each map: white matter of cerebrum and cerebellum; cerebral cortex and
pallidum; ventricles and putamen; thalamus, amygdala and cerebellar cortex; caudate and
hippocampus; brain stem and accumbens. Ventral diencephalon and CSF are where all maps are low."""

SUBSAMPLE_MM = 0.6
"""A lattice cell is filled from nearest labels about this far apart, at least two an axis."""

N_LABELS = 256
"""Labels are uint8 numbers of deepprep.segmentation.labels."""


@dataclass(frozen=True)
class LabelPair:
    """Segmentations of the two heads in FreeSurfer's numbering.

    Parameters
    ----------
    fixed, moving : Volume
        (X, Y, Z) uint8 labels on any lattice of the fixed and the moving space.
    weight : float
        Pull of the overlap relative to that of the image.
    """

    fixed: Volume
    moving: Volume
    weight: float = 1.0


def group_lookup() -> np.ndarray:
    """(256,) int8: the map of each FreeSurfer number, -1 for none."""
    table = np.full(N_LABELS, -1, np.int8)
    for index, group in enumerate(GROUPS):
        table[list(group)] = index
    return table


def soft_groups(labels: Volume, grid: Grid, to_space: Affine | None = None) -> np.ndarray:
    """Share of each lattice cell that each group of structures fills.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers.
    grid : Grid
        Lattice of the result.
    to_space : Affine, optional
        Points of the lattice's space -> points of the space of ``labels`` (RAS mm).

    Returns
    -------
    (len(GROUPS), X', Y', Z') float32 array, 0 to 1.

    Raises
    ------
    InputError
        No voxel has a label of any group.
    """
    numbers = labels.data
    if not np.issubdtype(numbers.dtype, np.integer):
        numbers = np.rint(numbers).astype(np.int32)
    if numbers.dtype != np.uint8:  # which has no other numbers
        numbers = np.where((numbers < 0) | (numbers >= N_LABELS), 0, numbers)
    index = group_lookup()[numbers]
    if not (index >= 0).any():
        raise InputError(
            "The segmentation has no brain structure in FreeSurfer's numbering: give other labels."
        )
    pose = np.eye(4) if to_space is None else to_space.matrix
    step = np.maximum(2, np.rint(grid.zooms_mm / SUBSAMPLE_MM)).astype(np.int64)
    to_vox = labels.grid.ras2vox @ pose @ grid.affine
    return _fill(np.ascontiguousarray(index), to_vox, np.array(grid.shape), step, len(GROUPS))


@compiled(parallel=True)
def _fill(index, to_vox, shape, step, n_groups):  # type: ignore[no-untyped-def]
    out = np.zeros((n_groups, shape[0], shape[1], shape[2]), np.float32)
    nx, ny, nz = index.shape
    share = np.float32(1.0 / (step[0] * step[1] * step[2]))
    for x in numba.prange(shape[0]):
        for y in range(shape[1]):
            for z in range(shape[2]):
                for a in range(step[0]):
                    px = x + (a + 0.5) / step[0] - 0.5
                    for b in range(step[1]):
                        py = y + (b + 0.5) / step[1] - 0.5
                        for c in range(step[2]):
                            pz = z + (c + 0.5) / step[2] - 0.5
                            i = to_vox[0, 0] * px + to_vox[0, 1] * py + to_vox[0, 2] * pz
                            j = to_vox[1, 0] * px + to_vox[1, 1] * py + to_vox[1, 2] * pz
                            k = to_vox[2, 0] * px + to_vox[2, 1] * py + to_vox[2, 2] * pz
                            i = int(np.floor(i + to_vox[0, 3] + 0.5))
                            j = int(np.floor(j + to_vox[1, 3] + 0.5))
                            k = int(np.floor(k + to_vox[2, 3] + 0.5))
                            if 0 <= i < nx and 0 <= j < ny and 0 <= k < nz:
                                group = index[i, j, k]
                                if group >= 0:
                                    out[group, x, y, z] += share
    return out
