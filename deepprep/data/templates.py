"""Template images by name and resolution: bundled ones first, then the user's TemplateFlow.

Nothing is ever fetched: a template that is not on disk is an error that says which file to
put where.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deepprep.errors import MissingResourceError

BUNDLED = Path(__file__).parent / "templates"
"""TemplateFlow-shaped folder that ships with the package."""

_SUFFIXES = {
    "t1w": "_T1w.nii.gz",
    "brain": "_desc-brain_T1w.nii.gz",
    "mask": "_desc-brain_mask.nii.gz",
    "dseg": "_dseg.nii.gz",
    "aseg": "_desc-aseg_dseg.nii.gz",
    "gm": "_label-GM_probseg.nii.gz",
    "wm": "_label-WM_probseg.nii.gz",
    "csf": "_label-CSF_probseg.nii.gz",
}


@dataclass(frozen=True)
class TemplateFiles:
    """Files of one template at one resolution; what a template does not have is ``None``.

    Parameters
    ----------
    name : str
        TemplateFlow identifier, such as ``MNI152NLin2009cAsym``.
    resolution : str or None
        TemplateFlow's ``res`` index, such as ``01``; None for templates without one.
    cohort : str or None
        TemplateFlow's ``cohort``.
    t1w, brain : Path or None
        T1w with the skull; T1w of the brain alone. At least one is there.
    mask : Path or None
        Brain mask.
    dseg : Path or None
        Tissue labels: 1 grey matter, 2 white matter, 3 CSF.
    aseg : Path or None
        Brain structures in FreeSurfer's numbering, by our own segmentation network.
    gm, wm, csf : Path or None
        Tissue probabilities, 0 to 1.
    """

    name: str
    resolution: str | None
    cohort: str | None
    t1w: Path | None
    brain: Path | None
    mask: Path | None
    dseg: Path | None
    aseg: Path | None
    gm: Path | None
    wm: Path | None
    csf: Path | None

    @property
    def reference(self) -> Path:
        """The image that defines the lattice of this resolution."""
        found = self.t1w or self.brain
        assert found is not None  # checked when the object was made
        return found


def template_files(
    name: str, resolution: int | str | None = 1, cohort: int | str | None = None
) -> TemplateFiles:
    """Find a template on disk.

    Parameters
    ----------
    name : str
        TemplateFlow identifier.
    resolution : int, str or None
        TemplateFlow's ``res`` index (1 and '01' are the same); None for the first there is.
    cohort : int, str or None
        TemplateFlow's ``cohort``, for templates that have several.

    Returns
    -------
    TemplateFiles

    Raises
    ------
    MissingResourceError
        When neither the bundled folder nor ``$TEMPLATEFLOW_HOME`` holds the T1w image.
    """
    res = _index(resolution)
    coh = None if cohort is None else str(cohort)
    for root in template_roots():
        folder = root / f"tpl-{name}"
        if not folder.is_dir():
            continue
        if coh is not None and (folder / f"cohort-{coh}").is_dir():
            folder = folder / f"cohort-{coh}"
        use = res if resolution is not None else _first_resolution(folder, name, coh)
        found = {key: _present(folder, name, coh, use, end) for key, end in _SUFFIXES.items()}
        if found["t1w"] or found["brain"]:
            return TemplateFiles(name, use, coh, **found)
    raise MissingResourceError(_missing_sentence(name, res, coh))


def template_roots() -> list[Path]:
    """Folders searched, in order: bundled, ``$TEMPLATEFLOW_HOME``, ``~/.cache/templateflow``."""
    roots = [BUNDLED]
    home = os.environ.get("TEMPLATEFLOW_HOME")
    roots.append(Path(home) if home else Path.home() / ".cache" / "templateflow")
    return roots


def bundled_templates() -> dict[str, list[str]]:
    """Template names that ship with the package, each with its resolutions."""
    return {
        folder.name.removeprefix("tpl-"): sorted(
            {m.group(1) for f in folder.iterdir() if (m := re.search(r"_res-(\w+?)_", f.name))}
        )
        for folder in sorted(BUNDLED.glob("tpl-*"))
    }


@cache
def describe_template(name: str) -> dict:
    """``template_description.json`` of a template, or an empty dictionary."""
    for root in template_roots():
        path = root / f"tpl-{name}" / "template_description.json"
        if path.is_file() and path.stat().st_size:
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _index(resolution: int | str | None) -> str | None:
    """``1``, ``'1'``, ``'01'`` and ``'res-01'`` to ``'01'``."""
    if resolution is None:
        return None
    text = str(resolution).removeprefix("res-")
    return f"{int(text):02d}" if text.isdigit() else text


def _stem(name: str, cohort: str | None, res: str | None) -> str:
    return (
        f"tpl-{name}"
        + (f"_cohort-{cohort}" if cohort is not None else "")
        + (f"_res-{res}" if res is not None else "")
    )


def _present(
    folder: Path, name: str, cohort: str | None, res: str | None, ending: str
) -> Path | None:
    # TemplateFlow writes res-1 in a few templates and res-01 in most.
    for index in dict.fromkeys((res, res.lstrip("0") if res else res)):
        path = folder / (_stem(name, cohort, index) + ending)
        # TemplateFlow's skeleton holds empty stubs in place of images not fetched yet.
        if path.is_file() and path.stat().st_size > 0:
            return path
    return None


def _first_resolution(folder: Path, name: str, cohort: str | None) -> str | None:
    names = sorted(f.name for f in folder.glob(f"{_stem(name, cohort, None)}*_T1w.nii.gz"))
    for file in names:
        match = re.search(r"_res-(\w+?)_", file)
        if match and (folder / file).stat().st_size > 0:
            return _index(match.group(1))
    return None


def _missing_sentence(name: str, res: str | None, cohort: str | None) -> str:
    # The last root is the user's own; the bundled folder belongs to the installation.
    folder = template_roots()[-1] / f"tpl-{name}"
    if cohort is not None:
        folder = folder / f"cohort-{cohort}"
    stem = _stem(name, cohort, res)
    have = "; ".join(f"{k} (res {', '.join(v)})" for k, v in bundled_templates().items())
    return (
        f"The template {name}"
        + (f" at resolution {res}" if res is not None else "")
        + (f", cohort {cohort}," if cohort is not None else "")
        + f" is not on this machine: get {stem}_T1w.nii.gz and {stem}_desc-brain_mask.nii.gz"
        f" from TemplateFlow and put them in {folder}, or use one that is bundled: {have}."
    )
