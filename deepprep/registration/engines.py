"""Engines of the normalisation: which one, its weights, and why.

``refine`` is the registration of this package. ``synthmorph`` is the pair of official networks,
whose weights a user fetches; ``synthmorph+refine`` starts the refinement from what they give.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deepprep.errors import InputError, MissingResourceError
from deepprep.nn.models import find_models_dir, find_weight_files, weights_of

AUTO, REFINE, SYNTHMORPH, BOTH = "auto", "refine", "synthmorph", "synthmorph+refine"

CHOICES = (AUTO, REFINE, SYNTHMORPH, BOTH)
"""Values of --norm-engine."""

AUTO_REASON = (
    "refine (auto): it needs no weights and was compared with ANTs; the networks of SynthMorph are "
    "used only when asked for."
)


class NormalisationChoice(NamedTuple):
    """An engine, the files of its weights (affine, deformation), and why it was taken."""

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
        When the weights of the engine asked for are not there.
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
    if files is None:
        official = " and ".join(w.file for w in weights_of(SYNTHMORPH))
        raise MissingResourceError(
            f"--norm-engine {name} needs {official}, which are not both in {folder}: run "
            "'deepprep models fetch synthmorph', give their folder with --models-dir, or use "
            "--norm-engine refine."
        )
    return NormalisationChoice(name, tuple(files), reason)
