"""Text parts of the report, as HTML fragments: who, what was decided and why, what failed.

Every string that comes from a data set, a file name, a sidecar or a crash is escaped here.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepprep.reports.mosaic import write_text

QUALITY_NAMES = {
    "fd_mean_mm": "Framewise displacement, mean (mm)",
    "fd_max_mm": "Framewise displacement, largest (mm)",
    "fd_percent_above": "Frames above the limit of framewise displacement (%)",
    "dvars_mean": "DVARS, mean",
    "std_dvars_mean": "Standardised DVARS, mean",
    "outlier_percent": "Motion outliers (%)",
    "tsnr_brain": "Temporal signal-to-noise ratio, brain (median)",
    "tsnr_gm": "Temporal signal-to-noise ratio, grey matter (median)",
    "tsnr_wm": "Temporal signal-to-noise ratio, white matter (median)",
    "coregistration_dice": "Overlap with the T1w's brain mask (Dice)",
}
"""Measures of :mod:`deepprep.quality.metrics` in words and in the order in which they are shown;
others follow under their own name."""

SHOWN_ABOVE = ("n_frames", "n_dummy")
"""Measures that the table above the measures has already."""


@dataclass(frozen=True)
class Decision:
    """An automatic choice and its reason."""

    choice: str
    reason: str = ""


@dataclass(frozen=True)
class SubjectSummary:
    """Facts of the section Summary.

    Parameters
    ----------
    label : str
        Participant, without ``sub-``.
    sessions : sequence of str
        Session labels, empty when the data set has none.
    t1w : sequence of str
        Names of the T1w files used.
    bold_by_task : mapping of str to int
        Runs of each task.
    spaces : sequence of str
        Output spaces.
    decisions : mapping of str to Decision
        Further rows, such as skull stripping and device.
    problems : sequence of str
        Warnings found before the run.
    """

    label: str
    sessions: Sequence[str] = ()
    t1w: Sequence[str] = ()
    bold_by_task: Mapping[str, int] = field(default_factory=dict)
    spaces: Sequence[str] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    problems: Sequence[str] = ()


@dataclass(frozen=True)
class ConformRow:
    """One T1w before it was conformed.

    Parameters
    ----------
    name : str
        File.
    orientation : str
        Axis codes, such as ``LAS``.
    shape : tuple of int
        Voxels.
    zooms_mm : sequence of float
        Voxel edges.
    note : str
        What was done to it.
    """

    name: str
    orientation: str
    shape: Sequence[int]
    zooms_mm: Sequence[float]
    note: str = ""


@dataclass(frozen=True)
class FieldmapRow:
    """One field map found, chosen or rejected.

    Parameters
    ----------
    name : str
        Identifier.
    method : str
        Such as ``phase difference`` or ``PEPOLAR``.
    sources : sequence of str
        Files.
    chosen_for : sequence of str
        Runs it was chosen for; empty when rejected.
    reason : str
        Why chosen or rejected.
    applied : bool
        Whether it was used for distortion correction.
    """

    name: str
    method: str
    sources: Sequence[str]
    chosen_for: Sequence[str] = ()
    reason: str = ""
    applied: bool = False


@dataclass(frozen=True)
class BoldSummary:
    """Facts of one BOLD run.

    Parameters
    ----------
    name : str
        File.
    orientation : str
        Axis codes.
    shape : sequence of int
        Voxels and frames.
    zooms_mm : sequence of float
        Voxel edges.
    tr_s : float
        Repetition time.
    pe_direction : str or None
        BIDS code (``j-``); ``None`` when unknown.
    slice_timing, fieldmap, dummy_scans, coregistration : Decision
        Choices with reasons.
    others : mapping of str to Decision
        Further rows.
    metrics : mapping of str to float
        Quality measures, shown with three digits.
    confounds : sequence of str
        Columns collected.
    warnings : sequence of str
        Shown in a box.
    """

    name: str
    orientation: str
    shape: Sequence[int]
    zooms_mm: Sequence[float]
    tr_s: float
    pe_direction: str | None
    slice_timing: Decision
    fieldmap: Decision
    dummy_scans: Decision
    coregistration: Decision
    others: Mapping[str, Decision] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    confounds: Sequence[str] = ()
    warnings: Sequence[str] = ()


def subject_summary(summary: SubjectSummary) -> str:
    """HTML of the section Summary."""
    tasks = [f"{t} ({n} run{'s' if n > 1 else ''})" for t, n in summary.bold_by_task.items()]
    rows: list[tuple[str, object]] = [("Participant", f"sub-{summary.label}")]
    if summary.sessions:
        rows.append(("Sessions", ", ".join(summary.sessions)))
    rows += [
        ("T1w images", _listed(summary.t1w)),
        ("BOLD series", ", ".join(tasks) or "none"),
        ("Output spaces", ", ".join(summary.spaces) or "none"),
    ]
    rows += list(summary.decisions.items())
    return _table(rows) + _warnings(summary.problems)


def conform_summary(
    rows: Sequence[ConformRow], shape: Sequence[int], zooms_mm: Sequence[float], orientation: str
) -> str:
    """HTML of the table of T1w inputs, with the grid they became.

    Parameters
    ----------
    rows : sequence of ConformRow
        One an input.
    shape, zooms_mm, orientation
        Grid of the anatomical reference.
    """
    body = [
        [r.name, r.orientation, _times(r.shape), _millimetres(r.zooms_mm), r.note] for r in rows
    ]
    target = [
        ("Output orientation", orientation),
        ("Output dimensions", _times(shape)),
        ("Output voxel size", _millimetres(zooms_mm)),
    ]
    head = ["Input", "Orientation", "Dimensions", "Voxel size", "What was done"]
    return _grid(head, body) + _table(target)


def fieldmap_summary(rows: Sequence[FieldmapRow]) -> str:
    """HTML of the field maps found and of the choice."""
    if not rows:
        return "<p>No field map was found. Susceptibility distortion was not corrected.</p>"
    body = []
    for row in rows:
        runs = "; ".join(row.chosen_for)
        status = f"chosen for {runs}" if runs else "not used"
        body.append([row.name, row.method, "; ".join(row.sources), status, row.reason])
    head = ["Field map", "Method", "Files", "Choice", "Reason"]
    note = ""
    if not any(row.applied for row in rows):
        note = _warnings(
            ["Field maps are found and reported but not applied yet: distortions remain."]
        )
    return _grid(head, body) + note


def surface_summary(
    measures: Mapping[str, tuple[str, str]],
    warnings: Sequence[str] = (),
    note: str = "",
    source: str = "",
) -> str:
    """HTML of the surfaces of both hemispheres.

    Parameters
    ----------
    measures : mapping of name to (left, right)
        Shown in this order.
    warnings : sequence of str
        What is out of its usual range.
    note : str
        A sentence below the table.
    source : str
        Where the surfaces come from and why, a sentence below the table.
    """
    body = [[name, *pair] for name, pair in measures.items()]
    below = "".join(f"<p>{html.escape(text)}</p>" for text in (source, note) if text)
    return _warnings(warnings) + _grid(["Measure", "Left", "Right"], body) + below


def bold_summary(summary: BoldSummary) -> str:
    """HTML of the summary of one BOLD run."""
    rows: list[tuple[str, object]] = [
        ("File", summary.name),
        ("Orientation", summary.orientation),
        ("Dimensions", f"{_times(summary.shape[:3])}, {summary.shape[3]} frames"),
        ("Voxel size", _millimetres(summary.zooms_mm)),
        ("Repetition time", f"{summary.tr_s:.4g} s"),
        ("Phase encoding", _phase_encoding(summary.pe_direction)),
        ("Slice timing", summary.slice_timing),
        ("Field map", summary.fieldmap),
        ("Non-steady-state frames", summary.dummy_scans),
        ("Coregistration", summary.coregistration),
        *summary.others.items(),
    ]
    text = _warnings(summary.warnings) + _table(rows)
    order = dict.fromkeys((*QUALITY_NAMES, *summary.metrics))
    shown = {k: summary.metrics[k] for k in order if k in summary.metrics and k not in SHOWN_ABOVE}
    if shown:
        body = [
            [QUALITY_NAMES.get(k, k), f"{v:.0f}" if abs(v) >= 100 else f"{v:.3g}"]
            for k, v in shown.items()
        ]
        text += _grid(["Quality measure", "Value"], body)
    if summary.confounds:
        names = ", ".join(html.escape(str(c)) for c in summary.confounds)
        text += (
            f"<details><summary>Confounds collected ({len(summary.confounds)})</summary>"
            f"<p>{names}.</p></details>"
        )
    return text


def about_summary(
    version: str,
    command: str,
    date: str,
    versions: Mapping[str, str] | None = None,
    machine: Mapping[str, object] | None = None,
) -> str:
    """HTML of the section About.

    Parameters
    ----------
    version : str
        DeepPrep's.
    command : str
        Command line.
    date : str
        When the run took place.
    versions : mapping, optional
        Libraries and their versions.
    machine : mapping, optional
        Processor, memory, device, operating system.
    """
    rows: list[tuple[str, object]] = [("DeepPrep version", version), ("Date", date)]
    rows += [(str(k), str(v)) for k, v in (machine or {}).items()]
    text = _table(rows) + f"<p>Command line</p><pre>{html.escape(command)}</pre>"
    if versions:
        text += (
            "<details><summary>Versions of libraries</summary>"
            + _table([(k, v) for k, v in versions.items()])
            + "</details>"
        )
    return text


def errors_summary(crash_files: Sequence[str | os.PathLike], root: str | os.PathLike = "") -> str:
    """HTML of the section Errors.

    Parameters
    ----------
    crash_files : sequence of path-like
        Text files with a traceback and inputs. An unreadable one is still listed.
    root : path-like
        Cut from the file names shown.
    """
    if not crash_files:
        return '<p class="good">No errors to report.</p>'
    parts = [
        f'<p class="bad">{len(crash_files)} step{"s" if len(crash_files) > 1 else ""} failed. '
        "What depends on them is missing from this report and from the derivatives.</p>"
    ]
    for path in crash_files:
        name = os.path.relpath(path, root) if root else str(path)
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            text = f"This crash file cannot be read: {error.strerror}"
        parts.append(
            f"<details><summary><code>{html.escape(name)}</code>: "
            f"{html.escape(_headline(text))}</summary><pre>{html.escape(text)}</pre></details>"
        )
    return "\n".join(parts)


def write_fragment(fragment: str, out_html: str | os.PathLike) -> Path:
    """Write a fragment where the report finds it, e.g. ``sub-01_desc-summary_T1w.html``."""
    return write_text(out_html, fragment)


def _headline(text: str) -> str:
    """What went wrong: the ``Error:`` line of a crash report, or a traceback's exception."""
    lines = text.splitlines()
    for line in lines[:20]:
        if line.startswith("Error: "):
            return line.removeprefix("Error: ")[:300]
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (")]
    if starts:
        for line in lines[starts[-1] + 1 :]:
            if line and not line[0].isspace():
                return line[:300]
    return next((line for line in lines if line.strip()), "empty crash file")[:300]


def _table(rows: Sequence[tuple[str, object]]) -> str:
    out = ['<table class="facts">']
    for name, value in rows:
        out.append(f"<tr><th>{html.escape(str(name))}</th><td>{_cell(value)}</td></tr>")
    return "\n".join([*out, "</table>"])


def _grid(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    out = ['<table class="grid">', "<tr>"]
    out += [f"<th>{html.escape(h)}</th>" for h in head]
    out.append("</tr>")
    for row in body:
        out.append("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row) + "</tr>")
    return "\n".join([*out, "</table>"])


def _cell(value: object) -> str:
    if isinstance(value, Decision):
        reason = f'<span class="reason">{html.escape(value.reason)}</span>' if value.reason else ""
        return f"{html.escape(value.choice)}{reason}"
    return html.escape(str(value))


def _warnings(messages: Sequence[str]) -> str:
    return "".join(f'<p class="warning">{html.escape(m)}</p>' for m in messages)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "none"


def _times(shape: Sequence[int]) -> str:
    return " × ".join(str(int(n)) for n in shape)


def _millimetres(zooms_mm: Sequence[float]) -> str:
    return " × ".join(f"{float(np.round(z, 3)):g}" for z in list(zooms_mm)[:3]) + " mm"


def _phase_encoding(direction: str | None) -> str:
    names = {"i": "first axis", "j": "second axis", "k": "third axis"}
    if not direction:
        return "unknown (no PhaseEncodingDirection in the sidecar)"
    axis = names.get(direction[0])
    return f"{direction} ({axis} of the array)" if axis else direction
