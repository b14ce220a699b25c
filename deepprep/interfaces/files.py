"""Small files of a task, written in its own folder of the cache."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fileformats.generic import File

from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import save_volume


def keep_volume(volume: Volume, name: str, **options: Any) -> File:
    """Write ``volume`` as ``name`` in the task's folder."""
    return File(save_volume(volume, Path.cwd() / name, **options))


def keep_json(content: Mapping[str, Any], name: str) -> File:
    """Write a JSON file in the task's folder."""
    path = Path.cwd() / name
    path.write_text(json.dumps(content, indent=1, sort_keys=True, default=_plain) + "\n")
    return File(path)


def keep_arrays(name: str, **arrays: np.ndarray) -> File:
    """Write named arrays (``.npz``, uncompressed) in the task's folder."""
    path = Path.cwd() / name
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return File(path)


def atomically(path: str | os.PathLike, write: Callable[[Path], Any]) -> Path:
    """Let ``write`` make a file under a temporary name beside ``path``, then rename it.

    The temporary name ends as ``path`` does, for writers that choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def read_json(file: File | Path | str) -> dict[str, Any]:
    """Content of a JSON file."""
    return json.loads(Path(str(file)).read_text(encoding="utf-8"))


def _plain(value: Any) -> Any:
    for method in ("tolist", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    return str(value)
