"""Task processes: each one fresh, forked from a server that has loaded the slow libraries."""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.spawn
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil

from deepprep.execution.child import IDLE_THREADS, THREAD_VARIABLES, ChildSettings, run_job

PRELOAD = (
    "deepprep.execution.child",
    "pydra.engine.job",
    "numpy",
    "nibabel",
    "scipy.ndimage",
    "threadpoolctl",
    "torch",
)
"""Loaded once in the fork server and shared by all tasks. Importing them starts no thread there
and opens no GPU, so that forking is safe; numba is left out since it fixes its number of threads
when imported."""
MEMORY_WATCH_S = 1.0
"""Seconds between two looks at the memory of a task process."""


@dataclass(frozen=True)
class TaskExit:
    """End of a task process.

    Attributes
    ----------
    code
        Exit status; ``-9`` means killed by signal 9.
    seen_peak_mb
        Largest resident memory seen from outside (1e6 bytes): all that is known of a process
        that was killed.
    """

    code: int
    seen_peak_mb: float


class ProcessPool:
    """Starts, watches and kills the processes of tasks.

    Parameters
    ----------
    preload
        Modules that the fork server loads (those not installed are left out); by default
        ``PRELOAD``. A server that already runs in this process keeps what it has.
    """

    def __init__(self, preload: tuple[str, ...] | None = None) -> None:
        self._context = multiprocessing.get_context("forkserver")
        warm_up(preload)
        # Starting and reaping must not overlap: both read a process's exit status, which can be
        # read once. Not in the event loop either: the first start waits for the preloading.
        self._one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="task-processes")
        self._alive: dict[int, psutil.Process] = {}
        self._closed = False

    async def run(self, payload: bytes, rerun: bool, settings: ChildSettings) -> TaskExit:
        """Run one pickled job in a process of its own and wait for its end.

        Cancelling kills the process and everything it started.

        Raises
        ------
        RuntimeError
            When the pool has been killed.
        """
        loop = asyncio.get_running_loop()
        process: Any = self._context.Process(target=run_job, args=(payload, rerun, settings))
        starting = loop.run_in_executor(self._one_at_a_time, self._start, process)
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Exception):
                await starting
            await self._end(process)
            raise
        memory = _Memory(self._alive.get(process.pid))
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(process.sentinel, _settle, ended)
        try:
            while not ended.done():
                await asyncio.wait([ended], timeout=MEMORY_WATCH_S)
                memory.look()
        finally:
            loop.remove_reader(process.sentinel)
            code = await self._end(process)
        return TaskExit(code, memory.peak_mb)

    def kill_all(self) -> None:
        """Kill every task process at once; no new one can start."""
        self._closed = True
        for process in list(self._alive.values()):
            kill_tree(process)

    def close(self) -> None:
        """Kill what is left and free the threads."""
        self.kill_all()
        self._one_at_a_time.shutdown(wait=True)

    async def _end(self, process: Any) -> int:
        loop = asyncio.get_running_loop()
        reaping = loop.run_in_executor(self._one_at_a_time, self._reap, process)
        try:
            return await asyncio.shield(reaping)
        except asyncio.CancelledError:
            await reaping
            raise

    def _start(self, process: Any) -> None:
        if self._closed:
            raise RuntimeError("the run is being stopped")
        with _server_environment():  # in case the server has died
            multiprocessing.forkserver.ensure_running()
        with _main_module_not_imported():
            process.start()
        with suppress(psutil.NoSuchProcess):
            self._alive[process.pid] = psutil.Process(process.pid)
            if self._closed:  # killed while we were starting
                kill_tree(self._alive[process.pid])

    def _reap(self, process: Any) -> int:
        if process.pid is None:
            return -9
        # It is alive when we are cancelled, or when the fork server has died under it
        if process.pid in self._alive:
            kill_tree(self._alive.pop(process.pid))
        process.join()
        code = process.exitcode
        process.close()
        return int(code)


def warm_up(preload: tuple[str, ...] | None = None) -> None:
    """Start the fork server, which loads the slow libraries while the caller goes on.

    To be called early, before the data set is read; :class:`ProcessPool` does it too. Calling
    it again does nothing.

    Parameters
    ----------
    preload
        As in :class:`ProcessPool`.
    """
    names = PRELOAD if preload is None else preload
    multiprocessing.set_forkserver_preload([name for name in names if _installed(name)])
    with _server_environment():
        multiprocessing.forkserver.ensure_running()


def kill_tree(root: psutil.Process) -> None:
    """Kill a process and all its descendants (SIGKILL); never another that got its number."""
    with suppress(psutil.NoSuchProcess):
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


class _Memory:
    """Largest memory of a process and its descendants, looked at now and then."""

    def __init__(self, process: psutil.Process | None) -> None:
        self.peak_mb = 0.0
        self._process = process

    def look(self) -> None:
        if self._process is None:
            return
        with suppress(psutil.Error):
            family = [self._process, *self._process.children(recursive=True)]
            now = sum(process.memory_info().rss for process in family) / 1e6
            self.peak_mb = max(self.peak_mb, round(now, 1))


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name.split(".")[0]) is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def _server_environment() -> Iterator[None]:
    # Read when the server starts, too late in the tasks: the order of sets must not change from
    # run to run; nothing of the current folder may hide a library; no threads before the fork.
    variables = {"PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}
    variables |= dict.fromkeys(THREAD_VARIABLES, "1")
    variables["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", IDLE_THREADS)
    saved = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _main_module_not_imported() -> Iterator[None]:
    # multiprocessing would import the user's script in each task. All a task needs comes by
    # cloudpickle, which needs no __main__; so scripts need no `if __name__ == "__main__"`.
    original = multiprocessing.spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = original(name)
        data.pop("init_main_from_path", None)
        data.pop("init_main_from_name", None)
        return data

    multiprocessing.spawn.get_preparation_data = without_main  # type: ignore[assignment]
    try:
        yield
    finally:
        multiprocessing.spawn.get_preparation_data = original
