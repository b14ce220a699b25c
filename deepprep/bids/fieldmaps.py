"""Which field map a BOLD run gets and why, and why the others are not used.

sdcflows finds the field maps (``find_estimators``); the choice for a run follows BIDS
(``B0FieldSource``, then ``IntendedFor``) and is put in words.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepprep.bids.records import FieldmapChoice, Image, RejectedFieldmap

PREFERENCE = ("pepolar", "mapped", "phasediff")
"""Which method is taken first when several field maps are meant for the same run."""

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")


@dataclass(frozen=True)
class Candidate:
    """A field map that can be estimated, with what it is meant for."""

    method: str
    fieldmap_id: str
    sources: tuple[str, ...]
    metadata: tuple[dict[str, Any], ...]
    targets: frozenset[str]
    """Absolute paths in ``IntendedFor``."""


@dataclass(frozen=True)
class FoundFieldmaps:
    """All field maps of a participant: those that can be estimated, and the failed ones."""

    candidates: tuple[Candidate, ...] = ()
    failed: tuple[RejectedFieldmap, ...] = ()


def find_fieldmaps(
    layout: Any,
    subject: str,
    sessions: Sequence[str] = (),
    filters: Mapping[str, Any] | None = None,
) -> FoundFieldmaps:
    """Ask sdcflows for the field maps of a participant.

    Parameters
    ----------
    layout : bids.BIDSLayout
    subject : str
        Label without ``sub-``.
    sessions : sequence of str
        Limit to these sessions; empty means all.
    filters : mapping, optional
        The ``fmap`` part of ``--bids-filter-file``.
    """
    query: dict[str, Any] = {
        "subject": subject,
        "datatype": "fmap",
        "extension": [".nii", ".nii.gz"],
    }
    if sessions:
        query["session"] = list(sessions)
    query.update(filters or {})
    files = layout.get(**query)
    files = [f for f in files if Path(f.path).is_file() and Path(f.path).stat().st_size > 0]
    if not files:
        return FoundFieldmaps()

    from sdcflows import fieldmaps as sdc
    from sdcflows.utils.wrangler import find_estimators

    root = Path(layout.root)
    recorder = _FailureRecorder(root)
    logger = logging.Logger("deepprep.fieldmaps", logging.DEBUG)
    logger.addHandler(recorder)
    sdc.clear_registry()
    failed: list[RejectedFieldmap] = []
    try:
        estimators = find_estimators(
            layout=layout,
            subject=subject,
            sessions=None if "session" in (filters or {}) else list(sessions) or None,
            fmapless=False,
            logger=logger,
            bids_filters=dict(filters) if filters else None,
        )
    except Exception as error:  # sdcflows raises many kinds for metadata it cannot use
        estimators = []
        text = _short(str(error), root)
        failed = [RejectedFieldmap("unknown", tuple(f.path for f in files), text)]
    finally:
        sdc.clear_registry()
    failed += recorder.failed
    estimators = [
        one for estimator in estimators for one in _by_session(estimator, sessions, failed, root)
    ]

    candidates = []
    for estimator in estimators:
        sources = tuple(str(f.path) for f in estimator.sources)
        metadata = tuple(dict(layout.get_metadata(path) or {}) for path in sources)
        candidates.append(
            Candidate(
                method=estimator.method.name.lower(),
                fieldmap_id=str(estimator.bids_id),
                sources=sources,
                metadata=metadata,
                targets=frozenset(
                    str(path)
                    for meta in metadata
                    for path in intended_paths(meta, root, subject)
                    if path is not None
                ),
            )
        )
    used = {s for c in candidates for s in c.sources} | {s for r in failed for s in r.sources}
    some_with_id = any("B0FieldIdentifier" in meta for c in candidates for meta in c.metadata)
    for file in files:
        if file.path not in used:
            failed.append(
                RejectedFieldmap(
                    _method_of(file.entities.get("suffix", "")),
                    (file.path,),
                    _why_unused(file, some_with_id),
                )
            )
    return FoundFieldmaps(tuple(candidates), tuple(failed))


def _by_session(
    estimator: Any, sessions: Sequence[str], failed: list[RejectedFieldmap], root: Path
) -> list[Any]:
    """One field map per session from one that sdcflows made of several.

    Many data sets give the field maps of every session the same B0FieldIdentifier; sdcflows then
    takes the files of all sessions for one field map, and those of sessions not asked for too.
    """
    from sdcflows import fieldmaps as sdc

    by_session: dict[str, list[Any]] = {}
    for file in estimator.sources:
        by_session.setdefault(_session_of(file.path), []).append(file)
    wanted = {s: files for s, files in by_session.items() if not sessions or s in sessions}
    if len(by_session) == 1:
        return [estimator] if wanted else []
    found = []
    for files in wanted.values():
        # Those without the identifier (magnitudes) were added by sdcflows, and will be again.
        files = [f for f in files if f.metadata.get("B0FieldIdentifier")] or files
        sdc.clear_registry()
        try:
            found.append(sdc.FieldmapEstimation(files, bids_id=estimator.bids_id))
        except (ValueError, TypeError) as error:
            method = estimator.method.name.lower()
            names = tuple(str(f.path) for f in files)
            failed.append(RejectedFieldmap(method, names, _short(str(error), root)))
        finally:
            sdc.clear_registry()
    return found


def _session_of(path: str | Path) -> str:
    match = re.search(r"_ses-([a-zA-Z0-9+]+)_", Path(path).name)
    return match[1] if match else ""


def choose_fieldmap(run: Image, found: FoundFieldmaps, *, ignored: bool = False) -> FieldmapChoice:
    """Choose the field map of a BOLD run and say why, and why not the others.

    ``B0FieldSource`` of the run wins, then ``IntendedFor`` of the field maps; among several, the
    method that comes first in :data:`PREFERENCE`, then the first by file name.
    """
    direction = run.metadata.get("PhaseEncodingDirection")
    readout_s, readout_reason = total_readout_time(run)
    common: dict[str, Any] = {
        "phase_encoding_direction": direction if direction in DIRECTIONS else "",
        "total_readout_time_s": readout_s,
    }
    everything = [_reject(c, "") for c in found.candidates]
    if ignored:
        reason = "field maps are switched off with --ignore fieldmaps"
        off = tuple(RejectedFieldmap(r.method, r.sources, reason) for r in everything)
        return FieldmapChoice(reason=reason, rejected=off + found.failed, **common)
    if not found.candidates and not found.failed:
        reason = "the participant has no field map"
        problem = _run_problem(run, direction, readout_s, readout_reason)
        return FieldmapChoice(reason=reason + (f"; also, {problem}" if problem else ""), **common)

    meant, how = _meant_for(run, found.candidates)
    rejected = [
        _reject(c, "it is not meant for this run (IntendedFor or B0FieldSource)")
        for c in found.candidates
        if c not in meant
    ]
    problem = _run_problem(run, direction, readout_s, readout_reason)
    if not meant:
        reason = "no usable field map is meant for this run (IntendedFor or B0FieldSource)"
        if problem:
            reason += f"; also, {problem}"
        return FieldmapChoice(reason=reason, rejected=(*rejected, *found.failed), **common)
    if problem:
        rejected = [*(_reject(c, problem) for c in meant), *rejected]
        return FieldmapChoice(reason=problem, rejected=(*rejected, *found.failed), **common)
    ordered = sorted(meant, key=lambda c: (_rank(c.method), c.sources))
    best = ordered[0]
    why = how
    if len(ordered) > 1:
        why += f"; first of {len(ordered)} by the order {', '.join(PREFERENCE)}, then by name"
        rejected = [
            *(_reject(c, f"another field map was preferred ({best.method})") for c in ordered[1:]),
            *rejected,
        ]
    return FieldmapChoice(
        method=best.method,
        reason=why,
        fieldmap_id=best.fieldmap_id,
        sources=best.sources,
        metadata=best.metadata,
        rejected=(*rejected, *found.failed),
        **common,
    )


def intended_paths(metadata: Mapping[str, Any], root: Path, subject: str) -> list[Path | None]:
    """Absolute paths that ``IntendedFor`` names; ``None`` for another data set's BIDS URI.

    Both forms are read: relative to the participant's folder, and ``bids::sub-01/...``.
    """
    intended = metadata.get("IntendedFor") or []
    paths: list[Path | None] = []
    for text in [intended] if isinstance(intended, str) else intended:
        if text.startswith("bids::"):
            paths.append(Path(os.path.normpath(root / text[6:])))
        elif text.startswith("bids:"):
            paths.append(None)
        else:
            paths.append(Path(os.path.normpath(root / f"sub-{subject}" / text)))
    return paths


def total_readout_time(run: Image) -> tuple[float | None, str]:
    """Total readout time in seconds (BIDS definition), or ``None`` with the reason.

    ``TotalReadoutTime``, else ``EffectiveEchoSpacing`` times the voxels along the phase-encoding
    axis minus one. Estimates (``EstimatedTotalReadoutTime``) are not used without being asked.
    """
    meta = run.metadata
    value = meta.get("TotalReadoutTime")
    if isinstance(value, int | float) and value > 0:
        return float(value), "TotalReadoutTime"
    spacing = meta.get("EffectiveEchoSpacing")
    direction = str(meta.get("PhaseEncodingDirection") or "")
    if isinstance(spacing, int | float) and spacing > 0 and direction[:1] in ("i", "j", "k"):
        axis = "ijk".index(direction[0])
        if len(run.shape) > axis:
            return float(spacing) * (run.shape[axis] - 1), "EffectiveEchoSpacing"
    if "EstimatedTotalReadoutTime" in meta:
        return None, "only an estimate of the readout time is known (EstimatedTotalReadoutTime)"
    return None, "neither TotalReadoutTime nor EffectiveEchoSpacing is known"


def _meant_for(run: Image, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
    source = run.metadata.get("B0FieldSource")
    if source:
        names = {source} if isinstance(source, str) else set(source)
        by_name = [c for c in candidates if c.fieldmap_id in names]
        # One name may stand for a field map in every session: that of the run's own is meant.
        own = _session_of(run.path)
        by_name = [c for c in by_name if own in map(_session_of, c.sources)] or by_name
        if by_name:
            return by_name, f"B0FieldSource of the run names '{by_name[0].fieldmap_id}'"
    return [c for c in candidates if run.path in c.targets], "IntendedFor names this run"


def _run_problem(run: Image, direction: Any, readout_s: float | None, readout_reason: str) -> str:
    """What of the run's own metadata forbids distortion correction, in words."""
    if direction not in DIRECTIONS:
        if direction:
            return f"PhaseEncodingDirection of the run is '{direction}', which BIDS does not know"
        axis = run.metadata.get("PhaseEncodingAxis")
        if axis:
            return (
                "the run has no PhaseEncodingDirection, only PhaseEncodingAxis "
                f"'{axis}', which leaves the polarity open"
            )
        return "the run has no PhaseEncodingDirection"
    return "" if readout_s is not None else readout_reason


