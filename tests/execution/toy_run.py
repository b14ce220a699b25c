"""Script for the tests of resume: run the toy workflow in the given folder."""

import json
import sys
from pathlib import Path

from deepprep.execution import processes
from deepprep.execution.submit import run_workflows
from tests.execution import toys

if __name__ == "__main__":
    processes.PRELOAD = ("deepprep.execution.child", "pydra.engine.job")  # a quick start
    folder, n, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    journal = str(folder / "journal.txt")
    outcome = run_workflows(
        [("w", toys.SlowWorkflow(n=n, journal=journal, seconds=seconds))],
        cache_root=folder / "cache",
        n_cpus=2,
        mem_gb=4.0,
        events_path=folder / "events.jsonl",
    )["w"]
    print(json.dumps({"ok": outcome.ok, "total": getattr(outcome.outputs, "value", None)}))
