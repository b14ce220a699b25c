"""What a person sees while it works: live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from deepprep.execution.events import Event


class TaskTally:
    """Counts of tasks, kept up to date by events; the arithmetic behind every display.

    Attributes
    ----------
    known
        Tasks of all workflows laid out so far.
    done, cached, failed, skipped
        How many of them ended so.
    running
        Event of the start of each task that runs, by path.
    """

    def __init__(self) -> None:
        self.known = 0
        self.done = 0
        self.cached = 0
        self.failed = 0
        self.skipped = 0
        self.running: dict[str, Event] = {}

    @property
    def ended(self) -> int:
        """Tasks that will not run any more."""
        return self.done + self.cached + self.failed + self.skipped

    def __call__(self, event: Event) -> None:
        """Take one event into account."""
        kind = event["event"]
        if kind == "workflow":
            self.known += event["tasks"]
        elif kind == "start":
            self.running[event["path"]] = event
        elif kind in ("done", "cached", "failed"):
            self.running.pop(event["path"], None)
            setattr(self, kind, getattr(self, kind) + 1)
            # A workflow that cannot even be laid out, or a single task run on its own
            self.known = max(self.known, self.ended + len(self.running))
        elif kind == "retry":
            self.running.pop(event["path"], None)
        elif kind == "skipped" and not event.get("is_workflow"):
            self.skipped += 1


class PlainProgress:
    """One line for each event worth reading; for logs, pipes and batch systems.

    Parameters
    ----------
    stream
        Where to write.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._tally = TaskTally()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._tally(event)
        text = describe(event)
        if text:
            clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
            count = f"[{self._tally.ended}/{self._tally.known}]"
            print(f"{clock} {count} {text}", file=self._stream, flush=True)


class LiveProgress:
    """A line with elapsed time for each running task and a bar over all known tasks (rich).

    Parameters
    ----------
    stream
        Terminal to draw on.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._tally = TaskTally()
        self._console = Console(file=stream or sys.stderr)
        self._stages = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._bar = Progress(
            TextColumn("all tasks"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[extra]}"),
            console=self._console,
        )
        self._total = self._bar.add_task("all", total=None, extra="")
        self._lines: dict[str, Any] = {}
        self._live = Live(
            Group(self._stages, self._bar), console=self._console, refresh_per_second=4
        )

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        from rich.markup import escape
        from rich.text import Text

        self._tally(event)
        path = event.get("path", "")
        for gone in [known for known in self._lines if known not in self._tally.running]:
            self._stages.remove_task(self._lines.pop(gone))
        if event["event"] == "start":
            self._lines[path] = self._stages.add_task(escape(_where(event)), total=None)
        elif event["event"] in ("failed", "retry", "note", "finished"):
            style = {"failed": "bold red", "retry": "yellow"}.get(event["event"], "")
            self._console.print(Text(describe(event), style=style))
        extra = f"{self._tally.failed} failed" if self._tally.failed else ""
        if self._tally.cached:
            extra = f"{self._tally.cached} done before  {extra}"
        self._bar.update(
            self._total, total=self._tally.known, completed=self._tally.ended, extra=extra
        )


def progress_display(stream: TextIO | None = None) -> PlainProgress | LiveProgress:
    """The display that suits ``stream`` (standard error by default).

    Use it as a context manager and give it to ``run_workflows`` as ``on_event``.
    """
    stream = stream or sys.stderr
    return LiveProgress(stream) if stream.isatty() else PlainProgress(stream)


def describe(event: Event) -> str:
    """One line of plain text for an event; an empty string when it is not worth one."""
    kind = event["event"]
    if kind == "run":
        gpus = ", ".join(event["gpus"]) or "none"
        return (
            f"run of {', '.join(event['workflows'])} with {event['n_cpus']} processors, "
            f"{event['mem_gb']:.3g} GB of memory, GPUs: {gpus}"
        )
    if kind == "start":
        again = f" (try {event['try']})" if event.get("try", 1) > 1 else ""
        return f"start  {_where(event)}{again}"
    if kind == "done":
        return f"done   {_where(event)}: {event['seconds']:.1f} s, {event['peak_mb'] / 1000:.2f} GB"
    if kind == "cached":
        return f"kept   {_where(event)}: done in an earlier run"
    if kind == "retry":
        return f"retry  {_where(event)}: {event['error']}"
    if kind == "failed":
        return f"FAILED {_where(event)}: {event['error']} (see {event['crash_file']})"
    if kind == "skipped":
        return f"skip   {event['path']}: needs {', '.join(event['because'])}, which failed"
    if kind == "finished":
        how = "finished" if event["ok"] else "finished with errors"
        return f"{event['path']} {how} after {event['seconds']:.0f} s"
    if kind == "note":
        return f"note   {event['text']}"
    return ""


def _where(event: Event) -> str:
    folder = event["path"].rpartition("/")[0]
    return f"{folder}: {event['title']}" if folder else str(event["title"])
