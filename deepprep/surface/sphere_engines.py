"""The ladder of engines that register hemispheres to fsaverage (``--sphere-engine``)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from deepprep.errors import InputError, MissingResourceError
from deepprep.nn.models import find_file, find_models_dir

AUTO, SUGAR, REFINE = "auto", "sugar", "refine"

CHOICES = (AUTO, SUGAR, REFINE)
"""Values of --sphere-engine."""

HEMISPHERES = ("lh", "rh")
LEVELS = (3, 4, 5, 6)
"""Of the spheres whose vertices SUGAR's networks move."""
RIGID = "rigid"


class SphereEngineChoice(NamedTuple):
    """An engine, its weights by hemisphere and network, and why it was taken, in a sentence."""

    name: str
    files: dict[str, dict[str, str]]
    reason: str


def weight_names(hemi: str) -> dict[str, str]:
    """Published file of each network (``rigid``, ``3`` to ``6``) of a hemisphere (lh or rh)."""
    names = {RIGID: f"{hemi}_Rigid_904_fsaverage6.model"}
    for level in LEVELS:
        names[str(level)] = f"{hemi}_NoRigid_904_fsaverage{level}.model"
    return names


def choose_sphere_engine(
    name: str = AUTO, models_dir: str | Path | None = None
) -> SphereEngineChoice:
    """Find an engine and its weights.

    Parameters
    ----------
    name : {'auto', 'sugar', 'refine'}
        ``auto`` fits the folding of the participant to the average: the accuracy of SUGAR's
        official weights could not be measured by us.
    models_dir : path, optional
        Folder of official weights; see :func:`deepprep.nn.models.find_models_dir`.

    Raises
    ------
    InputError
        When there is no engine of this name.
    MissingResourceError
        When SUGAR is asked for and its weights are not all there.
    """
    if name == AUTO:
        return SphereEngineChoice(REFINE, {}, "Registration: fit to the average folding (auto).")
    if name == REFINE:
        return SphereEngineChoice(
            REFINE, {}, "Registration: fit to the average folding (--sphere-engine refine)."
        )
    if name != SUGAR:
        raise InputError(
            f"--sphere-engine {name} is not known: choose one of {', '.join(CHOICES)}."
        )
    folder = find_models_dir(models_dir)
    files: dict[str, dict[str, str]] = {}
    for hemi in HEMISPHERES:
        found = {key: find_file(folder, file) for key, file in weight_names(hemi).items()}
        missing = [weight_names(hemi)[key] for key, path in found.items() if path is None]
        if missing:
            raise MissingResourceError(
                f"--sphere-engine sugar needs {missing[0]}, which is not in {folder}: give the "
                "folder of SUGAR's ten files with --models-dir, or use --sphere-engine refine."
            )
        files[hemi] = {key: str(path) for key, path in found.items()}
    return SphereEngineChoice(
        SUGAR, files, "Registration: SUGAR's official networks (--sphere-engine sugar)."
    )
