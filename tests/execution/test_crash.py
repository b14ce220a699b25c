import dataclasses
from pathlib import Path

from deepprep.execution.crash import FailedJob, error_line, write_crash_report
from tests.execution import toys

FAILED = FailedJob(
    path="sub-01/bold_task-rest/AddOne",
    name="AddOne",
    label="task-rest",
    error="ValueError: no",
    error_text="Traceback (most recent call last):\nValueError: no\n",
    crash_file="",
    tries=2,
)


def test_a_report_tells_the_inputs_the_traceback_and_what_was_printed(tmp_path):
    log = tmp_path / "task.log"
    log.write_text("started well")
    task = toys.AddOne(value=41, journal="j" * 5000)
    failed = write_crash_report(
        tmp_path / "logs", FAILED, task=task, log_path=log, facts={"threads": 3}
    )
    text = Path(failed.crash_file).read_text()
    assert dataclasses.replace(failed, crash_file="") == FAILED
    for words in (
        "Task:  sub-01/bold_task-rest/AddOne",
        "label: task-rest",
        "tries: 2",
        "threads: 3",
        "value = 41",
        "ValueError: no",
        "started well",
    ):
        assert words in text
    assert "j" * 3000 not in text, "long inputs are shortened"
    assert "function" not in text


def test_reports_of_the_same_second_do_not_overwrite_each_other(tmp_path):
    task = toys.AddOne(value=1, journal="")
    files = {write_crash_report(tmp_path, FAILED, task=task).crash_file for _ in range(4)}
    assert len(files) == 4


def test_the_error_line_is_that_of_the_last_error():
    def fail():
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("first line\nsecond line") from error

    import traceback

    try:
        fail()
    except RuntimeError as error:
        error.add_note("a note of Pydra")
        text = "".join(traceback.format_exception(error))
    assert error_line(text) == "RuntimeError: first line"
    assert error_line("killed by signal 9") == "killed by signal 9"
    assert error_line("") == "unknown error"


def test_the_type_of_our_own_errors_is_left_out():
    text = 'Traceback (most recent call last):\n  File "a.py", line 1\ndeepprep.errors.StageError: no brain; look.'
    assert error_line(text) == "no brain; look."
