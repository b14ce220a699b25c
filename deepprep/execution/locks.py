"""Locks left by runs that died, and the signs of life that tell them from those of live runs."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import psutil
from filelock import SoftFileLock

HEARTBEAT_S = 20.0
"""Seconds between two signs of life of a run."""
DEAD_AFTER_S = 180.0
"""A run on another machine that gave no sign of life for so long (seconds) is dead."""
SIGNED_WITHIN_S = 5.0
"""A lock that has named no process for so long (seconds) was left by one killed between creating
and signing it; a live process signs its lock within an instant."""
HASH_BYTES = 16
"""Length of a content hash that Pydra stores."""


class RunMarker:
    """Sign of life of this run in the cache, for runs on other machines that share it.

    Parameters
    ----------
    cache_root
        Folder of the cache.
    """

    def __init__(self, cache_root: str | Path) -> None:
        folder = Path(cache_root) / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{uuid.uuid4().hex}.run"
        self._path.write_text(_host())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="sign-of-life")

    def __enter__(self) -> RunMarker:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(OSError):
                self._path.touch()


def clear_stale_locks(cache_root: str | Path) -> list[str]:
    """Remove locks whose holder is dead.

    A lock of this machine is stale when its process is gone (or is younger than the lock). One
    of another machine is stale when no run there has given a sign of life in the last
    ``DEAD_AFTER_S`` seconds; filelock by itself would wait for it for ever. One that names
    nobody is watched for ``SIGNED_WITHIN_S`` seconds: its process may just be signing it.

    Parameters
    ----------
    cache_root
        Folder of the cache; its ``hashes`` folder is looked at too.

    Returns
    -------
    list of str
        One sentence for each lock removed.
    """
    cache_root = Path(cache_root)
    live_hosts = _live_hosts(cache_root)
    removed = []
    unsigned: dict[tuple[Path, int], float] = {}
    while True:
        waiting = False
        for lock in [f for d in (cache_root, cache_root / "hashes") for f in d.glob("*.lock")]:
            with suppress(OSError):
                reason = _why_stale(lock, live_hosts)
                if reason is None:
                    seen = unsigned.setdefault((lock, lock.stat().st_ino), time.monotonic())
                    if time.monotonic() - seen < SIGNED_WITHIN_S:
                        waiting = True
                        continue
                    reason = "it names no process"
                if reason:
                    lock.unlink(missing_ok=True)
                    removed.append(f"removed the stale lock {lock.name}: {reason}")
        if not waiting:
            return removed
        time.sleep(0.1)


def sweep_hash_cache(folder: str | Path) -> list[str]:
    """Remove stored content hashes that a kill has cut short.

    Pydra writes them in place and trusts whatever it finds; a short one could stand for two
    different files.

    Parameters
    ----------
    folder
        Folder of stored hashes; may be missing.

    Returns
    -------
    list of str
        One sentence for each file removed.
    """
    removed = []
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".lock") or not entry.is_file():
                continue
            if entry.stat().st_size != HASH_BYTES:
                os.unlink(entry.path)
                removed.append(f"removed the incomplete content hash {entry.name[:16]}")
    return removed


def _why_stale(lock: Path, live_hosts: set[str]) -> str | None:
    """Reason, empty when its holder lives, None when it names nobody and is new."""
    written = lock.stat().st_mtime
    lines = lock.read_text(errors="replace").split("\n")
    if len(lines) < 2 or not lines[0].strip().isdigit():
        # Empty between creation and writing: for an instant, or for ever if killed just then.
        # The minute is for the clocks of file servers.
        return "it names no process" if time.time() - written > 60 else None
    pid, host = int(lines[0]), lines[1].strip()
    if host != _host():
        return "" if host in live_hosts else f"no live run on {host}"
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:  # in containers nobody may collect it
            return f"process {pid} is dead"
        born = process.create_time()
    except psutil.NoSuchProcess:
        return f"process {pid} is gone"
    except psutil.Error:
        return ""
    return f"process {pid} is another, younger one" if born > written + 2 else ""


def _live_hosts(cache_root: Path) -> set[str]:
    folder = cache_root / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    # "Now" by the clock of the file server, which also dates the signs of life
    probe = folder / f".now-{uuid.uuid4().hex}"
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink()
    alive = set()
    for marker in folder.glob("*.run"):
        with suppress(OSError):
            if now - marker.stat().st_mtime < DEAD_AFTER_S:
                alive.add(marker.read_text())
            else:
                marker.unlink(missing_ok=True)
    return alive


@lru_cache(maxsize=1)
def _host() -> str:
    # What filelock calls this machine: in containers it is more than the host name
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "probe.lock"
        with SoftFileLock(lock):
            lines = lock.read_text().split("\n")
    return lines[1].strip() if len(lines) > 1 and lines[1].strip() else socket.gethostname()
