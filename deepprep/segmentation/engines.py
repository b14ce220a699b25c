"""The ladder of segmentation engines: which one, its weights, and why."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from deepprep.errors import InputError, MissingResourceError
from deepprep.nn.models import find_models_dir, find_weight_files, weights_of
from deepprep.segmentation.result import Engine

AUTO = "auto"


@dataclass(frozen=True)
class Rung:
    """One engine; imported only when it is looked at.

    Attributes
    ----------
    name : str
    where : str
        ``module:class``.
    what : str
        A few words for the reason.
    """

    name: str
    where: str
    what: str

    def load(self) -> Engine:
        """The engine itself."""
        module, _, name = self.where.partition(":")
        return cast(Engine, getattr(import_module(module), name)())


_FASTSURFER = "deepprep.segmentation.fastsurfer.engine"

ENGINES = (
    Rung("fastsurfer-vinn", f"{_FASTSURFER}:FastSurferVINN", "official weights of FastSurferVINN"),
    Rung("fastsurfer-v1", f"{_FASTSURFER}:FastSurferV1", "official weights of FastSurferCNN v1"),
    Rung("deepprep", "deepprep.segmentation.compact.engine:CompactEngine", "bundled weights"),
)
"""Engines in the order in which ``auto`` looks for their weights."""

CHOICES = (AUTO, "deepprep", "fastsurfer-vinn", "fastsurfer-v1")
"""Values of --seg-engine."""


class EngineChoice(NamedTuple):
    """An engine, the files of its weights, and a sentence that says why it was taken."""

    engine: Engine
    files: list[Path]
    reason: str


def make_engine(name: str) -> Engine:
    """The engine of a name that :func:`choose_engine` gave."""
    return next(rung for rung in ENGINES if rung.name == name).load()


def choose_engine(name: str = AUTO, models_dir: str | Path | None = None) -> EngineChoice:
    """Find an engine and its weights.

    Parameters
    ----------
    name : {'auto', 'deepprep', 'fastsurfer-vinn', 'fastsurfer-v1'}
        ``auto`` takes official weights when they are there (VINN before v1), else ours.
    models_dir : path, optional
        Folder of official weights; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    InputError
        When there is no engine of this name.
    MissingResourceError
        When the weights of the engine asked for are not there.
    """
    folder = find_models_dir(models_dir)
    if name == AUTO:
        return _first_with_weights(folder)
    rung = next((r for r in ENGINES if r.name == name), None)
    if rung is None:
        raise InputError(f"--seg-engine {name} is not known: choose one of {', '.join(CHOICES)}.")
    found = _weights(rung, folder)
    if found is None:
        raise MissingResourceError(_missing(rung, folder))
    return EngineChoice(*found, f"{rung.name}: asked for with --seg-engine.")


def _first_with_weights(folder: Path) -> EngineChoice:
    absent: list[str] = []
    for rung in ENGINES:
        found = _weights(rung, folder)
        if found is not None:
            without = f"; no weights of {' and '.join(absent)}" if absent else ""
            return EngineChoice(*found, f"{rung.name} (auto): {rung.what} are there{without}.")
        absent.append(rung.name)
    raise MissingResourceError(_missing(ENGINES[-1], folder))


def _weights(rung: Rung, folder: Path) -> tuple[Engine, list[Path]] | None:
    # Without official weights their engine, and with it torch, need not be imported.
    if weights_of(rung.name) and find_weight_files(rung.name, folder) is None:
        return None
    try:
        engine = rung.load()
    except ModuleNotFoundError as error:
        if error.name != rung.where.partition(":")[0]:
            raise
        return None
    files = engine.weight_files(folder)
    return None if files is None else (engine, files)


def _missing(rung: Rung, folder: Path) -> str:
    official = [w.file for w in weights_of(rung.name)]
    if not official:
        return (
            f"the weights of the engine {rung.name}, part of the package, are missing: install "
            "deepprep again."
        )
    return (
        f"--seg-engine {rung.name} needs {', '.join(official)}, which are not all in {folder}: "
        f"run 'deepprep models fetch {rung.name}', or give their folder with --models-dir."
    )
