import json

from deepprep._version import __version__
from deepprep.execution.events import EventLog, read_events
from deepprep.execution.provenance import summarise, write_provenance


def write_events(path) -> None:
    emit = EventLog(path, [])
    emit("run", workflows=["old"])
    emit("done", path="old", seconds=9.0, peak_mb=9999.0)
    emit("run", workflows=["sub-01"])
    emit("note", text="a note")
    emit("retry", path="sub-01/A", seconds=3.0, peak_mb=800.0, error="killed", **{"try": 1})
    emit("done", path="sub-01/A", seconds=2.0, peak_mb=700.0, cpu_seconds=3.5, **{"try": 2})
    emit("cached", path="sub-01/B", label="x")


def test_provenance_is_of_the_last_run(tmp_path):
    events = tmp_path / "events.jsonl"
    write_events(events)
    path = tmp_path / "logs" / "provenance.json"
    write_provenance(path, settings={"fd": 0.5}, events_path=events, extra={"why": "because"})
    record = json.loads(path.read_text())
    assert record["settings"] == {"fd": 0.5}
    assert record["why"] == "because"
    assert record["code"].startswith(__version__)
    assert record["versions"]["pydra"] == "1.0a12"
    assert record["machine"]["cpus"] >= 1
    assert record["notes"] == ["a note"]
    assert record["tasks"] == [
        {
            "path": "sub-01/A",
            "state": "done",
            "try": 2,
            "seconds": 2.0,
            "cpu_seconds": 3.5,
            "peak_mb": 800.0,
            "error": "killed",
        },
        {"path": "sub-01/B", "state": "cached", "label": "x"},
    ]
    assert record["peak_task_mb"] == 800.0
    assert [entry.name for entry in path.parent.iterdir()] == ["provenance.json"]


def test_without_events_there_is_still_a_record(tmp_path):
    record = write_provenance(tmp_path / "p.json", settings={})
    assert "tasks" not in record
    assert summarise([])["tasks"] == []


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    events = tmp_path / "events.jsonl"
    write_events(events)
    whole = list(read_events(events))
    with open(events, "a") as file:
        file.write('{"event": "do')
    assert list(read_events(events)) == whole
