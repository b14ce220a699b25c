"""Pydra worker: each task in its own process, within the run's resources, retried when killed."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
from pydra.engine.job import Job
from pydra.engine.result import Result, load_result
from pydra.workers.base import Worker

from deepprep.execution.child import ChildReport, ChildSettings
from deepprep.execution.crash import FailedJob, error_line, read_tail, write_crash_report
from deepprep.execution.events import EventLog
from deepprep.execution.processes import ProcessPool
from deepprep.execution.resources import Resources, Stage, stage_of
from deepprep.execution.slots import Grant, Slots

MEMORY_GROWTH = 2.0
"""Each further try reserves this many times the memory of the one before."""


class TaskFailed(Exception):
    """A task has failed for good and its failure is recorded."""

    def __init__(self, failed: FailedJob) -> None:
        super().__init__(f"{failed.path}: {failed.error}")
        self.failed = failed


@dataclass(frozen=True)
class WorkerOptions:
    """Options of :class:`ResourceWorker`.

    Attributes
    ----------
    scratch
        Folder for reports and printed output of tasks.
    crash_dir
        Folder for crash reports.
    max_tries
        How often a task that is killed or runs out of memory is tried.
    max_threads
        Upper limit to the threads of one task (``--omp-nthreads``); None sets none.
    """

    scratch: Path
    crash_dir: Path
    max_tries: int = 3
    max_threads: int | None = None


class ResourceWorker(Worker):
    """Runs tasks in processes of their own, as many at a time as the resources allow.

    A task has ``cpus`` threads whatever else runs and however many processors the run has, since
    the number of threads changes the last bits of sums. It is not tried again after a Python
    error; it is, with more memory kept free, when its process was killed or ran out of memory.

    Parameters
    ----------
    slots
        Stock of resources.
    options
        See :class:`WorkerOptions`.
    emit
        Where events go.
    """

    _plugin_name = "deepprep-local"

    def __init__(self, slots: Slots, options: WorkerOptions, emit: EventLog) -> None:
        super().__init__()
        self.slots = slots
        self.options = options
        self.emit = emit
        self.processes = ProcessPool()
        self._running: dict[str, asyncio.Future[None]] = {}
        options.scratch.mkdir(parents=True, exist_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        # Pydra pickles workflow jobs, with their submitter and us, into the cache
        return {"loop": None}

    async def run(self, job: Job[Any], rerun: bool = False) -> Result[Any]:
        """Run a task or take its result from the cache.

        Parameters
        ----------
        job
            Pydra job of a task (not a workflow), with the attributes ``deepprep_path`` and
            ``deepprep_priority`` that the submitter sets.
        rerun
            Run even if the cache has a result.

        Raises
        ------
        TaskFailed
            When it has failed for good.
        """
        loop = asyncio.get_running_loop()
        checksum = await loop.run_in_executor(None, getattr, job, "checksum")
        while checksum in self._running:  # the same work for another workflow
            await asyncio.wait([self._running[checksum]])
        self._running[checksum] = loop.create_future()
        try:
            return await self._run(job, rerun)
        finally:
            self._running.pop(checksum).set_result(None)

    def close(self) -> None:
        """Kill what still runs."""
        self.processes.close()

    async def _run(self, job: Job[Any], rerun: bool) -> Result[Any]:
        stage = stage_of(job.task)
        about = _about(job, stage)
        rerun = rerun or stage.always_run
        if not rerun:
            result = cached_result(job)
            if result is not None:
                self.emit("cached", **about)
                return _keep(job, result)
        # A result whose files are gone must not satisfy the task process either
        payload = _pickle(job)
        declared = stage.resources(job.task)
        for attempt in range(1, self.options.max_tries + 1):
            mem_gb = declared.mem_gb * MEMORY_GROWTH ** (attempt - 1)
            want = replace(declared, mem_gb=mem_gb)
            for note in self.slots.clamp(want)[1]:
                self.emit("note", **about, text=f"{about['path']} {note}")
            grant = await self.slots.acquire(want, getattr(job, "deepprep_priority", ()))
            started = time.monotonic()
            try:
                ended = await self._run_once(job, payload, about, attempt, declared, grant)
            finally:
                self.slots.release(grant)
            facts = {
                **about,
                "try": attempt,
                "seconds": round(time.monotonic() - started, 3),
                "cpu_seconds": ended.cpu_seconds,
                "peak_mb": ended.peak_mb,
                "log": str(ended.log_path),
            }
            if ended.ok:
                result = cached_result(job)
                if result is not None:
                    self.emit("done", **facts)
                    if ended.log_path.stat().st_size == 0:
                        ended.log_path.unlink()
                    return _keep(job, result)
                ended = replace(
                    ended,
                    ok=False,
                    error="it ended well but left no result, or named a file that is not there",
                )
            if not ended.may_retry or attempt == self.options.max_tries:
                break
            self.emit("retry", **facts, mem_gb=grant.mem_gb, error=ended.error)
        failed = FailedJob(
            path=about["path"],
            name=about["name"],
            label=about["label"],
            error=ended.error,
            error_text=ended.error_text or ended.error,
            crash_file="",
            tries=attempt,
            killed=ended.may_retry,
        )
        failed = write_crash_report(
            self.options.crash_dir,
            failed,
            task=job.task,
            log_path=ended.log_path,
            work_folder=job.cache_dir,
            facts={
                "threads": self._threads(declared),
                "memory kept free": f"{grant.mem_gb:.3g} GB",
                "peak memory": f"{ended.peak_mb / 1000:.3g} GB",
                "GPU": grant.gpu or "none",
            },
        )
        self.emit("failed", **facts, error=failed.error, crash_file=failed.crash_file)
        raise TaskFailed(failed)

    async def _run_once(
        self,
        job: Job[Any],
        payload: bytes,
        about: dict[str, Any],
        attempt: int,
        declared: Resources,
        grant: Grant,
    ) -> _Ended:
        stem = self.options.scratch / f"{job.checksum}-{job.uid[:8]}-{attempt}"
        report_path, log_path = stem.with_suffix(".json"), stem.with_suffix(".log")
        settings = ChildSettings(
            threads=self._threads(declared),
            gpu=grant.gpu,
            log_path=str(log_path),
            report_path=str(report_path),
            environ=dict(os.environ),
        )
        self.emit(
            "start",
            **about,
            **{"try": attempt, "cpus": grant.cpus, "mem_gb": grant.mem_gb, "gpu": grant.gpu},
        )
        # Our own look at the cache has said no: its process must not see it otherwise
        try:
            ended = await self.processes.run(payload, True, settings)
        finally:
            if not report_path.exists():
                _remove_leftovers(job)
        report = ChildReport.read(report_path)
        report_path.unlink(missing_ok=True)
        if report is not None:
            return _Ended(
                ok=report.status == "done",
                may_retry=report.status == "memory",
                error=error_line(report.error) if report.error else "",
                error_text=report.error,
                cpu_seconds=report.cpu_seconds,
                peak_mb=max(report.peak_mb, ended.seen_peak_mb),
                log_path=log_path,
            )
        tail = read_tail(log_path, 4000)
        if ended.code < 0 or ended.code == 255:
            why = f"killed by signal {-ended.code}" if ended.code < 0 else "killed"
            if ended.code in (-9, 255):
                why += ", most likely because memory ran out"
            why += f"; it last held {ended.seen_peak_mb / 1000:.2f} GB"
        else:
            why = f"its process ended by itself with exit status {ended.code}"
        return _Ended(
            ok=False,
            may_retry=ended.code < 0 or ended.code == 255,
            error=why,
            error_text=f"{why}\n{tail}".rstrip(),
            cpu_seconds=0.0,
            peak_mb=ended.seen_peak_mb,
            log_path=log_path,
        )

    def _threads(self, declared: Resources) -> int:
        return min(declared.cpus, self.options.max_threads or declared.cpus)


@dataclass(frozen=True)
class _Ended:
    ok: bool
    may_retry: bool
    error: str
    error_text: str
    cpu_seconds: float
    peak_mb: float
    log_path: Path


def cached_result(job: Job[Any]) -> Result[Any] | None:
    """A sound result of this job from the cache, else None.

    Pydra itself would also take a result without outputs (of an interrupted task) and one whose
    output files have been deleted.
    """
    try:
        result = load_result(job.checksum, job.all_caches, retries=1, polling_interval=0.0)
    except Exception:  # whatever unpickling raises: then it is of no use
        return None
    if result is None or result.errored or result.outputs is None:
        return None
    from pydra.utils.general import attrs_values

    if all(
        path.exists() for value in attrs_values(result.outputs).values() for path in _files(value)
    ):
        return result
    return None


def _files(value: Any) -> list[Path]:
    from fileformats.core import FileSet

    if isinstance(value, FileSet):
        return [Path(path) for path in value.fspaths]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return [path for item in value for path in _files(item)]
    return []


def _remove_leftovers(job: Job[Any]) -> None:
    # What a killed process could not remove itself
    job.lockfile.unlink(missing_ok=True)
    (job.cache_root / f"{job.checksum}_save.lock").unlink(missing_ok=True)
    (job.cache_root / f"{job.uid}_info.json").unlink(missing_ok=True)


def _keep(job: Job[Any], result: Result[Any]) -> Result[Any]:
    # Later tasks read their inputs from here instead of from disk
    job._errored = False
    job._cached_result = result
    return result


def _pickle(job: Job[Any]) -> bytes:
    # The submitter is of no use to a task, and making one there costs time
    submitter, job.submitter = job.submitter, None
    try:
        return cloudpickle.dumps(job)
    finally:
        job.submitter = submitter


def _about(job: Job[Any], stage: Stage) -> dict[str, Any]:
    return {
        "path": "/".join(getattr(job, "deepprep_path", (job.name,))),
        "name": job.name,
        "title": stage.title,
        "label": str(getattr(job.task, "label", "") or ""),
    }
