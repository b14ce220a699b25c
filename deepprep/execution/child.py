"""What runs inside the process of one task: set-up, the Pydra job, a report back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MEMORY_ERROR_WORDS = ("out of memory", "can't allocate memory", "Cannot allocate memory")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
IDLE_THREADS = "PASSIVE"
"""Threads that wait sleep: spinning ones take the processors from other tasks and other users."""


@dataclass(frozen=True)
class ChildSettings:
    """Set-up of a task process.

    Attributes
    ----------
    threads
        Threads for every numerical library.
    gpu
        GPU to show to CUDA; None hides them all.
    log_path, report_path
        Where standard output and error go, and where the report is written.
    environ
        Environment variables of the main process; those of the fork server are older.
    """

    threads: int
    gpu: str | None
    log_path: str
    report_path: str
    environ: dict[str, str]


@dataclass(frozen=True)
class ChildReport:
    """How a task process ended, written by itself.

    Attributes
    ----------
    status
        ``"done"``, ``"error"`` (a Python error) or ``"memory"`` (a Python error that says that
        memory, of the machine or of the GPU, ran out).
    error
        Traceback, or an empty string.
    cpu_seconds, peak_mb
        Processor time and peak resident memory (1e6 bytes) of the process and its children.
    """

    status: str
    error: str
    cpu_seconds: float
    peak_mb: float

    @classmethod
    def read(cls, path: Path) -> ChildReport | None:
        """The report at ``path``; None when the process died before it wrote one."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def environment(settings: ChildSettings) -> dict[str, str]:
    """Environment variables of a task process: threads, GPU, reproducibility."""
    variables = dict(settings.environ)
    variables |= {name: str(settings.threads) for name in THREAD_VARIABLES}
    variables["CUDA_VISIBLE_DEVICES"] = "" if settings.gpu is None else settings.gpu
    variables["PYTHONHASHSEED"] = "0"  # for Python processes that the task starts
    variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic matrix products in CUDA
    variables.setdefault("OMP_WAIT_POLICY", IDLE_THREADS)
    variables["NO_ET"] = "1"
    return variables


def run_job(payload: bytes, rerun: bool, settings: ChildSettings) -> None:
    """Run one pickled Pydra job; the target of a task process.

    The result goes to the cache, everything printed to ``settings.log_path``, the outcome to
    ``settings.report_path``.

    Parameters
    ----------
    payload
        The job, by cloudpickle.
    rerun
        Run even if the cache has a result.
    settings
        Set-up of this process.
    """
    # Ctrl-C in a terminal reaches every process; the main one decides and kills us. (Pydra saves
    # a job that gets KeyboardInterrupt as if it had succeeded with no outputs.)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _print_to(settings.log_path)
    _die_with_the_run()
    _be_the_first_victim_of_memory_shortage()
    os.environ.clear()
    os.environ.update(environment(settings))
    _limit_loaded_libraries(settings.threads)
    started = time.process_time()
    status, error = _run(payload, rerun)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # ru_maxrss: kilobytes of 1024 on Linux, bytes on macOS
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    report = ChildReport(
        status=status,
        error=error[-50_000:],
        cpu_seconds=round(time.process_time() - started + usage[1].ru_utime, 3),
        peak_mb=round(max(u.ru_maxrss for u in usage) * unit / 1e6, 1),
    )
    partial = Path(settings.report_path + ".part")
    partial.write_text(json.dumps(asdict(report)))
    partial.replace(settings.report_path)
    sys.stdout.flush()
    sys.stderr.flush()


def _run(payload: bytes, rerun: bool) -> tuple[str, str]:
    import cloudpickle

    from deepprep.execution.mounts import tell_pydra_the_mounts

    job: Any = None
    try:
        tell_pydra_the_mounts()
        job = cloudpickle.loads(payload)
        _seed()
        job.run(rerun=rerun)
    except Exception as error:
        return ("memory" if _is_memory_error(error) else "error"), traceback.format_exc()
    except BaseException:  # SystemExit of a task: Pydra has saved it as a success, undo that
        if job is not None:
            (job.cache_dir / "_result.pklz").unlink(missing_ok=True)
        return "error", traceback.format_exc()
    return "done", ""


def _is_memory_error(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError | OSError) and any(
        words in str(error) for words in MEMORY_ERROR_WORDS
    )


def _seed() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def _limit_loaded_libraries(threads: int) -> None:
    # The variables are read when a library is loaded. Those that the fork server had loaded
    # before us must be told.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "numpy" in sys.modules:
        try:
            import threadpoolctl
        except ImportError:
            return
        threadpoolctl.threadpool_limits(threads)


def _print_to(path: str) -> None:
    import faulthandler

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    faulthandler.enable(file=2)


def _die_with_the_run() -> None:
    # When the main process is killed (kill -9, out of memory), a task must not live on: it
    # would hold its lock and use memory beside the next run.
    import multiprocessing
    from multiprocessing import connection

    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel = parent.sentinel

    def watch() -> None:
        connection.wait([sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-the-run").start()


def _be_the_first_victim_of_memory_shortage() -> None:
    # Linux: the kernel should kill the task, not the main process
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
