"""The ladder of segmentation engines, as data."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from deepprep.errors import MissingResourceError
from deepprep.segmentation.result import Engine

ENGINES: dict[str, str] = {"deepprep": "deepprep.segmentation.compact.engine:CompactEngine"}
"""Name of ``--seg-engine`` -> class; ``auto`` takes the first whose weights are there."""


def make_engine(name: str) -> Engine:
    """The engine of a name."""
    module, _, attribute = ENGINES[name].partition(":")
    return getattr(import_module(module), attribute)()


def choose_engine(name: str, models_dir: Path | None = None) -> tuple[Engine, list[Path], str]:
    """Engine, files of its weights, and the reason of the choice."""
    for candidate in ENGINES if name == "auto" else [name]:
        engine = make_engine(candidate)
        files = engine.weight_files(models_dir)
        if files:
            return engine, files, "embedded network"
    raise MissingResourceError(f"--seg-engine {name}: its weights are not on this machine.")