def _reject(candidate: Candidate, reason: str) -> RejectedFieldmap:
    return RejectedFieldmap(candidate.method, candidate.sources, reason)


def _rank(method: str) -> int:
    return PREFERENCE.index(method) if method in PREFERENCE else len(PREFERENCE)


def _method_of(suffix: str) -> str:
    if suffix in ("phasediff", "phase1", "phase2", "magnitude1", "magnitude2"):
        return "phasediff"
    return {"epi": "pepolar", "fieldmap": "mapped", "magnitude": "mapped"}.get(suffix, "unknown")


def _why_unused(file: Any, some_with_id: bool) -> str:
    """Why sdcflows did not try this file at all."""
    metadata = file.get_metadata()
    suffix = file.entities.get("suffix", "")
    if some_with_id and "B0FieldIdentifier" not in metadata:
        return "it has no B0FieldIdentifier while other field maps have (BIDS then ignores it)"
    if suffix == "epi":
        if "PhaseEncodingDirection" not in metadata:
            return "it has no PhaseEncodingDirection"
        if not metadata.get("IntendedFor"):
            return "no image with the opposite phase encoding was found, and it has no IntendedFor"
        return "no image with the opposite phase encoding was found"
    if suffix.startswith("magnitude"):
        return "it is a magnitude image without a usable phase or field image"
    return "it could not be combined with other images to a field map"


