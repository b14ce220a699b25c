"""The run's stock of processors, memory and GPUs, handed out to tasks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from deepprep.execution.resources import Resources

MAX_OVERTAKEN = 8
"""How often smaller tasks may go before the first one in the queue, before all wait for it."""


@dataclass(frozen=True)
class Grant:
    """What a task got: processor slots, memory in GB, the name of a GPU or None."""

    cpus: int
    mem_gb: float
    gpu: str | None = None


@dataclass(order=True)
class _Waiting:
    priority: tuple[int, ...]
    number: int
    want: Resources = field(compare=False)
    future: asyncio.Future[Grant] = field(compare=False)


class Slots:
    """Stock of resources for one event loop.

    Tasks are served by priority, then in order of arrival; a smaller one may overtake, but only
    ``MAX_OVERTAKEN`` times, so that a big task is never starved.

    Parameters
    ----------
    n_cpus
        Processor slots, at least 1.
    mem_gb
        Memory in GB.
    gpus
        Names of GPUs as ``CUDA_VISIBLE_DEVICES`` takes them, one per slot; a name given twice
        makes two slots on that GPU.
    """

    def __init__(self, n_cpus: int, mem_gb: float, gpus: Sequence[str] = ()) -> None:
        if n_cpus < 1 or mem_gb <= 0:
            raise ValueError(f"a run needs a processor and memory, not {n_cpus} and {mem_gb} GB")
        self.total = Resources(cpus=n_cpus, mem_gb=mem_gb, gpu=bool(gpus))
        self._free_cpus = n_cpus
        self._free_mem_gb = mem_gb
        self._free_gpus = [str(name) for name in gpus]
        self._queue: list[_Waiting] = []
        self._overtaken = 0
        self._numbers = itertools.count()

    def clamp(self, want: Resources) -> tuple[Resources, list[str]]:
        """Reduce needs to what the run has in all.

        Returns
        -------
        tuple
            The reduced needs (such a task runs when everything else is done) and sentences
            that say what was reduced.
        """
        notes = []
        if want.cpus > self.total.cpus:
            notes.append(
                f"asks for {want.cpus} processors, the run has {self.total.cpus}: takes them all"
            )
        if want.mem_gb > self.total.mem_gb:
            notes.append(
                f"needs about {want.mem_gb:.3g} GB, the run has {self.total.mem_gb:.3g} GB: "
                "runs alone and may run out of memory"
            )
        reduced = Resources(
            cpus=min(want.cpus, self.total.cpus),
            mem_gb=min(want.mem_gb, self.total.mem_gb),
            gpu=want.gpu and self.total.gpu,
        )
        return reduced, notes

    async def acquire(self, want: Resources, priority: tuple[int, ...] = ()) -> Grant:
        """Wait until ``want`` (reduced by :meth:`clamp`) is free and take it."""
        want, _ = self.clamp(want)
        waiting = _Waiting(
            priority, next(self._numbers), want, asyncio.get_running_loop().create_future()
        )
        self._queue.append(waiting)
        self._queue.sort()
        self._serve()
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting in self._queue:
                self._queue.remove(waiting)
                self._serve()
            elif waiting.future.done() and not waiting.future.cancelled():
                self.release(waiting.future.result())
            raise

    def release(self, grant: Grant) -> None:
        """Give back what a task had."""
        self._free_cpus += grant.cpus
        self._free_mem_gb += grant.mem_gb
        if grant.gpu is not None:
            self._free_gpus.append(grant.gpu)
        if self._idle():
            self._free_mem_gb = self.total.mem_gb  # no drift from sums of fractions
        self._serve()

    def _idle(self) -> bool:
        return self._free_cpus == self.total.cpus

    def _fits(self, want: Resources) -> bool:
        return (
            want.cpus <= self._free_cpus
            and want.mem_gb <= self._free_mem_gb + 1e-6
            and (not want.gpu or bool(self._free_gpus))
        )

    def _serve(self) -> None:
        blocked = False
        for waiting in list(self._queue):
            if not self._fits(waiting.want):
                if not blocked and self._overtaken >= MAX_OVERTAKEN:
                    return
                blocked = True
                continue
            self._queue.remove(waiting)
            self._overtaken = self._overtaken + 1 if blocked else 0
            self._free_cpus -= waiting.want.cpus
            self._free_mem_gb -= waiting.want.mem_gb
            gpu = self._free_gpus.pop(0) if waiting.want.gpu else None
            if not waiting.future.done():
                waiting.future.set_result(Grant(waiting.want.cpus, waiting.want.mem_gb, gpu))
            else:  # cancelled a moment ago, its own clean-up has not run yet
                self.release(Grant(waiting.want.cpus, waiting.want.mem_gb, gpu))
