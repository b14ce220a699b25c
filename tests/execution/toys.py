"""Toy tasks and workflows for the tests of execution; importable, as real stages are."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from fileformats.generic import File
from pydra.compose import python, workflow

from deepprep.execution.resources import stage


def note(journal: str, text: str) -> None:
    """Append one line to a file, in one write."""
    with open(journal, "a") as file:
        file.write(f"{text}\n")


def shout(text: str) -> str:
    """A helper at module level that a task uses."""
    return text.upper()


@stage(cpus=1, mem_gb=0.2)
@python.define(outputs=["t1w"])
def Conform(source: File, label: str, journal: str) -> File:
    """Upper-case a file."""
    note(journal, f"Conform {label}")
    path = Path("conformed.txt").absolute()
    path.write_text(shout(Path(source).read_text()))
    return File(path)


@stage(cpus=1, mem_gb=0.2)
@python.define(outputs=["motion"])
def HeadMotion(bold: File, label: str, journal: str, fail: bool = False) -> File:
    """Pass a file on, or fail."""
    note(journal, f"HeadMotion {label}")
    print(f"estimating motion of {label}")
    if fail:
        raise ValueError(f"motion of {label} exploded\nand more")
    path = Path("motion.txt").absolute()
    path.write_text(Path(bold).read_text())
    return File(path)


@stage(cpus=2, mem_gb=0.2)
@python.define(outputs=["bold"])
def Coregister(t1w: File, motion: File, label: str, journal: str) -> File:
    """Join two files."""
    note(journal, f"Coregister {label}")
    path = Path("joined.txt").absolute()
    path.write_text(Path(t1w).read_text() + " " + Path(motion).read_text())
    return File(path)


@stage(always_run=True, mem_gb=0.2)
@python.define(outputs=["summary"])
def Publish(file: File, target: str, label: str, journal: str) -> str:
    """Copy a result to its place, always."""
    note(journal, f"Publish {label}")
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_bytes(Path(file).read_bytes())
    return json.dumps({"written": Path(target).name})


@workflow.define(outputs=["summary"])
def BoldWorkflow(
    t1w: File, bold: File, label: str, out_dir: str, journal: str, fail: bool = False
) -> str:
    """One BOLD run."""
    motion = workflow.add(HeadMotion(bold=bold, label=label, journal=journal, fail=fail))
    joined = workflow.add(Coregister(t1w=t1w, motion=motion.motion, label=label, journal=journal))
    written = workflow.add(
        Publish(file=joined.bold, target=f"{out_dir}/{label}.txt", label=label, journal=journal)
    )
    return written.summary


@workflow.define(outputs=["summary"])
def SubjectWorkflow(
    t1w: File, runs: list[tuple[str, File, bool]], label: str, out_dir: str, journal: str
) -> str:
    """One subject: anatomy, then a nested workflow for each BOLD run."""
    anat = workflow.add(Conform(source=t1w, label=label, journal=journal))
    written = workflow.add(
        Publish(file=anat.t1w, target=f"{out_dir}/t1w.txt", label="t1w", journal=journal),
        name="PublishT1w",
    )
    for run_label, bold, fail in runs:
        workflow.add(
            BoldWorkflow(
                t1w=anat.t1w,
                bold=bold,
                label=run_label,
                out_dir=out_dir,
                journal=journal,
                fail=fail,
            ),
            name=f"bold_{run_label}",
        )
    return written.summary


@stage(mem_gb=1.0)
@python.define(outputs=["value"])
def Unlucky(journal: str, how: str, until: int = 99, label: str = "unlucky") -> int:
    """Die in some way in the first tries."""
    note(journal, f"Unlucky {how}")
    tries = Path(journal).read_text().count(f"Unlucky {how}\n")
    if tries < until:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "memory":
            raise MemoryError("Unable to allocate 9 TiB")
        if how == "cuda":
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 TiB")
        if how == "exit":
            sys.exit(3)
        if how == "gone":
            os._exit(5)
    return tries


@stage(mem_gb=0.2)
@python.define(outputs=["value"])
def AddOne(value: int, journal: str, label: str = "") -> int:
    """Add one."""
    note(journal, f"AddOne {value}")
    return value + 1


@stage(mem_gb=0.2, code=("tests.execution.toys",))
@python.define(outputs=["total"])
def Total(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


@workflow.define(outputs=["total"])
def UnluckyWorkflow(journal: str, how: str, until: int) -> int:
    """An unlucky task and what needs it, beside a chain that does not."""
    unlucky = workflow.add(Unlucky(journal=journal, how=how, until=until))
    after = workflow.add(AddOne(value=unlucky.value, journal=journal), name="After")
    chain = workflow.add(AddOne(value=100, journal=journal), name="Chain1")
    chain = workflow.add(AddOne(value=chain.value, journal=journal), name="Chain2")
    chain = workflow.add(AddOne(value=chain.value, journal=journal), name="Chain3")
    total = workflow.add(Total(first=after.value, second=chain.value))
    return total.total


@stage(cpus=3, mem_gb=50)
@python.define(outputs=["seen"])
def ShowSurroundings(label: str = "") -> dict:
    """What the process of a task looks like."""
    import random

    import numpy as np
    import torch

    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED",
             "OMP_WAIT_POLICY")  # fmt: skip
    return {
        "environment": {name: os.environ.get(name) for name in names},
        "torch_threads": torch.get_num_threads(),
        "random": [random.random(), float(np.random.rand()), float(torch.rand(1))],  # noqa: NPY002
        "hash": hash("deepprep"),
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "in_cache": Path.cwd().name.startswith("ShowSurroundings-"),
        "label": label,
    }


@stage(gpu=True, mem_gb=0.2)
@python.define(outputs=["gpu"])
def OnGpu(label: str) -> str:
    """The GPU this task sees."""
    return os.environ["CUDA_VISIBLE_DEVICES"]


@workflow.define(outputs=["total"])
def BrokenLayout(label: str) -> int:
    """A workflow whose function raises."""
    raise KeyError(f"no such run {label}")


@workflow.define(outputs=["total"])
def SubjectWithBrokenRun(journal: str) -> int:
    """A run that cannot be laid out beside a task that can run."""
    workflow.add(BrokenLayout(label="x"), name="bold_x")
    return workflow.add(AddOne(value=1, journal=journal)).value


@stage(mem_gb=0.2)
@python.define(outputs=["number"])
def Lie(label: str = "") -> int:
    """Return something of another type than declared."""
    return "seven"


@workflow.define(outputs=["total"])
def WrongTypeWorkflow(journal: str) -> int:
    """The wrong type is only seen when the next task gets it."""
    number = workflow.add(Lie())
    workflow.add(AddOne(value=number.number, journal=journal), name="Next")
    return workflow.add(AddOne(value=5, journal=journal), name="Other").value


@stage(mem_gb=0.2)
@python.define(outputs=["value"])
def TwinA(value: int) -> int:
    return value + len(__name__)


@stage(mem_gb=0.2)
@python.define(outputs=["value"])
def TwinB(value: int) -> int:
    return value + len(__name__)


@stage(mem_gb=0.2, code=("tests.execution.toys",))
@python.define(outputs=["value"])
def Slow(number: int, journal: str, seconds: float, after: int = 0) -> int:
    """Take a while; tell the number of the process."""
    note(journal, f"Slow {number} {os.getpid()}")
    time.sleep(seconds)
    Path("result.txt").write_text(f"{number} {after}")
    return number + after


@workflow.define(outputs=["value"])
def SlowWorkflow(n: int, journal: str, seconds: float) -> int:
    """Two chains of slow tasks."""
    left = workflow.add(Slow(number=0, journal=journal, seconds=seconds), name="left0").value
    right = workflow.add(Slow(number=1, journal=journal, seconds=seconds), name="right0").value
    for i in range(1, n):
        left = workflow.add(
            Slow(number=10 * i, journal=journal, seconds=seconds, after=left), name=f"left{i}"
        ).value
        right = workflow.add(
            Slow(number=10 * i + 1, journal=journal, seconds=seconds, after=right),
            name=f"right{i}",
        ).value
    return workflow.add(Total(first=left, second=right)).total
