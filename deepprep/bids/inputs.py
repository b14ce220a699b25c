"""From a BIDS data set to plain records, through pybids."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deepprep.bids.fieldmaps import FoundFieldmaps, choose_fieldmap, find_fieldmaps
from deepprep.bids.index import chosen_participants, make_layout
from deepprep.bids.lesions import is_lesion
from deepprep.bids.problems import Problem
from deepprep.bids.records import (
    Entities,
    FieldmapChoice,
    Image,
    RejectedFieldmap,
    Run,
    SliceTiming,
    SubjectInputs,
)
from deepprep.bids.slice_timing import decide_slice_timing
from deepprep.config import Settings
from deepprep.errors import InputError

__all__ = [
    "Entities",
    "FieldmapChoice",
    "Image",
    "Problem",
    "RejectedFieldmap",
    "Run",
    "SliceTiming",
    "SubjectInputs",
    "collect",
    "entities_of",
]

QUERIES: dict[str, dict[str, Any]] = {
    "t1w": {"datatype": "anat", "suffix": "T1w", "part": ["mag", None]},
    "t2w": {"datatype": "anat", "suffix": "T2w", "part": ["mag", None]},
    "flair": {"datatype": "anat", "suffix": "FLAIR", "part": ["mag", None]},
    "bold": {"datatype": "func", "suffix": "bold", "part": ["mag", None]},
    "sbref": {"datatype": "func", "suffix": "sbref", "part": ["mag", None]},
    "fmap": {"datatype": "fmap"},
    "roi": {"datatype": "anat", "suffix": "roi"},
}
"""What each kind of image is in a BIDS data set; ``--bids-filter-file`` refines these."""

FILTER_KINDS = tuple(QUERIES)


def collect(settings: Settings) -> list[SubjectInputs]:
    """Find the images of every chosen participant, their metadata, and what is decided from them.

    Nothing is judged here: broken files are in the result too (with an empty ``shape``), and
    :mod:`deepprep.bids.checks` says which of them cannot be processed.

    Raises
    ------
    InputError
        No participant, an unknown participant label, or a bad ``--bids-filter-file``.
    """
    labels = chosen_participants(settings)
    filters = read_filters(settings.bids_filter_file)
    layout = make_layout(settings, labels)
    _check_labels("--session-label", settings.session_label, layout.get_sessions)
    if not settings.anat_only:
        _check_labels("--task-id", settings.task_id, layout.get_tasks)
    # One query for each kind of image, not for each participant: a query takes 20 ms or more.
    found = {kind: _find(layout, kind, labels, filters, settings) for kind in QUERIES}
    result: list[SubjectInputs] = []
    for label in labels:
        images = {kind: by_label.get(label, []) for kind, by_label in found.items()}
        result += _subject(layout, label, images, filters.get("fmap"), settings)
    return result if settings.lesion_mask is None else [_given_lesion(result, settings)]


def _given_lesion(subjects: list[SubjectInputs], settings: Settings) -> SubjectInputs:
    """The one participant, with the mask of ``--lesion-mask`` instead of those of the data set."""
    path = settings.lesion_mask
    assert path is not None
    if len(subjects) != 1:
        names = ", ".join(s.name for s in subjects[:3]) + (" ..." if len(subjects) > 3 else "")
        raise InputError(
            f"--lesion-mask {path} is for one participant, and {len(subjects)} are chosen "
            f"({names}): choose one with --participant-label (and --session-label), or put each "
            "mask beside its T1w as *_label-lesion_roi.nii.gz."
        )
    shape, zooms = _header(str(path))
    mask = Image(path=str(path), entities=entities_of(path), shape=shape, zooms=zooms)
    return dataclasses.replace(subjects[0], lesions=(mask,), other_rois=())


def entities_of(path: str | Path) -> Entities:
    """Entities of a BIDS file name by short key, with ``datatype``, ``suffix``, ``extension``.

    Examples
    --------
    >>> entities_of("/d/sub-01/func/sub-01_task-rest_run-01_bold.nii.gz")["run"]
    '01'
    """
    path = Path(path)
    stem, dot, extension = path.name.partition(".")
    *pairs, suffix = stem.split("_")
    entities = {k: v for k, _, v in (p.partition("-") for p in pairs) if v}
    return {
        **entities,
        "datatype": path.parent.name,
        "suffix": suffix,
        "extension": dot + extension,
    }


def read_filters(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read ``--bids-filter-file``: ``null`` means the entity is absent, ``"*"`` any value."""
    if path is None:
        return {}
    try:
        filters = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"--bids-filter-file {path} cannot be read ({error.strerror}): check the path."
        ) from error
    except ValueError as error:
        raise InputError(
            f"--bids-filter-file {path} is not valid JSON ({error}): correct that line."
        ) from error
    if not isinstance(filters, dict) or not all(isinstance(v, dict) for v in filters.values()):
        raise InputError(
            f'--bids-filter-file {path} must be like {{"bold": {{"task": "rest"}}}}: correct it.'
        )
    unknown = sorted(set(filters) - set(FILTER_KINDS))
    if unknown:
        raise InputError(
            f"--bids-filter-file {path} has the unknown kind '{unknown[0]}': "
            f"use {', '.join(FILTER_KINDS)}."
        )
    from bids.layout import Query

    special = {None: Query.NONE, "*": Query.ANY}
    return {
        kind: {
            name: special.get(value, value) if isinstance(value, str | None) else value
            for name, value in query.items()
        }
        for kind, query in filters.items()
    }


