from deepprep.execution.subject_log import SubjectLogs


def test_each_subject_gets_its_own_events_and_what_its_tasks_printed(tmp_path):
    printed = tmp_path / "task.log"
    printed.write_text("iteration 1\niteration 2\n")
    logs = SubjectLogs(tmp_path / "logs")
    for event in (
        {
            "event": "run",
            "workflows": ["sub-01", "sub-02"],
            "n_cpus": 2,
            "mem_gb": 4.0,
            "gpus": [],
        },
        {
            "event": "done",
            "path": "sub-01/Mask",
            "title": "Brain mask",
            "seconds": 1.0,
            "peak_mb": 100.0,
            "log": str(printed),
        },
        {"event": "note", "text": "for everyone"},
    ):
        logs({"time": 1.7e9, **event})
    first, second = (logs.path(name).read_text() for name in ("sub-01", "sub-02"))
    assert "sub-01: Brain mask: 1.0 s" in first
    assert "    | iteration 2\n" in first
    assert "Brain mask" not in second
    assert "for everyone" in first and "for everyone" in second
