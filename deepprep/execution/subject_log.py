"""A log file for each subject: what ran, how long, what it printed."""

from __future__ import annotations

import time
from pathlib import Path

from deepprep.execution.crash import read_tail
from deepprep.execution.events import Event
from deepprep.execution.progress import describe

PRINTED_CHARACTERS = 5_000
"""Of what a task printed, at most so much goes to the log of its subject."""


class SubjectLogs:
    """Listener that appends the events of each top-level workflow to ``<name>.log``.

    Parameters
    ----------
    folder
        Folder of the logs (``OUT/logs``); made when missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._names: list[str] = []

    def path(self, name: str) -> Path:
        """Log file of the workflow ``name``."""
        return self._folder / f"{name.replace('/', '_')}.log"

    def __call__(self, event: Event) -> None:
        """Append one event."""
        text = describe(event)
        if not text:
            return
        if event["event"] == "run":
            self._names = list(event["workflows"])
        if "path" in event:
            names = [event["path"].split("/", 1)[0]]
        else:
            names = self._names
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
        lines = [f"{stamp} {text}"]
        if event["event"] in ("done", "failed", "retry") and event.get("log"):
            printed = read_tail(Path(event["log"]), PRINTED_CHARACTERS).rstrip()
            lines += [f"    | {line}" for line in printed.splitlines()]
        for name in names:
            with open(self.path(name), "a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
