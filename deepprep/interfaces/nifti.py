"""Reading and writing images: the only place where volumes meet paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike

from deepprep.image.volume import Volume

GZIP_LEVEL = 3
"""Compression level of derivatives: little larger than 6, several times faster."""


def load_volume(path: str | os.PathLike, dtype: type | None = np.float32) -> Volume:
    """Read an image with its header affine.

    Parameters
    ----------
    path : path-like
        NIfTI or MGH file.
    dtype : numpy dtype or None
        Convert to this type (scaled); ``None`` keeps the stored integers when unscaled.
    """
    image: Any = nib.load(path)
    data = np.asanyarray(image.dataobj)
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim > 4:
        data = np.squeeze(data)
    if dtype is not None:
        data = np.ascontiguousarray(data, dtype=dtype)
    return Volume(data, image.affine)


def save_volume(
    volume: Volume,
    path: str | os.PathLike,
    dtype: DTypeLike | None = None,
    tr_s: float | None = None,
    code: int = 1,
) -> Path:
    """Write a NIfTI atomically (temporary name in the same folder, then rename).

    Parameters
    ----------
    volume : Volume
        What to write.
    path : path-like
        ``.nii`` or ``.nii.gz``.
    dtype : numpy dtype, optional
        On-disk type; the array's own by default (float64 becomes float32).
    tr_s : float, optional
        Repetition time in seconds, for a 4D volume.
    code : int
        qform and sform code: 1 scanner, 2 aligned, 4 MNI.
    """
    path = Path(path)
    data = volume.data
    # NIfTI readers in the field do not take bool, and not all take 64-bit types.
    smaller = {"float64": "float32", "bool": "uint8", "int64": "int32"}
    kind = np.dtype(smaller.get(data.dtype.name, data.dtype) if dtype is None else dtype)
    if np.issubdtype(kind, np.integer) and np.issubdtype(data.dtype, np.floating):
        data = np.rint(data)
    image = nib.Nifti1Image(np.asarray(data, dtype=kind), volume.affine)
    image.set_qform(volume.affine, code)
    image.set_sform(volume.affine, code)
    image.header.set_xyzt_units("mm", "sec")
    if volume.data.ndim == 4 and tr_s is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], float(tr_s)))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        if path.name.endswith(".gz"):
            write_gz(image, part)
        else:
            image.to_filename(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_gz(image: nib.Nifti1Image | nib.MGHImage, path: Path) -> None:
    """Write an image compressed, with equal bytes from run to run."""
    from isal import igzip

    # A fixed modification time keeps the bytes equal from run to run.
    with (
        open(path, "wb") as raw,
        igzip.IGzipFile(
            filename="", mode="wb", fileobj=raw, compresslevel=GZIP_LEVEL, mtime=0
        ) as f,
    ):
        f.write(image.to_bytes())


def series_dtype(path: str | os.PathLike, values: np.ndarray) -> np.dtype:
    """On-disk type of a resampled series: the source's, where that loses nothing.

    Integers are kept (as int16 where they fit) when the values span enough steps that
    rounding stays far below the noise; everything else is float32.

    Parameters
    ----------
    path : path-like
        Original series.
    values : array
        Its values, scaled.
    """
    image: Any = nib.load(path)
    stored = image.get_data_dtype()
    if not np.issubdtype(stored, np.integer):
        return np.dtype(np.float32)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # Cubic interpolation overshoots by up to a tenth or so.
    if high - low < 1000 or high * 1.2 > np.iinfo(np.int16).max or low * 1.2 < -32768:
        return np.dtype(np.float32)
    return np.dtype(np.int16)
