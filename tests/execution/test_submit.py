import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fileformats.generic import File

from deepprep.execution.events import read_events
from deepprep.execution.submit import RunOutcome, run_workflows
from tests.execution import toys


class Sandbox:
    """A cache, a journal of what tasks did, and runs in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache"
        self.out = root / "out"
        self.events: list[dict] = []
        self._journal = root / "journal.txt"
        self._journal.touch()
        for name in ("t1w", "rest", "task", "bad"):
            (root / f"{name}.nii").write_text(f"data of {name}")

    @property
    def journal(self) -> str:
        return str(self._journal)

    def file(self, name: str) -> File:
        return File(self.root / f"{name}.nii")

    def did(self) -> list[str]:
        return self._journal.read_text().split("\n")[:-1]

    def forget(self) -> None:
        self._journal.write_text("")
        self.events.clear()

    def subject(self, label: str = "sub-01", fail: bool = True) -> toys.SubjectWorkflow:
        runs = [(name, self.file(name), fail and name == "bad") for name in ("rest", "bad", "task")]
        return toys.SubjectWorkflow(
            t1w=self.file("t1w"),
            runs=runs,
            label=label,
            out_dir=str(self.out / label),
            journal=self.journal,
        )

    def run(self, *tasks: tuple[str, object], **options) -> dict[str, RunOutcome]:
        options = {"n_cpus": 2, "mem_gb": 4.0, "on_event": self.events.append, **options}
        return run_workflows(
            list(tasks), cache_root=self.cache, events_path=self.root / "events.jsonl", **options
        )

    def seen(self, kind: str, name: str = "path") -> list:
        return [event[name] for event in self.events if event["event"] == kind]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def test_a_failed_bold_run_leaves_all_else_running_and_is_named(sandbox: Sandbox):
    outcomes = sandbox.run(
        ("sub-01", sandbox.subject()), ("sub-02", sandbox.subject("sub-02", fail=False))
    )
    first, second = outcomes["sub-01"], outcomes["sub-02"]
    assert not first.ok and first.outputs is None
    assert second.ok and json.loads(second.outputs.summary) == {"written": "t1w.txt"}
    # everything that does not depend on the failure has run, in both subjects
    assert sorted(path.name for path in (sandbox.out / "sub-01").iterdir()) == [
        "rest.txt",
        "t1w.txt",
        "task.txt",
    ]
    assert (sandbox.out / "sub-02/bad.txt").read_text() == "DATA OF T1W data of bad"
    # the failure has a name, a label, its error and a report
    (failed,) = first.failed_jobs
    assert (failed.path, failed.name, failed.label) == (
        "sub-01/bold_bad/HeadMotion",
        "HeadMotion",
        "bad",
    )
    assert failed.error == "ValueError: motion of bad exploded"
    assert "in HeadMotion" in failed.error_text
    assert failed.tries == 1 and not failed.killed
    report = Path(failed.crash_file).read_text()
    assert "bad.nii" in report and "Traceback" in report
    assert "estimating motion of bad" in report, "what the task printed belongs in the report"
    assert first.error_text == (
        "sub-01/bold_bad/HeadMotion (bad): ValueError: motion of bad exploded"
    )
    assert first.skipped == ["sub-01/bold_bad/Coregister", "sub-01/bold_bad/Publish"]


def test_a_second_run_repeats_only_what_failed_and_what_publishes(sandbox: Sandbox):
    sandbox.run(("sub-01", sandbox.subject()))
    (sandbox.out / "sub-01/rest.txt").unlink()
    sandbox.forget()
    outcome = sandbox.run(("sub-01", sandbox.subject()))["sub-01"]
    # An error left in the cache by the first run is not taken for the outcome of the second
    assert sorted(sandbox.did()) == [
        "HeadMotion bad",
        "Publish rest",
        "Publish t1w",
        "Publish task",
    ]
    assert [job.label for job in outcome.failed_jobs] == ["bad"]
    assert (sandbox.out / "sub-01/rest.txt").exists(), "deleted derivatives come back"
    assert "sub-01/bold_rest/Coregister" in sandbox.seen("cached")


def test_a_changed_option_repeats_only_what_depends_on_it(sandbox: Sandbox):
    sandbox.run(("sub-01", sandbox.subject()))
    sandbox.forget()
    outcome = sandbox.run(("sub-01", sandbox.subject(fail=False)))["sub-01"]
    assert outcome.ok
    assert sorted(line for line in sandbox.did() if "Publish" not in line) == [
        "Coregister bad",
        "HeadMotion bad",
    ]


def test_changed_content_of_an_input_file_is_noticed_and_its_path_does_not_matter(
    sandbox: Sandbox,
):
    def conform(name: str) -> toys.Conform:
        return toys.Conform(source=sandbox.file(name), label="x", journal=sandbox.journal)

    sandbox.run(("a", conform("t1w")))
    (sandbox.root / "copy.nii").write_text("data of t1w")
    sandbox.forget()
    sandbox.run(("a", conform("copy")))
    assert sandbox.did() == []
    (sandbox.root / "copy.nii").write_text("other data!")
    outcome = sandbox.run(("a", conform("copy")))["a"]
    assert sandbox.did() == ["Conform x"]
    assert Path(outcome.outputs.t1w).read_text() == "OTHER DATA!"


def test_a_result_whose_file_was_deleted_is_made_again(sandbox: Sandbox):
    task = toys.Conform(source=sandbox.file("t1w"), label="x", journal=sandbox.journal)
    path = Path(sandbox.run(("a", task))["a"].outputs.t1w)
    path.unlink()
    assert sandbox.run(("a", task))["a"].ok
    assert path.read_text() == "DATA OF T1W"
    assert sandbox.did() == ["Conform x", "Conform x"]


def test_the_same_task_of_two_subjects_runs_once(sandbox: Sandbox):
    task = toys.AddOne(value=7, journal=sandbox.journal)
    outcomes = sandbox.run(("a", task), ("b", task))
    assert [outcome.outputs.value for outcome in outcomes.values()] == [8, 8]
    assert sandbox.did() == ["AddOne 7"]


@pytest.mark.parametrize("how", ["killed", "memory"])
def test_a_killed_task_is_tried_again_with_more_memory_while_others_go_on(
    sandbox: Sandbox, how: str
):
    task = toys.UnluckyWorkflow(journal=sandbox.journal, how=how, until=3)
    outcome = sandbox.run(("w", task))["w"]
    # The task after it runs in the end: Pydra's own loop takes the first error for the last
    assert outcome.ok and outcome.outputs.total == (3 + 1) + (100 + 3)
    starts = [event for event in sandbox.events if event.get("title") == "Unlucky"]
    assert [(e["event"], e["try"]) for e in starts] == [
        ("start", 1),
        ("retry", 1),
        ("start", 2),
        ("retry", 2),
        ("start", 3),
        ("done", 3),
    ]
    assert [e["mem_gb"] for e in starts if e["event"] == "start"] == [1.0, 2.0, 4.0]


def test_a_task_killed_each_time_fails_alone(sandbox: Sandbox):
    task = toys.UnluckyWorkflow(journal=sandbox.journal, how="killed", until=99)
    outcome = sandbox.run(("w", task))["w"]
    (failed,) = outcome.failed_jobs
    assert failed.tries == 3 and failed.killed and failed.label == "unlucky"
    assert failed.error.startswith("killed by signal 9")
    assert {"AddOne 100", "AddOne 101", "AddOne 102"} <= set(sandbox.did())
    assert outcome.skipped == ["w/After", "w/Total"]
    assert not list(sandbox.cache.glob("*.lock")), "a killed task leaves no lock"


@pytest.mark.parametrize(
    ("how", "tries", "error"),
    [
        ("cuda", 2, "RuntimeError: CUDA out of memory. Tried to allocate 9 TiB"),
        ("exit", 1, "SystemExit: 3"),
        ("gone", 1, "its process ended by itself with exit status 5"),
    ],
)
def test_other_ways_to_die(sandbox: Sandbox, how: str, tries: int, error: str):
    task = toys.Unlucky(journal=sandbox.journal, how=how)
    outcome = sandbox.run(("w", task), max_tries=2)["w"]
    (failed,) = outcome.failed_jobs
    assert (failed.path, failed.tries, failed.error) == ("w", tries, error)
    # nor does Pydra's half-result count as done in the next run
    assert not sandbox.run(("w", task), max_tries=1)["w"].ok


def test_a_workflow_that_cannot_be_laid_out_fails_alone(sandbox: Sandbox):
    outcome = sandbox.run(("w", toys.SubjectWithBrokenRun(journal=sandbox.journal)))["w"]
    assert sandbox.did() == ["AddOne 1"]
    (failed,) = outcome.failed_jobs
    assert (failed.path, failed.label) == ("w/bold_x", "x")
    assert failed.error == "KeyError: 'no such run x'"
    assert Path(failed.crash_file).is_file()


def test_an_input_of_the_wrong_type_fails_that_task_alone(sandbox: Sandbox):
    outcome = sandbox.run(("w", toys.WrongTypeWorkflow(journal=sandbox.journal)))["w"]
    assert sandbox.did() == ["AddOne 5"]
    assert [job.path for job in outcome.failed_jobs] in (["w/Next"], ["w/Lie"])


def test_a_task_sees_its_threads_and_a_reproducible_process(sandbox: Sandbox):
    tasks = [(name, toys.ShowSurroundings(label=name)) for name in ("a", "b")]
    outcomes = sandbox.run(*tasks, n_cpus=1, mem_gb=2.0)
    first, second = (outcome.outputs.seen for outcome in outcomes.values())
    # 3 processors and 50 GB asked, 1 and 2 there: it runs all the same, with a note, and with
    # 3 threads, since threads change the last bits of results
    assert first["environment"] == {
        "OMP_NUM_THREADS": "3",
        "NUMBA_NUM_THREADS": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONHASHSEED": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    assert first["torch_threads"] == 3
    assert first["in_cache"]
    assert first["main"] is None, "the script of the user is not imported in tasks"
    assert first["random"] == second["random"]
    fixed = subprocess.run(
        [sys.executable, "-c", "print(hash('deepprep'))"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        check=True,
    )
    assert first["hash"] == int(fixed.stdout), "the order of sets is the same in each run"
    notes = sandbox.seen("note", "text")
    assert any("a needs about 50 GB, the run has 2 GB" in note for note in notes)
    assert any("b asks for 3 processors, the run has 1" in note for note in notes)


def test_omp_nthreads_limits_the_threads_of_a_task(sandbox: Sandbox):
    outcome = sandbox.run(("a", toys.ShowSurroundings()), omp_nthreads=1)["a"]
    assert outcome.outputs.seen["torch_threads"] == 1


def test_each_gpu_goes_to_one_task_at_a_time(sandbox: Sandbox):
    tasks = [(name, toys.OnGpu(label=name)) for name in "abc"]
    outcomes = sandbox.run(*tasks, gpus=["0", "1"])
    assert all(outcome.outputs.gpu in ("0", "1") for outcome in outcomes.values())
    free, held = {"0", "1"}, {}
    for event in sandbox.events:
        if event["event"] == "start":
            held[event["path"]] = event["gpu"]
            free.remove(event["gpu"])
        elif event["event"] == "done":
            free.add(held[event["path"]])


def test_without_a_gpu_the_task_runs_on_the_processor(sandbox: Sandbox):
    assert sandbox.run(("a", toys.OnGpu(label="a")))["a"].outputs.gpu == ""


def test_tasks_with_equal_bodies_do_not_share_results(sandbox: Sandbox):
    keys = {toys.TwinA(value=1)._checksum, toys.TwinB(value=1)._checksum}
    assert len(keys) == 2
    assert {key.split("-")[0] for key in keys} == {"TwinA", "TwinB"}


def test_stop_on_first_crash_stops_the_others(sandbox: Sandbox):
    unlucky = toys.Unlucky(journal=sandbox.journal, how="exit")
    slow = toys.Slow(number=1, journal=sandbox.journal, seconds=300)
    outcomes = sandbox.run(("bad", unlucky), ("slow", slow), stop_on_first_crash=True)
    assert outcomes["bad"].failed_jobs[0].error == "SystemExit: 3"
    assert not outcomes["slow"].ok
    assert outcomes["slow"].error_text == "stopped because another task failed"


def test_events_are_written_as_json_lines(sandbox: Sandbox):
    sandbox.run(("a", toys.AddOne(value=1, journal=sandbox.journal, label="here")))
    events = list(read_events(sandbox.root / "events.jsonl"))
    assert events == json.loads(json.dumps(sandbox.events))
    done = next(event for event in events if event["event"] == "done")
    assert (done["path"], done["label"], done["try"]) == ("a", "here", 1)
    assert done["peak_mb"] > 10
    assert done["seconds"] > 0


def test_names_must_differ(sandbox: Sandbox):
    task = toys.TwinA(value=1)
    with pytest.raises(ValueError, match="must differ"):
        sandbox.run(("a", task), ("a", task))


def test_the_environment_of_the_caller_is_left_as_it_was(sandbox: Sandbox, monkeypatch):
    monkeypatch.delenv("PYDRA_HASH_CACHE", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("NO_ET", "1")
    before = dict(os.environ)
    sandbox.run(("a", toys.TwinA(value=1)))
    assert dict(os.environ) == before
