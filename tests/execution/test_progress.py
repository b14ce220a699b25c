import io

import pytest

from deepprep.execution.progress import (
    LiveProgress,
    PlainProgress,
    TaskTally,
    describe,
    progress_display,
)

ABOUT = {"path": "sub-01/bold_rest/HeadMotion", "title": "Head [motion]", "label": "rest"}
FACTS = {**ABOUT, "try": 1, "seconds": 12.34, "peak_mb": 1500.0, "log": ""}


def story() -> list[dict]:
    events = [
        {
            "event": "run",
            "workflows": ["sub-01"],
            "n_cpus": 2,
            "mem_gb": 8.0,
            "gpus": [],
        },
        {"event": "workflow", "path": "sub-01", "tasks": 1},
        {"event": "workflow", "path": "sub-01/bold_rest", "tasks": 3},
        {"event": "cached", "path": "sub-01/Conform", "title": "Conform", "label": ""},
        {"event": "start", **ABOUT, "try": 1, "cpus": 1, "mem_gb": 1.0, "gpu": None},
        {"event": "retry", **FACTS, "error": "killed by signal 9"},
        {"event": "start", **ABOUT, "try": 2, "cpus": 1, "mem_gb": 2.0, "gpu": None},
        {"event": "failed", **FACTS, "error": "ValueError: x", "crash_file": "/tmp/crash.txt"},
        {
            "event": "skipped",
            "path": "sub-01/bold_rest/Coregister",
            "title": "Coregister",
            "because": ["HeadMotion"],
            "is_workflow": False,
        },
        {"event": "note", "text": "worth telling"},
        {"event": "finished", "path": "sub-01", "ok": False, "seconds": 61.0},
    ]
    return [{"time": 1.7e9 + i, **event} for i, event in enumerate(events)]


def test_the_tally_counts_each_task_once():
    tally = TaskTally()
    seen = []
    for event in story():
        tally(event)
        seen.append((tally.ended, len(tally.running)))
    assert tally.known == 4
    assert (tally.done, tally.cached, tally.failed, tally.skipped) == (0, 1, 1, 1)
    assert seen[4:8] == [(1, 1), (1, 0), (1, 1), (2, 0)]


def test_a_skipped_workflow_is_not_counted_as_a_task():
    tally = TaskTally()
    tally({"event": "skipped", "path": "sub-01/bold", "is_workflow": True})
    assert tally.ended == 0


def test_plain_lines_when_it_is_not_a_terminal():
    stream = io.StringIO()
    display = progress_display(stream)
    assert isinstance(display, PlainProgress)
    with display:
        for event in story():
            display(event)
    text = stream.getvalue()
    assert "[1/4] start  sub-01/bold_rest: Head [motion]\n" in text
    assert "(try 2)" in text
    assert "FAILED sub-01/bold_rest: Head [motion]: ValueError: x (see /tmp/crash.txt)" in text
    assert "skip   sub-01/bold_rest/Coregister: needs HeadMotion, which failed" in text
    assert "sub-01 finished with errors after 61 s" in text
    assert "\x1b" not in text


def test_done_tells_time_and_memory():
    assert describe({"event": "done", **FACTS}) == (
        "done   sub-01/bold_rest: Head [motion]: 12.3 s, 1.50 GB"
    )


def test_live_lines_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    display = progress_display(stream)
    assert isinstance(display, LiveProgress)
    events = story()
    with display:
        for event in events[:7]:
            display(event)
        display._live.refresh()
        running = stream.getvalue()
        for event in events[7:]:
            display(event)
    assert "sub-01/bold_rest: Head [motion]" in running, "brackets are not markup"
    assert "1/4" in running
    assert "3/4" in stream.getvalue()
    assert "ValueError: x" in stream.getvalue()
    assert display._lines == {}, "no line is left for a task that ended"


@pytest.mark.parametrize("event", story())
def test_every_event_has_a_description_or_none(event):
    assert isinstance(describe(event), str)