def _short(message: str, root: Path) -> str:
    return " ".join(message.replace(str(root) + "/", "").split()).rstrip(".")


class _FailureRecorder(logging.Handler):
    """Collects the reasons that sdcflows only writes to its debug log."""

    def __init__(self, root: Path) -> None:
        super().__init__(logging.DEBUG)
        self.root = root
        self.failed: list[RejectedFieldmap] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not text.startswith("Failed to construct") or "\nError: " not in text:
            return
        listing, _, message = text.partition("\nError: ")
        names = [line[2:] for line in listing.splitlines() if line.startswith("- ")]
        suffix = names[0].rsplit("_", 1)[-1].split(".")[0] if names else ""
        self.failed.append(
            RejectedFieldmap(
                _method_of(suffix),
                tuple(str(self.root / name) for name in names),
                _short(message, self.root),
            )
        )


def describe(choice: FieldmapChoice, root: str | Path) -> str:
    """One line about the choice, for the plan, the log and the report."""
    if not choice.found:
        return f"none: {choice.reason}"
    names = ", ".join(_relative(s, root) for s in choice.sources)
    return f"{choice.method} ({names}): {choice.reason}"


def describe_rejected(rejected: RejectedFieldmap, root: str | Path) -> str:
    """One line about a field map that is not used."""
    names = ", ".join(_relative(s, root) for s in rejected.sources)
    return f"{rejected.method} ({names}): {rejected.reason}"


def _relative(path: str, root: str | Path) -> str:
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
