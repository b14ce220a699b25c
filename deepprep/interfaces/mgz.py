"""Writing FreeSurfer's MGZ files: same bytes for the same image."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import write_gz

_STORED = {"bool": "uint8", "int8": "int16", "uint16": "int32", "float16": "float32"}
_KEPT = ("uint8", "int16", "int32", "float32")
"""The types that the format has; anything else not in ``_STORED`` becomes float32."""


def save_mgz(volume: Volume, path: str | os.PathLike) -> Path:
    """Write an MGZ atomically (temporary name in the same folder, then rename).

    Parameters
    ----------
    volume : Volume
        (X, Y, Z) image; types that the format lacks are written as the next larger one. Its
        affine goes to the header as it is: ``delta``, ``Mdc`` and ``Pxyz_c`` (``c_ras``), with
        ``goodRASFlag`` 1.
    path : path-like
        Ends with ``.mgz``.

    Returns
    -------
    Path
    """

    path = Path(path)
    kind = volume.data.dtype.name
    kind = _STORED.get(kind, kind if kind in _KEPT else "float32")
    image = nib.MGHImage(np.asarray(volume.data, dtype=kind), volume.affine)
    # What mri_info prints as the field of view.
    image.header["fov"] = float((np.array(volume.shape[:3]) * volume.zooms_mm).max())
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        write_gz(image, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
