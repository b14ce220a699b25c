"""provenance.json: what ran, with which versions, on which machine, how long, how much memory."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepprep.execution.events import Event, read_events
from deepprep.execution.stamp import code_stamp

PACKAGES = (
    "deepprep",
    "pydra",
    "numpy",
    "scipy",
    "torch",
    "nibabel",
    "pybids",
    "nipype",
    "niworkflows",
    "sdcflows",
    "nireports",
    "nitransforms",
    "SimpleITK",
    "numba",
    "scikit-image",
    "deepbet",
    "nilearn",
)
"""Packages whose version can change results."""


def write_provenance(
    path: str | Path,
    *,
    settings: dict[str, Any],
    events_path: str | Path | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the record of a run, in one piece (temporary name, then rename).

    Parameters
    ----------
    path
        File to write, ``OUT/logs/provenance.json``.
    settings
        Options of the run.
    events_path
        Events of the run; of several runs in one file, the last one is taken.
    extra
        More to record (choices and their reasons).

    Returns
    -------
    dict
        What was written.
    """
    record: dict[str, Any] = {
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "code": code_stamp(),
        "versions": versions(),
        "machine": machine(),
        "settings": settings,
    }
    if events_path is not None and Path(events_path).exists():
        record |= summarise(last_run(read_events(events_path)))
    record |= extra or {}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)
    return record


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change results (those installed)."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Operating system, processors and memory of this machine (no host name)."""
    import psutil

    return {
        "system": platform.platform(),
        "processor": _processor_name(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }


def last_run(events: Any) -> list[Event]:
    """The events from the last ``run`` event on."""
    kept: list[Event] = []
    for event in events:
        if event["event"] == "run":
            kept = []
        kept.append(event)
    return kept


def summarise(events: Sequence[Event]) -> dict[str, Any]:
    """Durations, memory, retries and failures from the events of one run.

    Parameters
    ----------
    events
        Events in order of time.

    Returns
    -------
    dict
        ``seconds`` in all, ``peak_task_mb`` (the largest single task), and ``tasks``: one entry
        for each task with its path, state, seconds and peak memory.
    """
    tasks: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["event"] not in ("done", "cached", "failed", "skipped", "retry"):
            continue
        entry = tasks.setdefault(event["path"], {"path": event["path"]})
        entry["state"] = event["event"]
        for name in ("label", "try", "seconds", "cpu_seconds", "error"):
            if event.get(name) not in (None, ""):
                entry[name] = event[name]
        if "peak_mb" in event:  # of all tries
            entry["peak_mb"] = max(event["peak_mb"], entry.get("peak_mb", 0.0))
    peaks = [task["peak_mb"] for task in tasks.values() if "peak_mb" in task]
    times = [event["time"] for event in events]
    return {
        "seconds": round(times[-1] - times[0], 1) if times else 0.0,
        "peak_task_mb": max(peaks, default=0.0),
        "tasks": list(tasks.values()),
        "notes": [event["text"] for event in events if event["event"] == "note"],
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
