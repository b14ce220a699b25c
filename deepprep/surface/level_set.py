"""The ladder of engines that give the level set of the white surface (``--csr-engine``)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepprep.errors import InputError, MissingResourceError
from deepprep.image.volume import Volume
from deepprep.nn.models import find_models_dir
from deepprep.surface.filled import SIDES, fill_hemisphere
from deepprep.surface.white_level import white_level

AUTO, FASTCSR, SEGMENTATION = "auto", "fastcsr", "segmentation"

CHOICES = (AUTO, FASTCSR, SEGMENTATION)
"""Values of --csr-engine."""

FASTCSR_FILES = {"left": "lh_model.pth", "right": "rh_model.pth"}
"""Official weights. Free for academic research alone, so never fetched or shipped by us."""


class LevelEngineChoice(NamedTuple):
    """An engine, its files of weights by side, and a sentence that says why it was taken."""

    name: str
    files: dict[str, Path]
    reason: str


def choose_level_engine(
    name: str = AUTO, models_dir: str | Path | None = None
) -> LevelEngineChoice:
    """Find an engine and its weights.

    Parameters
    ----------
    name : {'auto', 'fastcsr', 'segmentation'}
        ``auto`` takes the segmentation's level set: the accuracy of FastCSR's official weights
        could not be measured by us.
    models_dir : path, optional
        Folder of official weights; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    InputError
        When there is no engine of this name.
    MissingResourceError
        When FastCSR is asked for and its weights are not there.
    """
    if name == AUTO:
        return LevelEngineChoice(
            SEGMENTATION, {}, "segmentation (auto): level set from labels and intensities."
        )
    if name == SEGMENTATION:
        return LevelEngineChoice(SEGMENTATION, {}, "segmentation: asked for with --csr-engine.")
    if name != FASTCSR:
        raise InputError(f"--csr-engine {name} is not known: choose one of {', '.join(CHOICES)}.")
    folder = find_models_dir(models_dir)
    files = {side: _find(folder, file) for side, file in FASTCSR_FILES.items()}
    found = {side: path for side, path in files.items() if path is not None}
    if len(found) < len(files):
        raise MissingResourceError(
            f"--csr-engine fastcsr needs {' and '.join(FASTCSR_FILES.values())}, which are not "
            f"both in {folder}: give their folder with --models-dir, or use --csr-engine "
            "segmentation."
        )
    return LevelEngineChoice(FASTCSR, found, "fastcsr: asked for with --csr-engine.")


def white_levels(
    choice: LevelEngineChoice,
    labels: Volume,
    image: Volume | None = None,
    white: np.ndarray | None = None,
    *,
    head: Volume | None = None,
    device: str = "cpu",
) -> dict[str, Volume]:
    """Level set of the white surface of each hemisphere.

    Parameters
    ----------
    choice : LevelEngineChoice
    labels : Volume
        (X, Y, Z) FreeSurfer numbers.
    image : Volume, optional
        Bias-corrected T1w on the same lattice.
    white : (X, Y, Z) array, optional
        Posterior of white matter; the segmentation's engine uses it.
    head : Volume, optional
        Whole head, for FastCSR; default ``image``.
    device : str
        Torch device, for FastCSR.

    Returns
    -------
    dict of {'left', 'right'} to Volume
        float32, mm, negative inside.
    """
    if choice.name == SEGMENTATION:
        return {
            side: white_level(fill_hemisphere(labels, side), labels, side, image, white)
            for side in SIDES
        }
    from deepprep.surface.fastcsr.checkpoint import load_checkpoint
    from deepprep.surface.fastcsr.inference import fastcsr_levels

    whole = head if head is not None else image
    if whole is None:
        raise ValueError("FastCSR needs the T1w, not labels alone")
    nets = {side: load_checkpoint(path) for side, path in choice.files.items()}
    # eight mirrored passes take minutes on a GPU and most of an hour on a CPU
    return fastcsr_levels(nets, whole, labels, device=device, mirror=device != "cpu")


def _find(folder: Path, file: str) -> Path | None:
    if (folder / file).is_file():
        return folder / file
    return next(iter(sorted(folder.rglob(file))), None) if folder.is_dir() else None
