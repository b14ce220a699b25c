"""Engines of the normalisation: which one, its weights, and why.

``refine`` is the registration of this package. ``synthmorph`` is a network alone: the pair of
official ones, whose weights a user fetches, or else our own small one after the affine registration
of this package. ``synthmorph+refine`` starts the refinement from what it gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deepprep.errors import InputError, MissingResourceError
from deepprep.nn.models import find_models_dir, find_weight_files, weights_of

AUTO, REFINE, SYNTHMORPH, BOTH = "auto", "refine", "synthmorph", "synthmorph+refine"

CHOICES = (AUTO, REFINE, SYNTHMORPH, BOTH)
"""Values of --norm-engine."""

COMPACT_FILE = Path(__file__).parents[1] / "data" / "weights" / "deformation.safetensors"
"""Weights of our own network."""

AUTO_REASON = (
    "refine (auto): more accurate on real heads than our network alone, as fast and accurate as from "
    "its start, and it needs no weights; networks are used only when asked for."
)


class NormalisationChoice(NamedTuple):
    """An engine, the files of its weights, and why it was taken.

    Two files are the official networks (affine, deformation), one is our own deformation network.
    """

    name: str
    files: tuple[Path, ...]
    reason: str


def choose_normalisation(
    name: str = AUTO, models_dir: str | Path | None = None
) -> NormalisationChoice:
    """Find an engine and its weights.

    Parameters
    ----------
    name : {'auto', 'refine', 'synthmorph', 'synthmorph+refine'}
    models_dir : path, optional
        Folder of official weights; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    InputError
        When there is no engine of this name.
    MissingResourceError
        When a network is asked for and no weights are there.
    """
    if name not in CHOICES:
        raise InputError(f"--norm-engine {name} is not known: choose one of {', '.join(CHOICES)}.")
    if name == AUTO:
        return NormalisationChoice(REFINE, (), AUTO_REASON)
    reason = f"{name}: asked for with --norm-engine."
    if name == REFINE:
        return NormalisationChoice(name, (), reason)
    folder = find_models_dir(models_dir)
    files = find_weight_files(SYNTHMORPH, folder)
    if files is not None:
        return NormalisationChoice(name, tuple(files), f"{reason} Official weights.")
    official = " and ".join(w.file for w in weights_of(SYNTHMORPH))
    if not COMPACT_FILE.is_file():
        raise MissingResourceError(
            f"--norm-engine {name} needs {official}, which are not both in {folder}: run "
            "'deepprep models fetch synthmorph', give their folder with --models-dir, or use "
            "--norm-engine refine."
        )
    reason += f" Our own small network, since {official} are not both in the models folder."
    if name == SYNTHMORPH:
        reason += " Alone it is less accurate than refine."
    return NormalisationChoice(name, (COMPACT_FILE,), reason)
