"""The ladder of engines that give the level set of the white surface (``--csr-engine``)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deepprep.errors import InputError, MissingResourceError
from deepprep.image.conform import to_ras
from deepprep.image.volume import Volume
from deepprep.nn.models import find_file, find_models_dir
from deepprep.surface.filled import fill_hemisphere
from deepprep.surface.white_level import white_level

AUTO, FASTCSR, SEGMENTATION, COMPACT = "auto", "fastcsr", "segmentation", "compact"

CHOICES = (AUTO, FASTCSR, SEGMENTATION, COMPACT)
"""Values of --csr-engine."""

FASTCSR_FILES = {"left": "lh_model.pth", "right": "rh_model.pth"}
"""Official weights. Free for academic research alone, so never fetched or shipped by us."""

COMPACT_FILE = Path(__file__).parents[1] / "data" / "weights" / "level_set.safetensors"
"""Weights of our own network, one for both sides."""


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
    name : {'auto', 'fastcsr', 'segmentation', 'compact'}
        ``auto`` takes our own network: on real heads its first surface is nearer to the white
        matter's border than the segmentation's and needs few corrections of topology
        (benchmarks/results/surface_level_engines.md). The accuracy of FastCSR's official weights
        could not be measured by us.
    models_dir : path, optional
        Folder of official weights; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    InputError
        When there is no engine of this name.
    MissingResourceError
        When a network is asked for and its weights are not there.
    """
    if name == AUTO and not COMPACT_FILE.is_file():
        return LevelEngineChoice(
            SEGMENTATION, {}, "segmentation (auto): the weights of our network are not installed."
        )
    if name == SEGMENTATION:
        return LevelEngineChoice(SEGMENTATION, {}, "segmentation: asked for with --csr-engine.")
    if name in (AUTO, COMPACT):
        if not COMPACT_FILE.is_file():
            raise MissingResourceError(
                f"--csr-engine compact needs {COMPACT_FILE.name}, which this version of the package "
                "does not hold: use --csr-engine segmentation."
            )
        both = dict.fromkeys(FASTCSR_FILES, COMPACT_FILE)
        why = "auto" if name == AUTO else "--csr-engine compact"
        return LevelEngineChoice(COMPACT, both, f"compact ({why}): level set by our own network.")
    if name != FASTCSR:
        raise InputError(f"--csr-engine {name} is not known: choose one of {', '.join(CHOICES)}.")
    folder = find_models_dir(models_dir)
    files = {side: find_file(folder, file) for side, file in FASTCSR_FILES.items()}
    found = {side: path for side, path in files.items() if path is not None}
    if len(found) < len(files):
        raise MissingResourceError(
            f"--csr-engine fastcsr needs {' and '.join(FASTCSR_FILES.values())}, which are not "
            f"both in {folder}: give their folder with --models-dir, or use --csr-engine "
            "segmentation."
        )
    return LevelEngineChoice(FASTCSR, found, "fastcsr: asked for with --csr-engine.")


def engine_level(
    engine: str,
    weights: str | Path | None,
    side: str,
    labels: Volume,
    image: Volume,
    *,
    device: str = "cpu",
) -> Volume:
    """Level set of the white surface of a hemisphere by one of the engines.

    Parameters
    ----------
    engine : {'fastcsr', 'segmentation', 'compact'}
    weights : path or None
        Of this side, from :func:`choose_level_engine`; the segmentation has none.
    side : {'left', 'right'}
    labels : Volume
        (X, Y, Z) FreeSurfer numbers, any orientation.
    image : Volume
        Bias-corrected T1w of the whole head on the same lattice.
    device : str
        Torch device, for networks.

    Returns
    -------
    Volume
        float32, mm, negative inside, isotropic.

    Raises
    ------
    ValueError
        If the engine is none of these or lacks its weights, or the weights are not its own.
    """
    if engine == SEGMENTATION:
        return white_level(fill_hemisphere(labels, side), labels, side, image)
    if weights is None or engine not in (FASTCSR, COMPACT):
        raise ValueError(f"there is no engine {engine} with weights {weights}")
    if engine == COMPACT:
        from deepprep.surface.fastcsr.compact import compact_level, load_compact

        net = load_compact(weights)
        return compact_level(net, to_ras(labels), to_ras(image), side, device)
    from deepprep.surface.fastcsr.checkpoint import load_checkpoint
    from deepprep.surface.fastcsr.inference import fastcsr_levels

    # eight mirrored passes take minutes on a GPU and most of an hour on a CPU
    mirror = device != "cpu"
    nets = {side: load_checkpoint(weights)}
    return fastcsr_levels(nets, image, labels, device=device, mirror=mirror)[side]
