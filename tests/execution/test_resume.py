"""Runs that are killed or stopped, in processes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from deepprep.execution.events import read_events

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120


def start(folder: Path, n: int, seconds: float) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tests/execution/toy_run.py"), folder, str(n), str(seconds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_until(condition, process: subprocess.Popen | None = None) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited too long"
        if process is not None:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def results(folder: Path) -> dict[str, bytes]:
    """Everything the tasks wrote, by the name of their folder in the cache."""
    return {path.parent.name: path.read_bytes() for path in (folder / "cache").glob("*/result.txt")}


def finish(folder: Path, n: int) -> dict:
    printed, errors = start(folder, n, 0.02).communicate(timeout=PATIENCE_S)
    assert printed, errors
    return json.loads(printed.splitlines()[-1])


def test_kill_9_at_any_moment_then_resume(tmp_path):
    n = 5
    folder = tmp_path / "killed"
    moments = random.Random(1)
    events = folder / "events.jsonl"
    for started in (1, 4, 7):
        process = start(folder, n, 0.02)
        # at least so many tasks have been started in all, and then some random time
        wait_until(lambda k=started: len(lines(folder / "journal.txt")) >= k, process)
        time.sleep(moments.uniform(0, 0.15))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done_before = {e["path"] for e in read_events(events) if e["event"] == "done"}
    n_before = sum(1 for _ in read_events(events))
    assert done_before, "the test is about something"
    assert finish(folder, n) == {"ok": True, "total": 205}  # 0 + 10 + ... + 41
    after = list(read_events(events))[n_before:]
    repeated = {e["path"] for e in after if e["event"] == "start"} & done_before
    assert repeated == set()
    # and the same as a run that nobody disturbed
    calm = tmp_path / "calm"
    calm.mkdir()
    assert finish(calm, n)["ok"]
    assert sorted(results(folder).values()) == sorted(results(calm).values())
    assert len(results(calm)) == 2 * n


def test_tasks_die_with_a_killed_main_process(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, 1, 300)
    wait_until(lambda: len(lines(folder / "journal.txt")) == 2, process)
    tasks = [int(line.split()[2]) for line in lines(folder / "journal.txt")]
    assert all(is_alive(pid) for pid in tasks)
    os.kill(process.pid, signal.SIGKILL)  # the main process alone, as the kernel does
    process.communicate()
    wait_until(lambda: not any(is_alive(pid) for pid in tasks))
    # their locks stand in nobody's way
    text = (folder / "journal.txt").read_text()
    assert len(text.splitlines()) == 2
    assert list((folder / "cache").glob("Slow-*.lock"))
    again = start(folder, 1, 300)
    wait_until(lambda: len(lines(folder / "journal.txt")) == 4, again)
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly(tmp_path, number):
    folder = tmp_path / "run"
    process = start(folder, 1, 300)
    wait_until(lambda: len(lines(folder / "journal.txt")) == 2, process)
    tasks = [int(line.split()[2]) for line in lines(folder / "journal.txt")]
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert errors.strip().endswith("KeyboardInterrupt")
    assert "Task was destroyed" not in errors and "Exception ignored" not in errors
    assert not any(is_alive(pid) for pid in tasks)
    assert not list((folder / "cache").glob("Slow-*.lock"))
    counted = Counter(e["event"] for e in read_events(folder / "events.jsonl"))
    assert counted["failed"] == 0, "being stopped is no failure"
