"""Is an image file whole, and are its values and its orientation usable?

Headers first, then one pass over the voxels (decompressed in pieces, nothing kept): the same
bytes that processing would read anyway, so a truncated file is found before hours of computing.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np

from deepprep.image.volume import Grid

CHUNK_BYTES = 1 << 22

MAX_SHEAR = 1e-3
"""Largest cosine of the angle between two voxel axes that still counts as a right angle."""


@dataclass(frozen=True)
class Finding:
    """What is wrong with one image file."""

    code: str
    what: str
    remedy: str


def check_image(path: str | os.PathLike) -> Finding | None:
    """Check one NIfTI file; the first thing that is wrong, or ``None``.

    In this order: missing, zero bytes, gzip or not as the name says, header, orientation
    (absent, singular or sheared), all voxels there, finite, and neither all zero nor all equal.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError:
        return Finding(
            "FILE_MISSING",
            "the file does not exist (a broken link?)",
            "Get the file (for DataLad: datalad get) or remove the link.",
        )
    if size == 0:
        return Finding("EMPTY_FILE", "the file has zero bytes", "Convert or copy the image again.")
    try:
        with open(path, "rb") as f:
            is_gzip = f.read(2) == b"\x1f\x8b"
    except OSError as error:
        return Finding(
            "FILE_UNREADABLE", f"the file cannot be read ({error.strerror})", "Check permissions."
        )
    if path.name.endswith(".gz") != is_gzip:
        return Finding(
            "WRONG_GZIP",
            "the name says .gz but the file is not gzip-compressed"
            if not is_gzip
            else "the file is gzip-compressed but its name does not end with .gz",
            "Rename it to .nii, or compress it with gzip."
            if not is_gzip
            else "Rename it to .nii.gz.",
        )
    return _check_header_and_voxels(path, is_gzip)


def check_images(
    paths: Iterable[str],
    *,
    threads: int = 1,
    cache: Path | None = None,
    write_cache: bool = True,
) -> dict[str, Finding | None]:
    """Check many files in threads.

    Parameters
    ----------
    paths : iterable of str
    threads : int
    cache : Path, optional
        JSON file of earlier results, by path, size and modification time.
    write_cache : bool
        Write the new results there.
    """
    paths = sorted(set(paths))
    known = _read_cache(cache)
    result: dict[str, Finding | None] = {}
    todo = []
    for path in paths:
        entry = known.get(path)
        if entry is not None and entry.get("stamp") == _stamp(path):
            raw = entry.get("finding")
            result[path] = None if raw is None else Finding(**raw)
        else:
            todo.append(path)
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        for path, finding in zip(todo, pool.map(check_image, todo), strict=True):
            result[path] = finding
            known[path] = {
                "stamp": _stamp(path),
                "finding": None if finding is None else asdict(finding),
            }
    finally:
        # Ctrl-C must not wait for files that were not begun.
        pool.shutdown(wait=False, cancel_futures=True)
    if cache is not None and write_cache and todo:
        _write_cache(cache, known)
    return {path: result[path] for path in paths}


def orientation_finding(header: Any) -> Finding | None:
    """What is wrong with the qform and sform of a NIfTI header, or ``None``."""
    if not hasattr(header, "get_sform"):
        return None
    try:
        qform, qcode = header.get_qform(coded=True)
        sform, scode = header.get_sform(coded=True)
    except Exception:  # quaternions longer than one and other nonsense
        return Finding(
            "BAD_ORIENTATION",
            "the qform in the header is not a rotation",
            "Write a correct orientation into the header.",
        )
    if not qcode and not scode:
        return Finding(
            "NO_ORIENTATION",
            "neither sform nor qform is set, so left and right cannot be told",
            "Convert the image again with its orientation (dcm2niix keeps it).",
        )
    affine = sform if scode else qform
    name = "sform" if scode else "qform"
    columns = np.asarray(affine, dtype=float)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or (lengths < 1e-6).any():
        return Finding(
            "BAD_ORIENTATION",
            f"the {name} has a zero or non-finite axis",
            "Convert the image again, or write a correct orientation into the header.",
        )
    shear = Grid((1, 1, 1), affine).shear
    if shear > MAX_SHEAR:
        remedy = "Write an orientation without shear into the header"
        if scode and qcode:
            remedy += " (its qform has none: copy it to the sform)"
        return Finding(
            "SHEARED_ORIENTATION",
            f"the {name} has shear (axes {90 - np.degrees(np.arcsin(min(shear, 1.0))):.1f} degrees "
            "apart instead of 90), so voxels are not boxes",
            remedy + ".",
        )
    return None


