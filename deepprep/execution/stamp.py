"""Short fingerprints of code and weights: parts of the cache keys, so that changes recompute."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

from deepprep._version import __version__


@lru_cache(maxsize=64)
def code_stamp(*packages: str) -> str:
    """Version of the package and a hash of Python source.

    Parameters
    ----------
    *packages
        Packages or modules to hash (``"deepprep.bold"``); all of deepprep when none is given.

    Returns
    -------
    str
        ``"<version>+<8 hexadecimal digits>"``; the same for the same source, wherever installed.

    Raises
    ------
    ModuleNotFoundError
        When a package does not exist.
    """
    digest = hashlib.blake2b(digest_size=4)
    for package in packages or ("deepprep",):
        for name, path in _sources(package):
            digest.update(f"{package}:{name}\0".encode())
            digest.update(path.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"


def weights_stamp(path: str | Path) -> str:
    """Hash of the content of a file of weights (12 hexadecimal digits).

    Parameters
    ----------
    path
        File of weights.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    """
    path = Path(path)
    state = path.stat()
    return _content_hash(str(path.resolve()), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _content_hash(path: str, _size: int, _mtime_ns: int) -> str:
    digest = hashlib.blake2b(digest_size=6)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _sources(package: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {package!r} to hash")
    origin = Path(spec.origin)
    if not spec.submodule_search_locations:
        return [(origin.name, origin)]
    root = origin.parent
    return sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
