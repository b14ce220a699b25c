"""CIFTI-2 files of the cortex: ``.dscalar.nii`` and ``.dlabel.nii`` of fsLR."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.interfaces.files import atomically

STRUCTURES = {"lh": "CIFTI_STRUCTURE_CORTEX_LEFT", "rh": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


def write_dscalar(
    path: str | os.PathLike,
    values: Mapping[str, np.ndarray],
    cortex: Mapping[str, np.ndarray],
    name: str,
) -> Path:
    """Write one map over the cortex of both hemispheres, atomically.

    Parameters
    ----------
    path : path-like
        Ends with ``.dscalar.nii``.
    values : mapping of {'lh', 'rh'} to (N,) array
        Of the vertices in ``cortex``, in their order.
    cortex : mapping of {'lh', 'rh'} to (W,) bool array
        Which vertices of the mesh the file holds; left comes first.
    name : str
        Of the map, shown by viewers.

    Raises
    ------
    ValueError
        Where the number of values is not that of the vertices.
    """
    axis = brain_axis(cortex)
    data = np.concatenate([np.asarray(values[hemi], dtype=np.float32) for hemi in STRUCTURES])
    if len(data) != len(axis):
        raise ValueError(f"{len(data)} values for {len(axis)} vertices of {name}")
    image = nib.Cifti2Image(data[None], header=(nib.cifti2.ScalarAxis([name]), axis))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SCALARS")
    return atomically(path, lambda part: nib.save(image, part))


def brain_axis(cortex: Mapping[str, np.ndarray]) -> nib.cifti2.BrainModelAxis:
    """Axis of the vertices of both hemispheres, left first."""
    left, right = (
        nib.cifti2.BrainModelAxis.from_mask(np.asarray(cortex[hemi], dtype=bool), name)
        for hemi, name in STRUCTURES.items()
    )
    return left + right
