"""What a task needs to run: processors, memory, GPU; declared beside the task with ``@stage``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from deepprep.execution.stamp import code_stamp

TaskClass = TypeVar("TaskClass", bound=type)
STAGE_ATTRIBUTE = "_deepprep_stage"
FUNCTION_ATTRIBUTE = "_deepprep_function"


@dataclass(frozen=True)
class Resources:
    """Needs of one task.

    Attributes
    ----------
    cpus
        Threads the task uses; also the number of processor slots it takes.
    mem_gb
        Peak resident memory, in GB (1e9 bytes), for which room is kept free.
    gpu
        Whether the task takes one GPU slot when the run has any.
    """

    cpus: int = 1
    mem_gb: float = 1.0
    gpu: bool = False


@dataclass(frozen=True)
class Stage:
    """How a task class is run; made by :func:`stage`.

    Attributes
    ----------
    cpus, gpu
        As in :class:`Resources`.
    mem_gb
        Memory in GB, or a function of the task (with its inputs filled in) that returns it.
    title
        Words shown while the task runs.
    always_run
        The task is never taken from the cache (it writes outside the work directory).
    code
        Packages whose source is part of the cache key; empty means all of deepprep.
    """

    cpus: int = 1
    mem_gb: float | Callable[[Any], float] = 1.0
    gpu: bool = False
    title: str = ""
    always_run: bool = False
    code: tuple[str, ...] = ()

    def resources(self, task: Any) -> Resources:
        """Needs of ``task``, with the memory function applied to it."""
        mem_gb = self.mem_gb(task) if callable(self.mem_gb) else self.mem_gb
        return Resources(cpus=self.cpus, mem_gb=float(mem_gb), gpu=self.gpu)


def stage(
    *,
    cpus: int = 1,
    mem_gb: float | Callable[[Any], float] = 1.0,
    gpu: bool = False,
    title: str = "",
    always_run: bool = False,
    code: tuple[str, ...] = (),
) -> Callable[[TaskClass], TaskClass]:
    """Declare how a Pydra task class is run; used above ``@python.define``.

    Besides recording the needs, it makes the cache key complete: the name of the task and the
    source of the package become part of it (Pydra's own key has only the body of the function
    and the inputs), and the folder in the cache starts with the name of the task.

    Parameters
    ----------
    cpus, mem_gb, gpu
        See :class:`Resources`; ``mem_gb`` may be a function of the task.
    title
        Words shown while the task runs; made from the class name by default.
    always_run
        Never take the result from the cache: for tasks that write derivatives.
    code
        Packages or modules whose source is part of the cache key (``("deepprep.bold",)``); by
        default all of deepprep, so that any change of code recomputes.

    Returns
    -------
    Callable
        Decorator that returns the same class.

    Raises
    ------
    ValueError
        When ``cpus`` is below 1 or ``mem_gb`` is not positive.
    """
    if cpus < 1:
        raise ValueError(f"cpus must be at least 1, not {cpus}")
    if not callable(mem_gb) and mem_gb <= 0:
        raise ValueError(f"mem_gb must be positive, not {mem_gb}")

    def mark(task_class: TaskClass) -> TaskClass:
        words = title or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", task_class.__name__).capitalize()
        setattr(
            task_class,
            STAGE_ATTRIBUTE,
            Stage(cpus, mem_gb, gpu, title=words, always_run=always_run, code=tuple(code)),
        )
        _name_after_its_function(task_class)
        pydra_checksum = task_class._checksum  # type: ignore[attr-defined]
        where = f"{task_class.__module__}.{task_class.__qualname__}"

        def checksum(self: Any) -> str:
            from pydra.utils.hash import hash_function

            own = pydra_checksum.__get__(self)
            return f"{task_class.__name__}-{hash_function((own, where, code_stamp(*code)))}"

        task_class._checksum = property(checksum)  # type: ignore[attr-defined]
        return task_class

    return mark


def stage_of(task: Any) -> Stage:
    """The :class:`Stage` of a task or a task class; a default one when none was declared."""
    task_class = task if isinstance(task, type) else type(task)
    found = getattr(task_class, STAGE_ATTRIBUTE, None)
    if isinstance(found, Stage):
        return found
    return Stage(title=task_class.__name__)


def _name_after_its_function(task_class: Any) -> None:
    # Pydra builds the class in its own module ("types"), so that cloudpickle ships it by value.
    # With the true module and name it is found by import, which is shorter and gives both
    # processes one and the same class.
    from attrs import fields_dict

    function: Any = fields_dict(task_class)["function"].default
    task_class.__module__ = function.__module__
    task_class.__qualname__ = function.__qualname__
    outputs = task_class.Outputs
    outputs.__module__ = function.__module__
    outputs.__qualname__ = f"{function.__qualname__}.Outputs"
    # The function too, whose name in the module now means the class. Shipped by value it has no
    # source any more (cloudpickle 3.1.3), and Pydra, which hashes the source, takes it for another.
    setattr(task_class, FUNCTION_ATTRIBUTE, staticmethod(function))
    function.__qualname__ = f"{function.__qualname__}.{FUNCTION_ATTRIBUTE}"