def _check_header_and_voxels(path: Path, is_gzip: bool) -> Finding | None:
    unreadable = Finding(
        "BAD_HEADER", "the header is not that of a NIfTI image", "Convert the image again."
    )
    try:
        image: Any = nib.load(path)
        shape = image.shape
        dtype = image.dataobj.dtype
        offset = int(image.dataobj.offset)
    except Exception:  # nibabel wraps damaged gzip streams and wrong headers in the same classes
        return _damaged_stream(path, is_gzip) or unreadable
    if not shape or any(n < 1 for n in shape):
        return unreadable
    finding = orientation_finding(image.header)
    if finding is not None:
        return finding
    if dtype.kind not in "iufc":
        return Finding(
            "BAD_TYPE",
            f"its voxels are of the type {dtype} instead of numbers (a colour picture?)",
            "Convert the image again.",
        )
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if not is_gzip and path.stat().st_size < offset + expected:
        return _truncated(f"{path.stat().st_size} bytes instead of {offset + expected}")
    try:
        with _open(path, is_gzip) as f:
            return _scan_voxels(f, offset, expected, dtype, float(_slope(image)))
    except (OSError, EOFError, zlib.error) as error:
        return _truncated(str(error))


def _damaged_stream(path: Path, is_gzip: bool) -> Finding | None:
    """Whether the bytes themselves cannot be read to the end."""
    try:
        with _open(path, is_gzip) as f:
            while f.read(CHUNK_BYTES):
                pass
    except (OSError, EOFError, zlib.error) as error:
        return _truncated(str(error))
    return None


def _scan_voxels(
    file: BinaryIO, offset: int, expected: int, dtype: np.dtype, slope: float
) -> Finding | None:
    """Read all voxels once: count the bytes, look for NaN, infinity and two non-zero values."""
    file.read(offset)
    is_float = dtype.kind in "fc"
    chunk = CHUNK_BYTES - CHUNK_BYTES % dtype.itemsize
    n_read, any_nonzero, varied, n_bad = 0, False, False, 0
    first: Any = None
    while n_read < expected:
        piece = file.read(min(chunk, expected - n_read))
        if not piece:
            return _truncated(f"voxels end after {n_read} of {expected} bytes")
        while len(piece) % dtype.itemsize:
            more = file.read(dtype.itemsize - len(piece) % dtype.itemsize)
            if not more:
                return _truncated(f"voxels end after {n_read + len(piece)} of {expected} bytes")
            piece += more
        n_read += len(piece)
        if varied and not is_float:
            continue
        values = np.frombuffer(piece, dtype=dtype)
        if is_float:
            n_bad += int(values.size - np.isfinite(values).sum())
        if not varied:
            signal = (
                values[(values != 0) & np.isfinite(values)] if is_float else values[values != 0]
            )
            if signal.size:
                any_nonzero = True
                first = signal[0] if first is None else first
                varied = bool((signal != first).any())
    # Reading to the very end makes gzip compare the checksum.
    while file.read(chunk):
        pass
    if not any_nonzero or slope == 0:
        return Finding("ALL_ZERO", "all voxels are zero or NaN", "Convert or copy the image again.")
    if not varied:
        return Finding(
            "CONSTANT",
            "all voxels that are not zero have the same value, as those of a mask",
            "Give the image itself, or convert or copy it again.",
        )
    if n_bad:
        percent = 100 * n_bad * dtype.itemsize / expected
        return Finding(
            "NAN_VALUES",
            f"{n_bad} voxels ({percent:.2g} %) are NaN or infinite",
            "Replace them (for example by 0) or convert the image again.",
        )
    return None


def _slope(image: Any) -> float:
    """Scale factor; 0 in a header means 'not scaled', which nibabel returns as 1."""
    slope = getattr(image.dataobj, "slope", 1.0)
    return 1.0 if slope is None or not np.isfinite(slope) else float(slope)


def _open(path: Path, is_gzip: bool) -> Any:
    if not is_gzip:
        return open(path, "rb")
    try:
        from isal import igzip

        return igzip.open(path, "rb")
    except ImportError:
        return gzip.open(path, "rb")


def _truncated(detail: str) -> Finding:
    return Finding(
        "TRUNCATED",
        f"the file is truncated or damaged ({' '.join(detail.split())})",
        "Copy or convert the image again.",
    )


def _stamp(path: str) -> list[int] | None:
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _read_cache(cache: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8")) if cache is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(cache: Path, known: dict[str, Any]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_name(f".{os.getpid()}.part.{cache.name}")
    part.write_text(json.dumps(known), encoding="utf-8")
    os.replace(part, cache)