def _check_labels(flag: str, wanted: tuple[str, ...], existing: Callable[[], list[str]]) -> None:
    """Every session or task that was asked for exists for some chosen participant."""
    if not wanted:
        return
    known = sorted(str(label) for label in existing())
    missing = [label for label in wanted if label not in known]
    if missing:
        raise InputError(
            f"{flag}: {', '.join(missing)} does not exist for the chosen participants; "
            f"they have {', '.join(known) or 'none'}."
        )


FUNCTIONAL_KINDS = ("bold", "sbref", "fmap")


def _find(
    layout: Any,
    kind: str,
    labels: list[str],
    filters: dict[str, dict[str, Any]],
    settings: Settings,
) -> dict[str, list[Image]]:
    """All images of one kind, by participant, in natural order."""
    if settings.anat_only and kind in FUNCTIONAL_KINDS:
        return {}
    query: dict[str, Any] = {"subject": labels, "extension": [".nii", ".nii.gz"], **QUERIES[kind]}
    if settings.session_label:
        query["session"] = list(settings.session_label)
    if settings.task_id and kind in ("bold", "sbref"):
        query["task"] = list(settings.task_id)
    query.update(filters.get(kind, {}))
    result: dict[str, list[Image]] = {}
    for file in _natural(layout.get(**query)):
        image = _image(layout, file)
        result.setdefault(image.entities["sub"], []).append(image)
    return result


def _subject(
    layout: Any,
    label: str,
    images: dict[str, list[Image]],
    fieldmap_filter: dict[str, Any] | None,
    settings: Settings,
) -> list[SubjectInputs]:
    sbref = {i.path: i for i in images["sbref"]}
    fieldmaps = (
        find_fieldmaps(layout, label, settings.session_label, fieldmap_filter)
        if images["fmap"]
        else FoundFieldmaps()
    )
    runs = tuple(_run(image, sbref, fieldmaps, settings) for image in images["bold"])
    whole = SubjectInputs(
        label=label,
        t1w=tuple(images["t1w"]),
        bold=runs,
        t2w=tuple(images["t2w"]),
        flair=tuple(images["flair"]),
        fieldmaps=tuple(images["fmap"]),
        rejected_fieldmaps=fieldmaps.failed,
        lesions=tuple(i for i in images["roi"] if is_lesion(i)),
        other_rois=tuple(i for i in images["roi"] if not is_lesion(i)),
    )
    whole = dataclasses.replace(whole, sessions=_sessions(whole))
    if settings.subject_anatomical_reference != "sessionwise" or not whole.sessions:
        return [whole]
    return [_only_session(whole, session) for session in whole.sessions]


def _run(
    image: Image, sbref: dict[str, Image], fieldmaps: FoundFieldmaps, settings: Settings
) -> Run:
    stem = re.sub(r"_bold\.nii(\.gz)?$", "", image.path)
    references = [stem + "_sbref.nii.gz", stem + "_sbref.nii"]
    if "sbref" in settings.ignore:
        references = []
    events = Path(stem + "_events.tsv")
    return Run(
        path=image.path,
        metadata=image.metadata,
        entities=image.entities,
        shape=image.shape,
        zooms=image.zooms,
        fieldmap=choose_fieldmap(image, fieldmaps, ignored="fieldmaps" in settings.ignore),
        slice_timing=decide_slice_timing(
            image.metadata,
            image.shape,
            reference_fraction=settings.slice_time_ref,
            ignored="slicetiming" in settings.ignore,
        ),
        sbref=next((sbref[r] for r in references if r in sbref), None),
        events=str(events) if events.is_file() else None,
    )


def _image(layout: Any, file: Any) -> Image:
    shape, zooms = _header(file.path)
    return Image(
        path=file.path,
        metadata=_plain(layout.get_metadata(file.path)),
        entities=entities_of(file.path),
        shape=shape,
        zooms=zooms,
    )


def _header(path: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and zooms of an image, or two empty tuples when it cannot be opened."""
    import nibabel as nib

    try:
        image: Any = nib.load(path)
        zooms = [round(float(z), 6) for z in image.header.get_zooms()]
        return tuple(int(n) for n in image.shape), tuple(zooms)
    except Exception:  # any broken file: the checks open it again and say why
        return (), ()


def _plain(value: Any) -> Any:
    """Metadata as JSON types: pybids returns dictionary and list subclasses."""
    return json.loads(json.dumps(value, default=str))


def _natural(files: Iterable[Any]) -> list[Any]:
    """By path, with numbers in numeric order, so that run-10 follows run-9."""

    def key(file: Any) -> list[tuple[int, int, str]]:
        tokens = re.findall(r"\d+|\D+", file.path)
        return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in tokens]

    return sorted(files, key=key)


def _sessions(subject: SubjectInputs) -> tuple[str, ...]:
    images = (*subject.t1w, *subject.bold)
    return tuple(sorted({i.entities["ses"] for i in images if "ses" in i.entities}))


def _only_session(subject: SubjectInputs, session: str) -> SubjectInputs:
    def keep(images: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(i for i in images if i.entities.get("ses") == session)

    return dataclasses.replace(
        subject,
        sessions=(session,),
        anatomical_session=session,
        t1w=keep(subject.t1w),
        bold=keep(subject.bold),
        t2w=keep(subject.t2w),
        flair=keep(subject.flair),
        fieldmaps=keep(subject.fieldmaps),
        lesions=keep(subject.lesions),
        other_rois=keep(subject.other_rois),
    )
