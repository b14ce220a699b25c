"""Output spaces: fMRIPrep's ``--output-spaces`` language.

``<SPACE>[:cohort-X][:res-Y|res-native]``, repeated and combinatorial
(``MNIPediatricAsym:cohort-1:cohort-2:res-2``). ``res-2`` is a TemplateFlow index, not mm.
``res-native`` (and no ``res``) means the space of the template on a grid with the voxel size of
the BOLD run.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepprep.errors import InputError, NotAvailableError

BUNDLED_TEMPLATES = ("MNI152NLin2009cAsym", "MNI152NLin6Asym")
"""Templates in the package."""

ANAT_NAMES = ("T1w", "anat")
BOLD_NAMES = ("func", "bold", "run", "boldref", "sbref")
SURFACE_TEMPLATES = ("fsLR", "onavg")
FSAVERAGE = {"3k": "fsaverage4", "10k": "fsaverage5", "41k": "fsaverage6", "164k": "fsaverage"}
"""Density of fsaverage -> FreeSurfer's name of the mesh, which names its files."""
FSLR = ("32k", "164k")
"""Densities of fsLR, the first by default."""


@dataclass(frozen=True)
class OutputSpace:
    """One grid that BOLD runs are resampled to."""

    name: str
    """TemplateFlow's name, or ``T1w`` or ``boldref``."""
    cohort: str | None = None
    res: str | None = None
    """TemplateFlow's index as the user wrote it, ``"native"``, or ``None`` (same as native)."""
    den: str | None = None
    """Density of fsLR."""

    @property
    def surface(self) -> bool:
        """Whether it is a mesh: ``fsnative``, ``fsaverage...`` or ``fsLR``."""
        return self.name in ("fsnative", "fsLR", *FSAVERAGE.values())

    @property
    def standard(self) -> bool:
        """Whether it is the volume of a template."""
        return self.name not in ("T1w", "boldref") and not self.surface

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
        if self.den is not None:
            result["den"] = self.den
        if not self.native_res:
            result["res"] = str(self.res)
        return result

    def __str__(self) -> str:
        cohort = f":cohort-{self.cohort}" if self.cohort else ""
        if self.den:
            return f"{self.name}:den-{self.den}"
        return f"{self.name}{cohort}" + (f":res-{self.res}" if self.res else "")


def parse_spaces(specifications: Iterable[str]) -> tuple[OutputSpace, ...]:
    """Parse ``--output-spaces``; duplicates fall away, the order is kept.

    Raises
    ------
    InputError
        An unknown space (the known ones are listed), an unknown modifier, a missing cohort.
    NotAvailableError
        A mesh that is not in the package.
    """
    spaces: list[OutputSpace] = []
    for specification in specifications:
        for space in _parse_one(specification):
            if space not in spaces:
                spaces.append(space)
    return tuple(spaces)


def _parse_one(text: str) -> list[OutputSpace]:
    name, *modifiers = text.split(":")
    if name == "fsnative" or name.startswith("fsaverage") or name in SURFACE_TEMPLATES:
        return _parse_surface(name, modifiers, text)
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
    if name not in BUNDLED_TEMPLATES or chosen["cohort"]:
        _check_template(name, chosen["cohort"], text)
    cohorts: list[str | None] = [*chosen["cohort"]] or [None]
    resolutions: list[str | None] = [*chosen["res"]] or [None]
    return [OutputSpace(name, cohort, res) for cohort in cohorts for res in resolutions]


def _parse_surface(name: str, modifiers: Sequence[str], text: str) -> list[OutputSpace]:
    """Meshes: ``fsaverage:den-10k`` is fsaverage5, as in fMRIPrep."""
    densities = [m.removeprefix("den-") for m in modifiers if m.startswith("den-")]
    if len(densities) != len(modifiers):
        raise InputError(
            f"Output space '{text}' is a surface, so it takes only a density: write for example "
            "fsaverage:den-10k or fsLR:den-32k."
        )
    known: dict[str, OutputSpace] = {}
    if name == "fsLR":
        known = {d: OutputSpace(name, den=d) for d in FSLR}
        densities = densities or [FSLR[0]]
    elif name == "fsaverage":
        known = {d: OutputSpace(n) for d, n in FSAVERAGE.items()}
        densities = densities or ["164k"]
    elif not densities and (name == "fsnative" or name in FSAVERAGE.values()):
        return [OutputSpace(name)]
    if not known or not set(densities) <= set(known):
        names = [*FSAVERAGE.values(), *(f"fsLR:den-{d}" for d in FSLR)]
        raise NotAvailableError(
            f"Output space '{text}' is not a surface of this version: choose among fsnative, "
            f"{', '.join(names)}."
        )
    return [known[d] for d in densities]


def known_templates() -> dict[str, set[str]]:
    """Volume templates by name, each with its cohorts.

    Those in the package, in the user's TemplateFlow folder (``tpl-*``), and those that the
    installed ``templateflow`` lists. The list is read from its skeleton archive: importing
    TemplateFlow would index all its files first, which takes 10 s. The same names as niworkflows'
    ``SpatialReferences`` knows (tested).
    """
    known: dict[str, set[str]] = {name: set() for name in BUNDLED_TEMPLATES}

    def add(parts: Sequence[str]) -> None:
        if parts and parts[0].startswith("tpl-"):
            cohorts = known.setdefault(parts[0][4:], set())
            if len(parts) > 1 and parts[1].startswith("cohort-"):
                cohorts.add(parts[1][7:])

    home = os.environ.get("TEMPLATEFLOW_HOME")
    folder = Path(home) if home else Path.home() / ".cache" / "templateflow"
    for path in [*folder.glob("tpl-*/"), *folder.glob("tpl-*/cohort-*/")]:
        add(path.relative_to(folder).parts)
    spec = importlib.util.find_spec("templateflow")
    if spec is not None and spec.origin is not None:
        archive = Path(spec.origin).parent / "conf" / "templateflow-skel.zip"
        if archive.is_file():
            with zipfile.ZipFile(archive) as f:
                for name in f.namelist():
                    add(name.split("/"))
    return {name: known[name] for name in sorted(known) if name not in SURFACE_TEMPLATES}


def _check_template(name: str, cohorts: list[str], text: str) -> None:
    """Raise unless the template and its cohorts are known."""
    known = known_templates()
    if name not in known:
        close = difflib.get_close_matches(name, [*known, *ANAT_NAMES, *BOLD_NAMES], 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise InputError(
            f"Output space '{text}' is not known.{hint} Known: {', '.join(known)}, "
            "T1w and func; a template of your own goes to $TEMPLATEFLOW_HOME/tpl-NAME."
        )
    wrong = [c for c in cohorts if c not in known[name]]
    if not known[name] and cohorts:
        raise InputError(f"Output space '{text}': template {name} has no cohorts; remove it.")
    if wrong or (known[name] and not cohorts):
        what = f"has no cohort '{wrong[0]}'" if wrong else "needs a cohort"
        listed = ", ".join(f"{name}:cohort-{c}" for c in sorted(known[name], key=_number))
        raise InputError(f"Output space '{text}': template {name} {what}; write one of {listed}.")


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (0, text)
