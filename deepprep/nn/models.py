"""Official weights of networks of other groups: what they are, where they come from and lie.

Nothing here goes to the network; ``deepprep models fetch`` does, when asked.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

MODELS_DIR_VARIABLE = "DEEPPREP_MODELS_DIR"
DEFAULT_MODELS_DIR = "~/.cache/deepprep/models"
RECORD_NAME = "fetched.json"
"""File in the folder of models: SHA-256 and address of what was fetched."""

APACHE = "Apache-2.0 (code and weights, licence of the FastSurfer repository)"
_VINN_ADDRESSES = (
    "https://zenodo.org/records/10390573/files/",
    "https://b2share.fz-juelich.de/api/files/a423a576-220d-47b0-9e0c-b5b32d45fc59/",
)
_V1_ADDRESSES = _VINN_ADDRESSES[1:]
_V1_NOTE = (
    "name by a third party, not seen by us; DeepPrep 25.1 took the files from the FastSurfer "
    "repository instead (commit 070647d)"
)


@dataclass(frozen=True)
class WeightFile:
    """One file of official weights.

    Attributes
    ----------
    engine : str
        Engine that needs it.
    view : str
        Which of the engine's networks.
    file : str
        Official name.
    size_bytes : int or None
        None where unknown.
    checksum : str or None
        ``md5:...`` or ``sha256:...``; None where none was published that we could read.
    urls : tuple of str
        Addresses, tried in this order.
    licence, note : str
    also_named : tuple of str
        Other names under which users have the file; the last parts of a path.
    """

    engine: str
    view: str
    file: str
    size_bytes: int | None
    checksum: str | None
    urls: tuple[str, ...]
    licence: str
    note: str = ""
    also_named: tuple[str, ...] = ()


def _vinn(view: str, size_bytes: int, checksum: str | None = None) -> WeightFile:
    file = f"aparc_vinn_{view}_v2.0.0.pkl"
    urls = tuple(base + file for base in _VINN_ADDRESSES)
    return WeightFile("fastsurfer-vinn", view, file, size_bytes, checksum, urls, APACHE)


def _v1(view: str) -> WeightFile:
    file = f"aparc_cnn_{view}_v1.0.0.pkl"
    urls = tuple(base + file for base in _V1_ADDRESSES)
    repository = f"{view.title()}_Weights_FastSurferCNN/ckpts/Epoch_30_training_state.pkl"
    return WeightFile(
        "fastsurfer-v1", view, file, None, None, urls, APACHE, _V1_NOTE, (repository,)
    )


_SYNTHMORPH_LICENCE = (
    "not settled: MIT or CC BY 4.0 according to synthmorph.io as quoted by others, FreeSurfer's "
    "licence according to others; read it before use"
)


def _synthmorph(view: str, file: str, size_bytes: int, sha256: str) -> WeightFile:
    urls = (f"https://surfer.nmr.mgh.harvard.edu/docs/synthmorph/{file}",)
    return WeightFile(
        "synthmorph", view, file, size_bytes, f"sha256:{sha256}", urls, _SYNTHMORPH_LICENCE
    )


REGISTRY = (
    _vinn("coronal", 22_399_783),
    _vinn("axial", 22_399_769, "md5:f16e78dd069eed2ec659674e0fdb697b"),
    _vinn("sagittal", 22_375_598),
    _v1("coronal"),
    _v1("axial"),
    _v1("sagittal"),
    _synthmorph(
        "affine",
        "synthmorph.affine.2.h5",
        51_455_312,
        "1ac5304b683036e5177f5b4ad38fa09fcbbe7883e742d6fa5bdaedd0e619ced6",
    ),
    _synthmorph(
        "deformation",
        "synthmorph.deform.3.h5",
        3_508_630_424,
        "95b367cd30788cc647e4704b650642fc1d70d7e419c20c04f1ba1b2902bc6536",
    ),
)
"""All official weights that an engine of this package can use."""

GROUPS = {"fastsurfer": "fastsurfer-vinn"}
"""Short names of engines."""


def weights_of(engine: str) -> list[WeightFile]:
    """Files that an engine needs; none for unknown engines."""
    engine = GROUPS.get(engine, engine)
    return [w for w in REGISTRY if w.engine == engine]


def engines_with_weights() -> list[str]:
    """Names of the engines in the registry."""
    return list(dict.fromkeys(w.engine for w in REGISTRY))


def find_models_dir(given: str | Path | None = None) -> Path:
    """Folder of models: the one given, else $DEEPPREP_MODELS_DIR, else the user's cache."""
    chosen = given or os.environ.get(MODELS_DIR_VARIABLE) or DEFAULT_MODELS_DIR
    return Path(chosen).expanduser()


