"""Run several workflows at once, isolated from each other: the door to the execution layer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepprep.execution.crash import FailedJob
from deepprep.execution.events import Event, EventLog, Listener
from deepprep.execution.locks import RunMarker, clear_stale_locks, sweep_hash_cache
from deepprep.execution.mounts import tell_pydra_the_mounts
from deepprep.execution.slots import Slots
from deepprep.execution.submitter import IsolatingSubmitter, WorkflowFailed
from deepprep.execution.worker import ResourceWorker, WorkerOptions


@dataclass(frozen=True)
class RunOutcome:
    """How one workflow ended.

    Attributes
    ----------
    ok
        Everything in it ran.
    outputs
        Outputs of the Pydra task, or None when it failed.
    error_text
        One line per failure; empty when ``ok``.
    failed_jobs
        The tasks that failed, in order of time.
    skipped
        Paths of the tasks and workflows that could not run because of them.
    seconds
        Time from the start of the run to the end of this workflow.
    """

    ok: bool
    outputs: Any = None
    error_text: str = ""
    failed_jobs: list[FailedJob] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_workflows(
    tasks: Sequence[tuple[str, Any]],
    *,
    cache_root: str | Path,
    n_cpus: int | None = None,
    mem_gb: float | None = None,
    gpus: Sequence[str] = (),
    events_path: str | Path | None = None,
    on_event: Listener | Sequence[Listener] | None = None,
    logs_dir: str | Path | None = None,
    omp_nthreads: int | None = None,
    max_tries: int = 3,
    stop_on_first_crash: bool = False,
) -> dict[str, RunOutcome]:
    """Run Pydra workflows (one per subject) at the same time in one pool of resources.

    Tasks whose result is in ``cache_root`` are not repeated; workflows themselves, and tasks
    declared with ``@stage(always_run=True)``, always run. Failures stay where they happen:
    whatever does not depend on a failed task runs to the end.

    Parameters
    ----------
    tasks
        Pairs of a unique name (``"sub-01"``) and a Pydra workflow task. Earlier ones come first
        when resources are short.
    cache_root
        Folder of the cache (in the work directory); made when missing.
    n_cpus, mem_gb
        Processors and memory (GB) for all tasks together; by default those of this machine
        (nine tenths of the memory that is free).
    gpus
        One entry per GPU slot, as ``CUDA_VISIBLE_DEVICES`` names them.
    events_path
        JSON-lines file to append events to (see :mod:`deepprep.execution.events`).
    on_event
        Function or functions called with each event: progress display, subject logs.
    logs_dir
        Folder for crash reports; ``cache_root/crash`` by default.
    omp_nthreads
        Upper limit to the threads of one task. The number of threads can change the last bits
        of results, so it never depends on ``n_cpus``.
    max_tries
        How often a task that is killed or runs out of memory is tried.
    stop_on_first_crash
        Stop everything as soon as one task has failed.

    Returns
    -------
    dict
        :class:`RunOutcome` for each name, in the given order.

    Raises
    ------
    ValueError
        When two workflows have the same name.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after all task processes have been killed.
    """
    names = [name for name, _ in tasks]
    if len(set(names)) != len(names):
        raise ValueError(f"the names of workflows must differ: {names}")
    cache_root = Path(cache_root).resolve()
    cache_root.mkdir(parents=True, exist_ok=True)
    slots = Slots(n_cpus or available_cpus(), mem_gb or available_memory_gb(), gpus)
    options = WorkerOptions(
        scratch=cache_root / "tasks",
        crash_dir=Path(logs_dir) if logs_dir is not None else cache_root / "crash",
        max_tries=max_tries,
        max_threads=omp_nthreads,
    )
    gathered = _Gathered()
    listeners = [on_event] if callable(on_event) else list(on_event or ())
    emit = EventLog(events_path, [gathered, *listeners])
    tell_pydra_the_mounts()
    os.environ["NO_ET"] = "1"  # no call home, here and in the task processes
    with RunMarker(cache_root), _hash_cache_in(cache_root):
        if stale := clear_stale_locks(cache_root) + sweep_hash_cache(cache_root / "hashes"):
            emit("note", text=f"a run before this was killed; cleared {len(stale)} stale locks")
        emit(
            "run",
            workflows=names,
            n_cpus=slots.total.cpus,
            mem_gb=slots.total.mem_gb,
            gpus=list(gpus),
        )
        return _run(tasks, cache_root, slots, options, emit, gathered, stop_on_first_crash)


def available_cpus() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_gb() -> float:
    """Nine tenths of the memory that is free now, within the limit of a container, in GB."""
    import psutil

    free = float(psutil.virtual_memory().available)
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            free = min(free, float(Path(limit).read_text()))
    return round(free / 1e9 * 0.9, 2)


class _Gathered:
    """Failures and skipped paths of each top-level workflow."""

    def __init__(self) -> None:
        self.failed: dict[str, list[FailedJob]] = {}
        self.skipped: dict[str, list[str]] = {}
        self.stop: Callable[[], None] = lambda: None

    def __call__(self, event: Event) -> None:
        if event["event"] == "skipped":
            self.skipped.setdefault(_root(event["path"]), []).append(event["path"])

    def on_failure(self, failed: FailedJob) -> None:
        self.failed.setdefault(_root(failed.path), []).append(failed)
        self.stop()


def _run(
    tasks: Sequence[tuple[str, Any]],
    cache_root: Path,
    slots: Slots,
    options: WorkerOptions,
    emit: EventLog,
    gathered: _Gathered,
    stop_on_first_crash: bool,
) -> dict[str, RunOutcome]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = ResourceWorker(slots, options, emit)
    try:
        submitter = IsolatingSubmitter(cache_root, worker, emit, gathered.on_failure)
        everything = loop.create_task(_run_all(tasks, submitter, slots, emit, gathered))
        if stop_on_first_crash:

            def stop() -> None:
                worker.processes.kill_all()
                everything.cancel()

            gathered.stop = stop
        stopped_by_crash = False
        with _stop_on_signal(loop, worker, everything) as interrupted:
            try:
                outcomes = loop.run_until_complete(everything)
            except asyncio.CancelledError:
                if interrupted:
                    raise KeyboardInterrupt from None
                stopped_by_crash = True
                outcomes = {}
        if stopped_by_crash:
            outcomes = {name: _stopped(name, gathered) for name, _ in tasks}
        return outcomes
    finally:
        worker.close()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        asyncio.set_event_loop(None)
        from pydra.engine.workflow import Workflow

        Workflow.clear_cache()


async def _run_all(
    tasks: Sequence[tuple[str, Any]],
    submitter: IsolatingSubmitter,
    slots: Slots,
    emit: EventLog,
    gathered: _Gathered,
) -> dict[str, RunOutcome]:
    # Subjects are laid out a few at a time, so that a thousand of them need no more memory and
    # disk than a few; more than the processors, so that none idles while one subject waits.
    open_doors = asyncio.Semaphore(slots.total.cpus + 2)
    started = time.monotonic()

    async def one(priority: int, name: str, task: Any) -> RunOutcome:
        async with open_doors:
            outputs = None
            ok = True
            try:
                outputs = (await submitter.run_workflow(name, task, priority)).outputs
            except WorkflowFailed:
                ok = False
            failed = gathered.failed.get(name, [])
            seconds = round(time.monotonic() - started, 3)
            emit("finished", path=name, ok=ok, seconds=seconds)
            return RunOutcome(
                ok=ok,
                outputs=outputs,
                error_text=_error_text(failed),
                failed_jobs=failed,
                skipped=gathered.skipped.get(name, []),
                seconds=seconds,
            )

    jobs = [asyncio.create_task(one(i, name, task)) for i, (name, task) in enumerate(tasks)]
    try:
        outcomes = await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    return {name: outcome for (name, _), outcome in zip(tasks, outcomes)}


def _stopped(name: str, gathered: _Gathered) -> RunOutcome:
    failed = gathered.failed.get(name, [])
    return RunOutcome(
        ok=False,
        error_text=_error_text(failed) or "stopped because another task failed",
        failed_jobs=failed,
        skipped=gathered.skipped.get(name, []),
    )


def _error_text(failed: list[FailedJob]) -> str:
    return "\n".join(
        f"{job.path}{f' ({job.label})' if job.label else ''}: {job.error}" for job in failed
    )


def _root(path: str) -> str:
    return path.split("/", 1)[0]


@contextmanager
def _hash_cache_in(cache_root: Path) -> Iterator[None]:
    # Pydra keeps hashes of files in the user's home; ours must be beside the cache, where we
    # can clear locks and where a container can write
    name = "PYDRA_HASH_CACHE"
    saved = os.environ.get(name)
    os.environ[name] = str(cache_root / "hashes")
    try:
        yield
    finally:
        if saved is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = saved


@contextmanager
def _stop_on_signal(
    loop: asyncio.AbstractEventLoop, worker: ResourceWorker, everything: asyncio.Task[Any]
) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM kill the task processes at once and end the loop."""
    received: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        worker.processes.kill_all()
        if received:  # a second time: do not even clean up
            raise KeyboardInterrupt
        received.append(number)
        loop.call_soon_threadsafe(everything.cancel)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    saved = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in saved.items():
            with contextlib.suppress(TypeError):
                signal.signal(number, handler)
