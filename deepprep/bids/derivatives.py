"""Names and side files of derivatives: exactly fMRIPrep's (features.md B3).

``tests/bids/test_derivatives.py`` compares every kind of name with what pybids builds from
niworkflows' patterns, which are the ones that fMRIPrep writes with.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepprep._version import __version__
from deepprep.bids.records import Entities, Image

NAME_ORDER = (
    *("sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "part"),
    *("hemi", "space", "cohort", "seg", "res", "den", "fmapid", "label", "from", "to", "mode"),
    "desc",
)
"""Order of the entities in a file name; the one order that agrees with all of fMRIPrep's names."""

SOURCE_ENTITIES = NAME_ORDER[:10]
"""Entities that a derivative takes from its source image."""

BIDSIGNORE = (
    "*.html",
    "logs/",
    "figures/",
    "*_xfm.*",
    "*.surf.gii",
    "*_boldref.nii.gz",
    "*_uncertainty.nii.gz",
    "*_uncertainty.json",
    "*_bold.func.gii",
    "*_mixing.tsv",
    "*_timeseries.tsv",
    "*_desc-qc_metrics.tsv",
    "*_morph.tsv",
)
"""What the BIDS validator does not know yet, as fMRIPrep lists it."""

_VALUE = re.compile(r"^[a-zA-Z0-9+]+$")


def derivative_path(
    out_dir: str | os.PathLike,
    source_entities: Mapping[str, str] | Image,
    *,
    suffix: str,
    extension: str = ".nii.gz",
    datatype: str | None = None,
    space: str | None = None,
    cohort: str | None = None,
    seg: str | None = None,
    res: str | None = None,
    den: str | None = None,
    desc: str | None = None,
    label: str | None = None,
    hemi: str | None = None,
    from_: str | None = None,
    to: str | None = None,
    mode: str | None = None,
    fmapid: str | None = None,
    dismiss: Sequence[str] = (),
) -> Path:
    """Path of a derivative.

    Parameters
    ----------
    out_dir : path-like
        Root of the derivatives.
    source_entities : mapping or Image
        Entities of the source image by short key (``sub``, ``ses``, ``task``...).
    suffix, extension : str
        Such as ``bold`` and ``.nii.gz``.
    datatype : str, optional
        Folder: ``anat``, ``func``, ``fmap`` or ``figures``; that of the source by default.
        Figures lie in ``sub-X/figures`` with no session folder, as fMRIPrep's do.
    space, cohort, seg, res, den, desc, label, hemi, from_, to, mode, fmapid : str, optional
        Entities of the derivative. ``res="native"`` writes no ``res``, as fMRIPrep does.
    dismiss : sequence of str
        Entities of the source to leave out (such as ``echo`` after echoes were combined).

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        No ``sub``, or a value with a character that BIDS does not allow.

    Examples
    --------
    >>> derivative_path("/out", {"sub": "01", "task": "rest", "datatype": "func"},
    ...                 suffix="bold", space="MNI152NLin2009cAsym", res="2",
    ...                 desc="preproc").as_posix()
    '/out/sub-01/func/sub-01_task-rest_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz'
    """
    source = source_entities.entities if isinstance(source_entities, Image) else source_entities
    if not source.get("sub"):
        raise ValueError("source_entities has no 'sub'")
    values: dict[str, str | None] = {
        key: source.get(key) for key in SOURCE_ENTITIES if key not in dismiss
    }
    values |= {
        "space": space,
        "cohort": cohort,
        "seg": seg,
        "res": None if res == "native" else res,
        "den": den,
        "desc": desc,
        "label": label,
        "hemi": hemi,
        "from": from_,
        "to": to,
        "mode": mode,
        "fmapid": fmapid,
    }
    parts = []
    for key in NAME_ORDER:
        value = values.get(key)
        if value is None or value == "":
            continue
        if not _VALUE.match(str(value)):
            raise ValueError(f"{key}-{value} is not allowed in a BIDS file name")
        parts.append(f"{key}-{value}")
    folder = Path(out_dir) / f"sub-{source['sub']}"
    datatype = datatype or source.get("datatype") or "anat"
    session = values.get("ses")
    if session and datatype != "figures":
        folder /= f"ses-{session}"
    return folder / datatype / ("_".join([*parts, suffix]) + extension)


def anatomical_entities(t1w: Sequence[Image], session: str | None = None) -> Entities:
    """Entities that the anatomical derivatives of a participant are named with.

    One T1w gives its own entities (also its session, as in fMRIPrep); an average of several is
    named by the participant alone, or by the ``session`` of a session-wise reference.
    """
    if not t1w:
        raise ValueError("no T1w image")
    if len(t1w) == 1:
        return {k: v for k, v in t1w[0].entities.items() if k not in ("suffix", "extension")}
    entities = {"sub": t1w[0].entities["sub"]}
    if session:
        entities["ses"] = session
    return {**entities, "datatype": "anat"}


def write_sidecar(image_path: str | os.PathLike, metadata: Mapping[str, Any]) -> Path:
    """Write the JSON beside an image or table, atomically, keys sorted; return its path."""
    image_path = Path(image_path)
    name = re.sub(r"(\.nii\.gz|\.[a-zA-Z]+\.(gii|nii)|\.[a-zA-Z0-9]+)$", "", image_path.name)
    path = image_path.with_name(name + ".json")
    write_text(path, json.dumps(dict(metadata), indent=2, sort_keys=True, default=_plain) + "\n")
    return path


def write_dataset_description(
    out_dir: str | os.PathLike,
    bids_dir: str | os.PathLike,
    *,
    templateflow_home: str | os.PathLike | None = None,
) -> Path:
    """Write ``dataset_description.json`` and ``.bidsignore`` of the derivatives.

    GeneratedBy names this program; DatasetLinks say where ``bids:raw:`` (and
    ``bids:templateflow:``) point; the licence and the DOI of the source set are carried on.
    """
    out_dir, bids_dir = Path(out_dir), Path(bids_dir)
    source: dict[str, Any] = {}
    try:
        source = json.loads((bids_dir / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        source = {}
    description: dict[str, Any] = {
        "Name": "DeepPrep: brain MRI preprocessing",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "DeepPrep", "Version": __version__}],
        "HowToAcknowledge": "Please cite the references in logs/CITATION.html.",
        "DatasetLinks": {"raw": bids_dir.resolve().as_uri()},
    }
    if templateflow_home is not None:
        description["DatasetLinks"]["templateflow"] = Path(templateflow_home).resolve().as_uri()
    if source.get("License"):
        description["License"] = source["License"]
    if source.get("DatasetDOI"):
        description["SourceDatasets"] = [{"DOI": source["DatasetDOI"]}]
    path = out_dir / "dataset_description.json"
    write_text(path, json.dumps(description, indent=4, ensure_ascii=False) + "\n")
    write_text(out_dir / ".bidsignore", "\n".join(BIDSIGNORE) + "\n")
    return path


def bids_uri(path: str | os.PathLike, bids_dir: str | os.PathLike) -> str:
    """``bids:raw:sub-01/...`` of an input file, for ``Sources`` in a sidecar."""
    return "bids:raw:" + Path(path).relative_to(bids_dir).as_posix()


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write a text file atomically (temporary name in the same folder, then rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as plain JSON values."""
    for name in ("tolist", "item"):
        if hasattr(value, name):
            return getattr(value, name)()
    return str(value)