def locate(weight: WeightFile, folder: Path) -> Path | None:
    """Where a file lies in a folder of models or its sub-folders, or None."""
    return find_file(folder, weight.file, *weight.also_named)


def find_file(folder: Path, *names: str) -> Path | None:
    """The first file of these names in a folder, else in its sub-folders, or None.

    A name may have parts of a path, which must agree.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    for name in names:
        last, parents = Path(name).name, Path(name).parts[:-1]
        for path in sorted(folder.rglob(last)) if folder.is_dir() else ():
            if path.is_file() and path.parts[-1 - len(parents) : -1] == parents:
                return path
    return None


def find_weight_files(engine: str, folder: Path) -> list[Path] | None:
    """Files of an engine in the order of the registry, or None when one of them is missing."""
    found = [locate(weight, folder) for weight in weights_of(engine)]
    files = [path for path in found if path is not None]
    return files if files and len(files) == len(found) else None


@dataclass(frozen=True)
class Verdict:
    """State of a file: ``ok``, ``unverified`` (whole as far as known), ``missing``, ``bad``."""

    state: str
    detail: str
    path: Path | None = None


def verify(weight: WeightFile, folder: Path) -> Verdict:
    """Check a file's size and checksum against what is known of it."""
    path = locate(weight, folder)
    if path is None:
        return Verdict("missing", "not here")
    problem = mismatch(weight, path)
    if problem:
        return Verdict("bad", problem, path)
    if weight.checksum:
        return Verdict("ok", "size and checksum as published", path)
    recorded = read_record(folder).get(weight.file, {}).get("sha256")
    size = "size as published" if weight.size_bytes else "size unknown"
    if recorded is None or path.name != weight.file:
        return Verdict("unverified", f"{size}, no checksum was published", path)
    if file_digest(path, "sha256") != recorded:
        return Verdict("bad", "it changed since it was fetched (SHA-256)", path)
    return Verdict("unverified", f"{size}, unchanged since it was fetched", path)


def mismatch(weight: WeightFile, path: Path) -> str:
    """What differs from the published size and checksum; empty when nothing does."""
    size = path.stat().st_size
    if weight.size_bytes is not None and size != weight.size_bytes:
        return f"it has {size} bytes instead of {weight.size_bytes}"
    if weight.checksum is not None:
        kind, _, wanted = weight.checksum.partition(":")
        if file_digest(path, kind) != wanted:
            return f"its {kind} checksum is wrong"
    return ""


def file_digest(path: Path, kind: str) -> str:
    """Hexadecimal digest (``md5`` or ``sha256``) of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def read_record(folder: Path) -> dict[str, dict[str, str]]:
    """File name -> sha256, url and verified; of files fetched into a folder."""
    try:
        content = json.loads((folder / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_record(folder: Path, entry: dict[str, dict[str, str]]) -> None:
    """Add to the record of fetched files; the file is replaced at once."""
    temporary = folder / f".{RECORD_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps({**read_record(folder), **entry}, indent=2) + "\n")
    temporary.replace(folder / RECORD_NAME)
