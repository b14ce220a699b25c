import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import SoftFileLock

from deepprep.execution import locks
from deepprep.execution.locks import (
    DEAD_AFTER_S,
    RunMarker,
    clear_stale_locks,
    sweep_hash_cache,
)


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_lock(path: Path, pid: int, host: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{pid}\n{host}\n")
    return path


def test_a_lock_of_a_dead_process_is_removed(tmp_path):
    lock = write_lock(tmp_path / "Task-1.lock", dead_process(), locks._host())
    in_hashes = write_lock(tmp_path / "hashes/ab.lock", dead_process(), locks._host())
    said = clear_stale_locks(tmp_path)
    assert not lock.exists() and not in_hashes.exists()
    assert len(said) == 2 and "Task-1.lock" in "".join(said) and "is gone" in said[0]


def test_a_lock_of_a_live_process_stays(tmp_path):
    with SoftFileLock(tmp_path / "Task-1.lock"):
        assert clear_stale_locks(tmp_path) == []
        assert (tmp_path / "Task-1.lock").exists()


def test_a_lock_older_than_the_process_of_that_number_is_removed(tmp_path):
    lock = write_lock(tmp_path / "Task-1.lock", os.getpid(), locks._host())
    os.utime(lock, (1e9, 1e9))
    clear_stale_locks(tmp_path)
    assert not lock.exists()


def test_a_lock_of_another_machine_is_removed_unless_a_run_lives_there(tmp_path, monkeypatch):
    lock = write_lock(tmp_path / "Task-1.lock", 1, "node7")
    with monkeypatch.context() as there:
        there.setattr(locks, "_host", lambda: "node7")
        marker = RunMarker(tmp_path)
    with marker:
        assert clear_stale_locks(tmp_path) == []
        assert lock.exists()
        # its last sign of life is too old: the machine has died
        old = time.time() - DEAD_AFTER_S - 60
        os.utime(marker._path, (old, old))
        assert "no live run on node7" in clear_stale_locks(tmp_path)[0]
    assert not lock.exists()


def test_an_old_empty_lock_is_removed_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.time, "sleep", lambda _: pytest.fail("waited"))
    lock = tmp_path / "Task-1.lock"
    lock.touch()
    os.utime(lock, (1e9, 1e9))
    assert len(clear_stale_locks(tmp_path)) == 1
    assert not lock.exists()


def test_a_new_lock_that_stays_empty_is_of_a_process_killed_before_it_signed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SIGNED_WITHIN_S", 0.3)
    lock = tmp_path / "Task-1_save.lock"
    lock.touch()
    assert "it names no process" in clear_stale_locks(tmp_path)[0]
    assert not lock.exists()


def test_a_lock_signed_while_it_is_watched_stays(tmp_path, monkeypatch):
    lock = tmp_path / "Task-1.lock"
    lock.touch()
    # its process signs it between our first and our second look
    monkeypatch.setattr(
        locks.time, "sleep", lambda _: lock.write_text(f"{os.getpid()}\n{locks._host()}\n")
    )
    assert clear_stale_locks(tmp_path) == []
    assert lock.exists()


def test_a_lock_of_a_zombie_is_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    lock = write_lock(tmp_path / "Task-1.lock", process.pid, locks._host())
    said = clear_stale_locks(tmp_path)
    process.wait()
    assert "is dead" in said[0] and not lock.exists()


def test_a_run_leaves_no_sign_of_life(tmp_path):
    with RunMarker(tmp_path):
        assert len(list((tmp_path / "runs").iterdir())) == 1
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_content_hash_cut_short_is_removed(tmp_path):
    (tmp_path / "good").write_bytes(b"x" * 16)
    (tmp_path / "cut").write_bytes(b"")
    assert len(sweep_hash_cache(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    assert sweep_hash_cache(tmp_path / "missing") == []


def test_the_length_of_stored_hashes_is_what_pydra_writes(tmp_path, monkeypatch):
    from fileformats.generic import File
    from pydra.utils.hash import hash_function

    monkeypatch.setenv("PYDRA_HASH_CACHE", str(tmp_path / "hashes"))
    (tmp_path / "file.txt").write_text("x")
    hash_function(File(tmp_path / "file.txt"))
    assert sweep_hash_cache(tmp_path / "hashes") == []
    assert len(list((tmp_path / "hashes").iterdir())) == 1
