"""Output spaces: fMRIPrep's ``--output-spaces`` language.

``<SPACE>[:cohort-X][:res-Y|res-native]``, repeated and combinatorial
(``MNIPediatricAsym:cohort-1:cohort-2:res-2``). ``res-2`` is a TemplateFlow index, not mm.
``res-native`` (and no ``res``) means the space of the template on a grid with the voxel size of
the BOLD run.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from deepprep.errors import InputError, NotAvailableError

BUNDLED_TEMPLATES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
"""Templates in the package: known without asking TemplateFlow, whose index takes seconds."""

ANAT_NAMES = ("T1w", "anat")
BOLD_NAMES = ("func", "bold", "run", "boldref", "sbref")
SURFACE_NAMES = ("fsnative", "fsaverage", "fsaverage3", "fsaverage4", "fsaverage5", "fsaverage6")
SURFACE_TEMPLATES = ("fsLR", "onavg")


@dataclass(frozen=True)
class OutputSpace:
    """One grid that BOLD runs are resampled to."""

    name: str
    """TemplateFlow's name, or ``T1w`` or ``boldref``."""
    cohort: str | None = None
    res: str | None = None
    """TemplateFlow's index as the user wrote it, ``"native"``, or ``None`` (same as native)."""

    @property
    def standard(self) -> bool:
        """Whether it is a template's space."""
        return self.name not in ("T1w", "boldref")

    @property
    def native_res(self) -> bool:
        """Whether the grid has the voxel size of the BOLD run."""
        return self.res in (None, "native")

    @property
    def template_id(self) -> str:
        """Name for a transform's file (``MNIPediatricAsym+1`` with a cohort), fMRIPrep's way."""
        return self.name if self.cohort is None else f"{self.name}+{self.cohort}"

    @property
    def entities(self) -> dict[str, str]:
        """Arguments for :func:`deepprep.bids.derivatives.derivative_path`; none for boldref."""
        if self.name == "boldref":
            return {}
        result = {"space": self.name}
        if self.cohort is not None:
            result["cohort"] = self.cohort
        if not self.native_res:
            result["res"] = str(self.res)
        return result

    def __str__(self) -> str:
        cohort = f":cohort-{self.cohort}" if self.cohort else ""
        return f"{self.name}{cohort}" + (f":res-{self.res}" if self.res else "")


def parse_spaces(specifications: Iterable[str]) -> tuple[OutputSpace, ...]:
    """Parse ``--output-spaces``; duplicates fall away, the order is kept.

    Raises
    ------
    InputError
        An unknown space (the known ones are listed), an unknown modifier, a missing cohort.
    NotAvailableError
        A surface space.
    """
    spaces: list[OutputSpace] = []
    for specification in specifications:
        for space in _parse_one(specification):
            if space not in spaces:
                spaces.append(space)
    return tuple(spaces)


def _parse_one(text: str) -> list[OutputSpace]:
    name, *modifiers = text.split(":")
    if name in SURFACE_NAMES or name in SURFACE_TEMPLATES:
        raise NotAvailableError(
            f"Output space '{text}' is on the surface, which is not available yet in this version: "
            "ask for volumes such as MNI152NLin2009cAsym:res-2 or T1w."
        )
    chosen: dict[str, list[str]] = {"cohort": [], "res": []}
    for modifier in modifiers:
        key, _, value = modifier.partition("-")
        if key == "den":
            raise InputError(f"Output space '{text}' is a volume, so it takes no 'den': remove it.")
        if key not in chosen or not value:
            raise InputError(
                f"Output space '{text}' has the unknown part '{modifier}': "
                "write it as NAME:res-2, NAME:res-native or NAME:cohort-1:res-2."
            )
        chosen[key].append(value)
    if name in ANAT_NAMES or name in BOLD_NAMES:
        if modifiers and chosen["res"] != ["native"]:
            raise InputError(
                f"Output space '{text}' cannot be given a resolution: write '{name}' "
                "(it has the voxel size of the BOLD run)."
            )
        return [OutputSpace("T1w" if name in ANAT_NAMES else "boldref")]
    if name not in BUNDLED_TEMPLATES:
        _check_with_templateflow(name, chosen["cohort"], text)
    elif chosen["cohort"]:
        raise InputError(f"Output space '{text}': template {name} has no cohorts; remove it.")
    cohorts: list[str | None] = [*chosen["cohort"]] or [None]
    resolutions: list[str | None] = [*chosen["res"]] or [None]
    return [OutputSpace(name, cohort, res) for cohort in cohorts for res in resolutions]


def _check_with_templateflow(name: str, cohorts: list[str], text: str) -> None:
    """Raise unless niworkflows accepts the name (and every cohort) as a standard space."""
    from niworkflows.utils.spaces import Reference

    known = sorted(
        {*Reference._standard_spaces, *BUNDLED_TEMPLATES}
        - {*SURFACE_TEMPLATES, *Reference._spaces_2d}
    )
    if name not in Reference._standard_spaces:
        close = difflib.get_close_matches(name, [*known, *ANAT_NAMES, *BOLD_NAMES], 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(
            f"Output space '{text}' is not known.{hint} Known: {', '.join(known)}, "
            "T1w and func; a template of your own goes to $TEMPLATEFLOW_HOME/tpl-NAME."
        )
    try:
        for spec in [{"cohort": cohort} for cohort in cohorts] or [{}]:
            Reference(name, spec)
    except ValueError as error:
        sentence = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"Output space '{text}': {sentence}; write it as {name}:cohort-N."
        ) from error
