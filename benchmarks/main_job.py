"""Wall time, peak memory and stage times of the main job on a BIDS data set.

    python benchmarks/main_job.py BIDS_DIR WORK [more deepprep arguments]

Runs `deepprep BIDS_DIR WORK/out participant` from an empty work folder, samples the memory of all
its processes ten times a second (proportional set size, so that shared pages count once), and
appends a section to benchmarks/results/main_job.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results" / "main_job.md"


def memory_gb(process: psutil.Process) -> float:
    """Memory of a process and its children, shared pages counted once, in GB."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("work", type=Path)
    args, more = parser.parse_known_args()
    shutil.rmtree(args.work, ignore_errors=True)
    out, work = args.work / "out", args.work / "work"
    job = [sys.executable, "-m", "deepprep.cli.main", str(args.bids_dir), str(out),
           "participant", "-w", str(work), *more]  # fmt: skip
    started = time.monotonic()
    child = subprocess.Popen(job)
    watched, peak = psutil.Process(child.pid), 0.0
    while child.poll() is None:
        try:
            peak = max(peak, memory_gb(watched))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    code = child.wait()
    wall_s = time.monotonic() - started
    disk_gb = sum(p.stat().st_size for p in work.rglob("*") if p.is_file()) / 1e9
    stages = []
    for events in work.glob("*/events.jsonl"):
        for line in events.read_text().splitlines():
            event = json.loads(line)
            if event["event"] == "done":
                stages.append((event["path"], event["seconds"], event["peak_mb"] / 1000))
    lines = [f"## {args.bids_dir.name}", "", f"`deepprep {args.bids_dir.name} OUT participant "
             f"{' '.join(more)}`: exit {code}, **{wall_s / 60:.1f} min** wall, peak memory "
             f"**{peak:.2f} GB** (all processes), work folder {disk_gb:.2f} GB; "
             f"{psutil.cpu_count()} processors.", "",
             "| stage | seconds | peak GB |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {p} | {s:.1f} | {g:.2f} |" for p, s, g in stages if s >= 1]
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as f:
        f.write("\n".join(lines) + "\n\n")
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
