"""What happens in a run, as plain dictionaries: one JSON line each, read by progress and logs.

Every event has ``time`` (seconds since the epoch) and ``event``. Kinds:

``run``       start of the run: ``n_cpus``, ``mem_gb``, ``gpus``, ``workflows``.
``workflow``  a workflow was laid out: ``path``, ``tasks`` (how many tasks it adds).
``start``     a task process starts: ``path``, ``name``, ``title``, ``label``, ``try``, ``cpus``,
              ``mem_gb``, ``gpu``.
``done``      it ended well: also ``seconds``, ``cpu_seconds``, ``peak_mb``, ``log``.
``cached``    its result was taken from the work directory.
``retry``     it was killed or ran out of memory and is tried again: ``error``, ``mem_gb``.
``failed``    it will not be tried again: ``error``, ``crash_file``, ``peak_mb``, ``log``.
``skipped``   it could not run because ``because`` failed.
``note``      ``text`` worth telling.
``finished``  a top-level workflow ended: ``path``, ``ok``, ``seconds``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Listener = Callable[[Event], None]
logger = logging.getLogger("deepprep.execution")


class EventLog:
    """Writes events to a JSON-lines file and passes them on to listeners.

    Parameters
    ----------
    path
        File to append to; None writes no file.
    listeners
        Functions that get every event; an error in one is logged and never stops the run.
    """

    def __init__(self, path: str | Path | None, listeners: list[Listener]) -> None:
        self._listeners = listeners
        self._path = Path(path) if path is not None else None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, kind: str, **fields: Any) -> None:
        """Record one event of the given kind."""
        event: Event = {"time": round(time.time(), 3), "event": kind, **fields}
        if self._path is not None:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, default=str) + "\n")
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                logger.exception("a listener of events failed")


def read_events(path: str | Path) -> Iterator[Event]:
    """Events of a file, in order; a last line cut short by a kill is left out.

    Parameters
    ----------
    path
        JSON-lines file written by :class:`EventLog`.
    """
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
