"""Plain records of what was found in a BIDS data set: frozen, comparable, JSON-serialisable.

Nothing here knows pybids or sdcflows, so that a task process can read the JSON without importing
them. Paths are absolute strings.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Entities = dict[str, str]
"""BIDS entities by short key (``sub``, ``ses``, ``task``, ``run``...) in the order of the file
name, values as they are written there (``run-01`` keeps its zero), and ``datatype``, ``suffix``
and ``extension``."""


@dataclass(frozen=True)
class Image:
    """An image file with the metadata that applies to it (BIDS inheritance done)."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)
    entities: Entities = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    """Voxels along each axis, from the header; empty when the header cannot be read."""
    zooms: tuple[float, ...] = ()
    """Voxel edges in mm, then the header's time step in s."""

    @property
    def name(self) -> str:
        """File name without folder and extension, such as ``sub-01_task-rest_bold``."""
        return Path(self.path).name.split(".")[0]


@dataclass(frozen=True)
class RejectedFieldmap:
    """A field map that was found but not chosen, and why."""

    method: str
    sources: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class FieldmapChoice:
    """Which field map a BOLD run gets, and why."""

    method: str = "none"
    """``pepolar``, ``phasediff``, ``mapped`` or ``none``."""
    reason: str = ""
    fieldmap_id: str = ""
    """B0FieldIdentifier, or ``auto_00000`` and so on when there is none."""
    sources: tuple[str, ...] = ()
    """Absolute paths of the images it is estimated from."""
    metadata: tuple[dict[str, Any], ...] = ()
    """Metadata of each source, same order."""
    phase_encoding_direction: str = ""
    """Of the BOLD run: ``i``, ``j``, ``k``, with ``-`` for the reversed polarity."""
    total_readout_time_s: float | None = None
    """Of the BOLD run."""
    rejected: tuple[RejectedFieldmap, ...] = ()

    @property
    def found(self) -> bool:
        """Whether a field map was chosen."""
        return self.method != "none"

    @property
    def fmapid(self) -> str:
        """The identifier as fMRIPrep writes it in a file name: letters and digits only."""
        return re.sub(r"[^a-zA-Z0-9]", "", self.fieldmap_id)


@dataclass(frozen=True)
class SliceTiming:
    """Whether slice timing is corrected, and why or why not."""

    apply: bool
    reason: str
    slice_times_s: tuple[float, ...] = ()
    """Acquisition time of every slice in the order of the voxel index along ``axis``, in
    seconds after the start of the frame; ``SliceEncodingDirection`` with ``-`` is resolved."""
    axis: int = 2
    """Voxel axis of the slices."""
    tr_s: float | None = None
    reference_time_s: float = 0.0
    """Time within the frame that the slices are interpolated to, in seconds."""


@dataclass(frozen=True)
class Run(Image):
    """A BOLD run."""

    fieldmap: FieldmapChoice = field(default_factory=FieldmapChoice)
    slice_timing: SliceTiming = field(default_factory=lambda: SliceTiming(False, ""))
    sbref: Image | None = None
    events: str | None = None
    """Path of the events.tsv of the run."""

    @property
    def tr_s(self) -> float:
        """Repetition time in seconds."""
        return float(self.metadata["RepetitionTime"])


@dataclass(frozen=True)
class SubjectInputs:
    """What is processed together: a participant, or one session of a participant when
    ``--subject-anatomical-reference sessionwise``."""

    label: str
    """Without ``sub-``."""
    sessions: tuple[str, ...] = ()
    """Session labels with images, without ``ses-``."""
    t1w: tuple[Image, ...] = ()
    bold: tuple[Run, ...] = ()
    t2w: tuple[Image, ...] = ()
    flair: tuple[Image, ...] = ()
    fieldmaps: tuple[Image, ...] = ()
    """All images in the ``fmap`` folders; what a run uses is in ``Run.fieldmap``."""
    anatomical_session: str | None = None
    """The session of the anatomical reference in the session-wise mode."""
    rejected_fieldmaps: tuple[RejectedFieldmap, ...] = ()
    """Field maps of the participant that no run could use."""
    lesions: tuple[Image, ...] = ()
    """Lesion masks, left out of the normalisation."""
    other_rois: tuple[Image, ...] = ()
    """ROI files in the ``anat`` folder that are named after something else than a lesion."""

    @property
    def name(self) -> str:
        """``sub-01``, or ``sub-01_ses-1`` in the session-wise mode."""
        session = f"_ses-{self.anatomical_session}" if self.anatomical_session else ""
        return f"sub-{self.label}{session}"

    @property
    def own_entities(self) -> Entities:
        """What summaries are named with: the participant and, in the session-wise mode, session."""
        session = {"ses": self.anatomical_session} if self.anatomical_session else {}
        return {"sub": self.label, **session}

    def to_json(self) -> str:
        """JSON text; :meth:`from_json` gives an equal object back."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SubjectInputs:
        """Read what :meth:`to_json` wrote."""
        raw = json.loads(text)
        return cls(
            label=raw["label"],
            sessions=tuple(raw["sessions"]),
            t1w=tuple(_image(i) for i in raw["t1w"]),
            bold=tuple(_run(r) for r in raw["bold"]),
            t2w=tuple(_image(i) for i in raw["t2w"]),
            flair=tuple(_image(i) for i in raw["flair"]),
            fieldmaps=tuple(_image(i) for i in raw["fieldmaps"]),
            anatomical_session=raw["anatomical_session"],
            rejected_fieldmaps=tuple(_rejected(r) for r in raw["rejected_fieldmaps"]),
            lesions=tuple(_image(i) for i in raw["lesions"]),
            other_rois=tuple(_image(i) for i in raw["other_rois"]),
        )


def run_to_json(run: Run) -> str:
    """JSON text of one run; :func:`run_from_json` gives an equal object back."""
    return json.dumps(dataclasses.asdict(run), ensure_ascii=False, sort_keys=True)


def run_from_json(text: str) -> Run:
    """Read what :func:`run_to_json` wrote."""
    return _run(json.loads(text))


def _image(raw: Mapping[str, Any]) -> Image:
    return Image(
        path=raw["path"],
        metadata=raw["metadata"],
        entities=raw["entities"],
        shape=tuple(raw["shape"]),
        zooms=tuple(raw["zooms"]),
    )


def _run(raw: Mapping[str, Any]) -> Run:
    image = _image(raw)
    fieldmap = dict(raw["fieldmap"])
    fieldmap["sources"] = tuple(fieldmap["sources"])
    fieldmap["metadata"] = tuple(fieldmap["metadata"])
    fieldmap["rejected"] = tuple(_rejected(r) for r in fieldmap["rejected"])
    timing = dict(raw["slice_timing"])
    timing["slice_times_s"] = tuple(timing["slice_times_s"])
    return Run(
        path=image.path,
        metadata=image.metadata,
        entities=image.entities,
        shape=image.shape,
        zooms=image.zooms,
        fieldmap=FieldmapChoice(**fieldmap),
        slice_timing=SliceTiming(**timing),
        sbref=None if raw["sbref"] is None else _image(raw["sbref"]),
        events=raw["events"],
    )


def _rejected(raw: Mapping[str, Any]) -> RejectedFieldmap:
    return RejectedFieldmap(raw["method"], tuple(raw["sources"]), raw["reason"])
