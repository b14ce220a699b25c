"""Checks of the metadata of one image: units, directions and slice times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepprep.bids.image_integrity import Finding
from deepprep.bids.records import Image, Run
from deepprep.bids.slice_timing import AXES

MAX_TR_S = 50.0
"""No BOLD frame takes this long: a larger RepetitionTime is in milliseconds."""

MAX_ECHO_TIME_S = 1.0
"""No echo is this late: a larger EchoTime is in milliseconds."""

MIN_FRAMES = 6
"""Fewer frames than this are not a time series (fMRIPrep's limit)."""

DIRECTIONS = ("i", "i-", "j", "j-", "k", "k-")

_XYZ = {"x": "i", "y": "j", "z": "k"}


def check_bold(run: Run, ignore: Sequence[str] = ()) -> list[tuple[str, Finding]]:
    """Findings about a BOLD run, each with its level.

    What is switched off with ``--ignore`` is only warned about.
    """
    found: list[tuple[str, Finding]] = []

    def add(finding: Finding | None, level: str = "error") -> None:
        if finding is not None:
            found.append((level, finding))

    add(_frames(run))
    add(_multi_echo(run))
    if not run.metadata:
        add(
            Finding(
                "SIDECAR_MISSING",
                "no JSON sidecar applies to it",
                "Add a JSON file with at least RepetitionTime (dcm2niix writes it).",
            )
        )
        return found
    repetition = _repetition_time(run)
    add(repetition)
    add(_echo_time(run.metadata, ("EchoTime",)))
    add(_phase_encoding(run.metadata), "warning" if "fieldmaps" in ignore else "error")
    if repetition is None:
        add(_slice_times(run), "warning" if "slicetiming" in ignore else "error")
        add(_header_time_step(run), "warning")
    return found


def check_t1w(image: Image) -> list[tuple[str, Finding]]:
    """Findings about a T1w image, each with its level."""
    found: list[tuple[str, Finding]] = []
    if len(image.shape) > 3 and image.shape[3] > 1:
        frames = image.shape[3]
        found.append(
            (
                "error",
                Finding(
                    "T1W_NOT_3D",
                    f"it has {frames} frames, a T1w image has one",
                    "Keep one frame, or average them.",
                ),
            )
        )
    echo = _echo_time(image.metadata, ("EchoTime",))
    if echo is not None:
        found.append(("warning", echo))
    return found


def check_fieldmap(metadata: Mapping[str, Any]) -> list[tuple[str, Finding]]:
    """Findings about a field-map image, each with its level."""
    findings = (
        _echo_time(metadata, ("EchoTime", "EchoTime1", "EchoTime2")),
        _phase_encoding(metadata),
    )
    return [("warning", f) for f in findings if f is not None]


def _frames(run: Run) -> Finding | None:
    if not run.shape:
        return None
    if len(run.shape) < 4 or run.shape[3] == 1:
        return Finding(
            "BOLD_IS_3D",
            "it is named bold but holds a single 3D frame",
            "Name it _sbref if it is a reference, or put the whole series there.",
        )
    if run.shape[3] < MIN_FRAMES:
        return Finding(
            "TOO_FEW_FRAMES",
            f"it has only {run.shape[3]} frames",
            f"A series needs {MIN_FRAMES} or more: remove it if the scan was stopped.",
        )
    return None


def _multi_echo(run: Run) -> Finding | None:
    if "echo" not in run.entities:
        return None
    return Finding(
        "MULTI_ECHO",
        "it is one echo of a multi-echo series, which is not available yet in this version",
        'Leave these runs out with --bids-filter-file ({"bold": {"echo": null}}).',
    )


def _repetition_time(run: Run) -> Finding | None:
    if "RepetitionTime" not in run.metadata:
        if "VolumeTiming" in run.metadata:
            return Finding(
                "TR_MISSING",
                "it has VolumeTiming instead of RepetitionTime (sparse acquisition)",
                "Sparse series are not available yet in this version: leave the run out.",
            )
        header = f" (the image header says {run.zooms[3]:g} s)" if len(run.zooms) > 3 else ""
        return Finding(
            "TR_MISSING",
            "the sidecar has no RepetitionTime",
            f"Add RepetitionTime in seconds{header}.",
        )
    value = run.metadata["RepetitionTime"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Finding(
            "TR_NOT_A_NUMBER",
            f"RepetitionTime is {value!r}, not a number",
            "Write it as seconds, such as 2.0.",
        )
    if not value > 0:
        return Finding(
            "TR_ZERO", f"RepetitionTime is {value:g}", "Write the true value in seconds."
        )
    if value >= MAX_TR_S:
        return Finding(
            "TR_IN_MS",
            f"RepetitionTime is {value:g}, which looks like milliseconds",
            f"BIDS wants seconds: write {value / 1000:g}.",
        )
    return None


def _echo_time(metadata: Mapping[str, Any], keys: Sequence[str]) -> Finding | None:
    for key in keys:
        value = metadata.get(key)
        if isinstance(value, int | float) and value >= MAX_ECHO_TIME_S:
            return Finding(
                "TE_IN_MS",
                f"{key} is {value:g}, which looks like milliseconds",
                f"BIDS wants seconds: write {value / 1000:g}.",
            )
    return None


def _phase_encoding(metadata: Mapping[str, Any]) -> Finding | None:
    value = metadata.get("PhaseEncodingDirection")
    if value is None or value in DIRECTIONS:
        return None
    text = str(value)
    axis, sign = _XYZ.get(text[:1].lower()), "-" if text.endswith("-") else ""
    remedy = (
        f"BIDS names voxel axes: write '{axis}{sign}'."
        if axis
        else "Write one of " + ", ".join(DIRECTIONS) + " (voxel axis, with - when reversed)."
    )
    return Finding("PHASE_ENCODING", f"PhaseEncodingDirection is '{text}'", remedy)


def _slice_times(run: Run) -> Finding | None:
    times = run.metadata.get("SliceTiming")
    if times is None or times == []:
        return None
    escape = ", or add --ignore slicetiming."
    numbers = isinstance(times, list) and all(
        isinstance(t, int | float) and not isinstance(t, bool) for t in times
    )
    if not numbers:
        return Finding(
            "SLICE_TIMING_VALUES",
            "SliceTiming is not a list of numbers",
            "Write one time in seconds for each slice" + escape,
        )
    axis = AXES.get(str(run.metadata.get("SliceEncodingDirection") or "k")[0], 2)
    if len(run.shape) > axis and len(times) != run.shape[axis]:
        return Finding(
            "SLICE_TIMING_LENGTH",
            f"SliceTiming has {len(times)} values but the image has {run.shape[axis]} slices",
            "Write one time for each slice" + escape,
        )
    tr_s = float(run.metadata["RepetitionTime"])
    if max(times) > tr_s:
        hint = " (milliseconds?)" if max(times) >= 50 * tr_s else ""
        return Finding(
            "SLICE_TIMING_BEYOND_TR",
            f"SliceTiming goes to {max(times):g}{hint}, beyond the RepetitionTime of {tr_s:g} s",
            "Write the times in seconds within one frame" + escape,
        )
    if min(times) < 0:
        return Finding(
            "SLICE_TIMING_NEGATIVE",
            f"SliceTiming has the negative time {min(times):g}",
            "Write the times in seconds after the start of the frame" + escape,
        )
    return None


def _header_time_step(run: Run) -> Finding | None:
    if len(run.zooms) < 4 or run.zooms[3] <= 0:
        return None
    tr_s, header_s = run.tr_s, run.zooms[3]
    # Some converters write milliseconds into a header whose unit says seconds.
    if min(abs(header_s - tr_s), abs(header_s / 1000 - tr_s)) <= 0.01 * tr_s or header_s == 1.0:
        return None
    return Finding(
        "TR_DIFFERS",
        f"RepetitionTime is {tr_s:g} s, the image header says {header_s:g}",
        "The sidecar is used; correct the one that is wrong.",
    )
