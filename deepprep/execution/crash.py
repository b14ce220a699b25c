"""Crash reports: one text file for each task that failed, with all that helps to see why."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOG_TAIL_CHARACTERS = 20_000


@dataclass(frozen=True)
class FailedJob:
    """A task that failed for good.

    Attributes
    ----------
    path
        Names of the workflows and the task, joined by ``/``: ``sub-01/bold_rest/HeadMotion``.
    name
        Name of the task in its workflow.
    label
        Its ``label`` input, or an empty string.
    error
        One line that says what went wrong.
    error_text
        Traceback, or what is known of the end of the process.
    crash_file
        Path of the crash report, or an empty string when none could be written.
    tries
        How often it was tried.
    killed
        It was killed or ran out of memory (as opposed to a Python error).
    """

    path: str
    name: str
    label: str
    error: str
    error_text: str
    crash_file: str
    tries: int
    killed: bool = False


def write_crash_report(
    folder: str | Path,
    failed: FailedJob,
    *,
    task: Any,
    log_path: Path | None = None,
    work_folder: str | Path | None = None,
    facts: dict[str, Any] | None = None,
) -> FailedJob:
    """Write a crash report.

    Parameters
    ----------
    folder
        Folder for crash reports; made when missing.
    failed
        What is known of the failure.
    task
        The Pydra task, whose inputs are listed.
    log_path
        File with what the task printed.
    work_folder
        Folder of the task in the cache.
    facts
        More to write, name and value (resources, versions).

    Returns
    -------
    FailedJob
        The same, with ``crash_file`` filled in.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", failed.path)[-120:]
    path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{stem}.txt"
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.stem.removesuffix(f'-{number - 1}')}-{number}.txt")
    facts = {"label": failed.label, "tries": failed.tries, **(facts or {})}
    if work_folder is not None:
        facts["work folder"] = str(work_folder)
    lines = [f"Task:  {failed.path}", f"Error: {failed.error}", ""]
    lines += [f"{name}: {value}" for name, value in facts.items()]
    lines += ["", "Inputs", "------", *describe_inputs(task), "", "Traceback", "---------"]
    lines += [failed.error_text.rstrip(), "", "Printed by the task", "-------------------"]
    lines += [read_tail(log_path).rstrip() or "(nothing)", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return FailedJob(**{**asdict(failed), "crash_file": str(path)})


def describe_inputs(task: Any) -> list[str]:
    """One line for each input of a task: name and value, long values shortened."""
    from pydra.utils.general import get_fields

    lines = []
    for field in get_fields(task):
        if field.name in ("function", "constructor"):
            continue
        text = repr(getattr(task, field.name, None))
        lines.append(f"{field.name} = {text if len(text) <= 2000 else text[:2000] + ' ...'}")
    return lines


def last_line(text: str) -> str:
    """The last line of a traceback that says something: the error itself."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "unknown error"


def error_line(traceback_text: str) -> str:
    """The line of a traceback with the type and message of the last error.

    Notes and messages of several lines follow it, so it is the first line without indentation
    after the last frame.
    """
    lines = traceback_text.strip().splitlines()
    frames = [i for i, line in enumerate(lines) if line.startswith("  ")]
    for line in lines[frames[-1] + 1 :] if frames else lines:
        if line.strip():
            # Our own errors are whole sentences: their type says nothing more.
            return re.sub(r"^deepprep\.errors\.\w+: ", "", line.strip())
    return last_line(traceback_text)


def read_tail(path: Path | None, characters: int = LOG_TAIL_CHARACTERS) -> str:
    """End of a text file; an empty string when there is none."""
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-characters:]
    except OSError:
        return ""
