"""Pydra submitter that keeps failures where they happen and never guesses the state of a task."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydra.engine.job import Job
from pydra.engine.submitter import NodeExecution, Submitter

from deepprep.execution.crash import FailedJob, error_line, write_crash_report
from deepprep.execution.events import EventLog
from deepprep.execution.resources import stage_of
from deepprep.execution.worker import ResourceWorker, TaskFailed

logger = logging.getLogger("deepprep.execution")


class WorkflowFailed(Exception):
    """Something in a workflow failed; each failure has been recorded where it happened."""


class SettledNode(NodeExecution):
    """Node of a running workflow whose state changes only when the worker says so.

    Pydra looks at the files of a running task to see how it is doing. It then takes the error
    of an earlier run, or of a try that will be repeated, for a failure; and when a task fails
    between two looks, it starts the next task, which cannot read its inputs, and that cancels
    the sibling branches.
    """

    blocked: dict[Any, Any] | None

    def update_status(self) -> None:
        """Do nothing: see :meth:`settle`."""

    def settle(self, job: Job[Any], *, ok: bool) -> None:
        """Record that a job of this node has ended."""
        self.queued.pop(job.state_index)
        (self.successful if ok else self.errored)[job.state_index] = job

    def give_up(self, predecessors: list[Any]) -> None:
        """Record that the node cannot run since predecessors failed."""
        self.unrunnable = {None: predecessors}
        self.blocked = {}


class IsolatingSubmitter(Submitter):
    """Runs workflows so that one failure leaves everything that does not depend on it running.

    Workflows themselves are always laid out anew; only tasks come from the cache.

    Parameters
    ----------
    cache_root
        Folder of the cache.
    worker
        The worker.
    emit
        Where events go.
    on_failure
        Called with each :class:`~deepprep.execution.crash.FailedJob`.
    """

    def __init__(
        self,
        cache_root: Path,
        worker: ResourceWorker,
        emit: EventLog,
        on_failure: Callable[[FailedJob], None],
    ) -> None:
        Job._etelemetry_checked = True  # no call home
        super().__init__(cache_root=cache_root, worker=worker)
        self._emit = emit
        self._on_failure = on_failure

    def __getstate__(self) -> dict[str, Any]:
        # Pickled with each workflow job into the cache, where nobody reads it
        return {"cache_root": self.cache_root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    async def run_workflow(self, name: str, task: Any, priority: int) -> Any:
        """Run one top-level workflow (or single task) and return its Pydra result.

        Raises
        ------
        WorkflowFailed
            When something in it failed.
        """
        path = (name,)
        try:
            job = Job(task, submitter=self, name=name)
        except Exception as error:
            self._record(path, name, task, error)
            raise WorkflowFailed(name) from error
        self._mark(job, path, priority)
        try:
            return await self._run_job(job)
        except (WorkflowFailed, TaskFailed) as error:
            if isinstance(error, TaskFailed):
                self._on_failure(error.failed)
            raise WorkflowFailed(name) from error
        except Exception as error:
            self._record(path, name, task, error)
            raise WorkflowFailed(name) from error

    async def expand_workflow_async(self, workflow_task: Any, rerun: bool) -> None:
        """Lay out one workflow and run its nodes; replaces Pydra's own loop.

        Parameters
        ----------
        workflow_task
            The job of the workflow.
        rerun
            Not passed on: only tasks that ask for it are run again.

        Raises
        ------
        WorkflowFailed
            When a node failed, after everything else has run.
        """
        path: tuple[str, ...] = workflow_task.deepprep_path
        workflow = workflow_task.task.construct()
        nodes = [SettledNode(node, self, workflow) for node in workflow.nodes]
        graph = workflow._create_graph(nodes)
        for node in nodes:
            node.graph = graph
        workflow_task.return_values = {"workflow": workflow, "exec_graph": graph}
        n_tasks = sum(not _is_workflow(node) for node in nodes)
        self._emit("workflow", path="/".join(path), tasks=n_tasks)

        running: dict[asyncio.Task[Any], tuple[SettledNode, Job[Any]]] = {}
        try:
            while True:
                for node, job in self._startable(graph, path):
                    self._mark(job, (*path, _job_name(job)), workflow_task.deepprep_priority[0])
                    running[asyncio.create_task(self._run_job(job))] = (node, job)
                if not running:
                    break
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for future in ended:
                    node, job = running.pop(future)
                    node.settle(job, ok=self._succeeded(future, job))
        finally:
            for future in running:
                future.cancel()
            if running:
                await asyncio.gather(*running, return_exceptions=True)
        if any(node.errored or node.unrunnable for node in nodes):
            raise WorkflowFailed("/".join(path))

    def _startable(self, graph: Any, path: tuple[str, ...]) -> list[tuple[SettledNode, Job[Any]]]:
        # In topological order, so that one pass passes a failure on to all that depend on it
        found = []
        for node in graph.sorted_nodes:
            if node.started:
                continue
            before = graph.predecessors[node.name]
            if failed := [other for other in before if other.errored or other.unrunnable]:
                node.give_up(failed)
                self._emit(
                    "skipped",
                    path="/".join((*path, node.name)),
                    name=node.name,
                    title=stage_of(node.node._task).title,
                    because=[other.name for other in failed],
                    is_workflow=_is_workflow(node),
                )
            elif all(other.done for other in before):
                try:
                    jobs = node.get_runnable_tasks(graph)
                except Exception as error:  # an input of the wrong type, a broken split
                    node.errored = {None: None}
                    node.blocked = {}
                    self._record((*path, node.name), node.name, node.node._task, error)
                else:
                    found += [(node, job) for job in jobs]
        return found

    async def _run_job(self, job: Job[Any]) -> Any:
        if not job.is_async:
            return await self.worker.run(job)
        await self.loop.run_in_executor(None, getattr, job, "checksum")
        result = await job.run_async(rerun=True)
        job._cached_result = result
        return result

    def _succeeded(self, future: asyncio.Task[Any], job: Job[Any]) -> bool:
        try:
            future.result()
        except WorkflowFailed:
            return False
        except TaskFailed as error:
            self._on_failure(error.failed)
            return False
        except Exception as error:
            self._record(job.deepprep_path, job.name, job.task, error)  # type: ignore[attr-defined]
            return False
        return True

    def _mark(self, job: Any, path: tuple[str, ...], priority: int) -> None:
        job.deepprep_path = path
        job.deepprep_priority = (priority,)

    def _record(self, path: tuple[str, ...], name: str, task: Any, error: Exception) -> None:
        text = "".join(traceback.format_exception(error))
        label = getattr(task, "label", "")
        failed = FailedJob(
            path="/".join(path),
            name=name,
            label=label if isinstance(label, str) else "",
            error=error_line(text),
            error_text=text,
            crash_file="",
            tries=1,
        )
        failed = write_crash_report(self.worker.options.crash_dir, failed, task=task)
        self._emit(
            "failed",
            path=failed.path,
            name=name,
            title=stage_of(task).title,
            label=failed.label,
            error=failed.error,
            crash_file=failed.crash_file,
            time_s=time.time(),
        )
        self._on_failure(failed)


def _is_workflow(node: NodeExecution) -> bool:
    from pydra.compose import workflow

    return isinstance(node.node._task, workflow.Task)


def _job_name(job: Job[Any]) -> str:
    return job.name if job.state_index is None else f"{job.name}[{job.state_index}]"
