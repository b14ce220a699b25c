"""All subjects of a run: workflows, then methods text, quality tables and reports."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepprep._version import __version__
from deepprep.bids.derivatives import derivative_path, write_dataset_description
from deepprep.bids.problems import Problem
from deepprep.bids.records import Entities, SubjectInputs
from deepprep.config import Settings
from deepprep.errors import InputError
from deepprep.execution.crash import FailedJob


def run(settings: Settings, subjects: Sequence[SubjectInputs], problems: Sequence[Problem]) -> int:
    """Preprocess the subjects and write their reports.

    Parameters
    ----------
    settings : Settings
    subjects : sequence of SubjectInputs
        Those that passed the checks, without the runs that did not.
    problems : sequence of Problem
        What the checks found.

    Returns
    -------
    int
        0 when everything ran, 1 when something failed.
    """
    from deepprep.execution.processes import warm_up
    from deepprep.execution.progress import progress_display
    from deepprep.execution.provenance import write_provenance
    from deepprep.execution.subject_log import SubjectLogs
    from deepprep.execution.submit import run_workflows
    from deepprep.workflows.choices import Choices
    from deepprep.workflows.subject import Subject

    warm_up()
    device, gpus = choose_device(settings.device)
    logs = settings.out_dir / "logs"
    choices = Choices.from_settings(settings, device).to_json()
    write_dataset_description(settings.out_dir, settings.bids_dir)
    workflows = [
        (
            subject.name,
            Subject(
                subject=subject.to_json(),
                choices=choices,
                problems=[p.sentence() for p in problems if p.subject in ("", subject.name)],
            ),
        )
        for subject in subjects
    ]
    events = settings.work_dir / settings.run_uuid / "events.jsonl"
    started = time.monotonic()
    with progress_display() as display:
        outcomes = run_workflows(
            workflows,
            cache_root=settings.work_dir / "cache",
            n_cpus=settings.nprocs,
            mem_gb=settings.mem_gb,
            gpus=gpus,
            events_path=events,
            on_event=[display, SubjectLogs(logs)],
            logs_dir=logs / settings.run_uuid,
            omp_nthreads=settings.omp_nthreads,
            stop_on_first_crash=settings.stop_on_first_crash,
        )
    plain = {
        k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(settings).items()
    }
    write_provenance(logs / "provenance.json", settings=plain, events_path=events)
    crashes = [job for outcome in outcomes.values() for job in outcome.failed_jobs]
    failed_reports = _write_pages(settings, subjects, device, crashes)
    failures = 0
    for name, outcome in outcomes.items():
        for job in outcome.failed_jobs:
            failures += 1
            _say(f"FAILED {job.path}: {job.error} (see {job.crash_file})")
        if outcome.skipped:
            skipped = ", ".join(path.removeprefix(f"{name}/") for path in outcome.skipped)
            _say(f"NOT DONE in {name}, since it needs what failed: {skipped}")
        if not outcome.ok and not outcome.failed_jobs:
            failures += 1
            _say(f"NOT DONE {name}: {outcome.error_text or 'stopped'}")
    for text in failed_reports:
        failures += 1
        _say(text)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    good = sum(o.ok for o in outcomes.values())
    _say(f"{good} of {len(outcomes)} finished without failures in {minutes} min {seconds} s")
    _name_reports(settings, subjects)
    return 1 if failures else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def rerender(settings: Settings, subjects: Sequence[SubjectInputs]) -> int:
    """Rewrite methods text (``--boilerplate-only``) or methods and reports (``--reports-only``).

    Raises
    ------
    InputError
        When the output folder holds no records of an earlier run.
    """
    from deepprep.interfaces.delivery import RECORDS, read_records

    if not any((settings.out_dir / RECORDS).glob("*.json")):
        raise InputError(
            f"{settings.out_dir} holds no records of an earlier run ({RECORDS}): "
            "run without --reports-only or --boilerplate-only first."
        )
    if settings.boilerplate_only:
        _write_methods(settings.out_dir, read_records(settings.out_dir))
        _say(f"Methods text: {settings.out_dir / 'logs' / 'CITATION.md'}")
        return 0
    failed = _write_pages(settings, subjects, "", None)
    for text in failed:
        _say(text)
    _name_reports(settings, subjects)
    return 1 if failed else 0


def _name_reports(settings: Settings, subjects: Sequence[SubjectInputs]) -> None:
    for label in dict.fromkeys(s.label for s in subjects):
        page = settings.out_dir / f"sub-{label}.html"
        if page.exists():
            _say(f"Report: {page}")


def _crashes_of_last_run(out_dir: Path, label: str) -> list[Path]:
    """Crash files that the last run (not one that only wrote reports) left for a participant."""
    from deepprep.reports.report import find_crash_files

    try:
        text = (out_dir / "logs" / "provenance.json").read_text(encoding="utf-8")
        run_uuid = str(json.loads(text)["settings"]["run_uuid"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not (out_dir / "logs" / run_uuid).is_dir():
        return []
    return find_crash_files(out_dir, label, run_uuid)


def choose_device(wanted: str) -> tuple[str, tuple[str, ...]]:
    """The torch device for ``--device`` and the GPU slots for the scheduler.

    Returns
    -------
    device : str
        ``cpu``, ``cuda`` or ``mps``: what a task uses (it sees only its own GPU).
    gpus : tuple of str
        One entry per GPU that may be used.

    Raises
    ------
    InputError
        When the device asked for is not there.
    """
    if wanted == "cpu":
        return "cpu", ()
    # Importing torch costs a second: only where there may be a GPU.
    maybe = os.path.exists("/dev/nvidia0") or sys.platform in ("darwin", "win32")
    if wanted == "auto" and not maybe:
        return "cpu", ()
    import torch

    if torch.cuda.is_available() and wanted != "mps":
        number = wanted.partition(":")[2]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = (
            visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
        )
        if number:
            if int(number) >= len(names):
                raise InputError(
                    f"--device {wanted}: this machine has {len(names)} GPU(s), "
                    "numbered from 0; choose another number."
                )
            names = [names[int(number)]]
        return "cuda", tuple(names)
    if wanted == "auto":
        return "cpu", ()
    if wanted == "mps" and torch.backends.mps.is_available():
        return "mps", ("0",)
    raise InputError(
        f"--device {wanted}: this device is not available to torch {torch.__version__} here; "
        "use --device auto or cpu."
    )


def _write_pages(
    settings: Settings,
    subjects: Sequence[SubjectInputs],
    device: str,
    crashes: Sequence[FailedJob] | None,
) -> list[str]:
    """Methods, quality tables and HTML reports; returns what failed, one line each.

    Without ``crashes`` the reports are those of the run before: with its errors, its command.
    """
    from deepprep.interfaces.delivery import read_records
    from deepprep.quality.table import write_metrics
    from deepprep.reports.report import write_subject_report

    _write_methods(settings.out_dir, read_records(settings.out_dir))
    failed = []
    for label in dict.fromkeys(s.label for s in subjects):
        mine = [s for s in subjects if s.label == label]
        try:
            metrics: dict[str, dict[str, float]] = {}
            for subject in mine:
                _write_fragments(settings, subject, device, again=crashes is None)
                for record in read_records(settings.out_dir, subject.name):
                    for source, values in record["metrics"].items():
                        metrics.setdefault(source, {}).update(values)
            if metrics:
                write_metrics(settings.out_dir, label, metrics)
            names = {subject.name for subject in mine}
            crash_files: list[Any] = (
                _crashes_of_last_run(settings.out_dir, label)
                if crashes is None
                else [c.crash_file for c in crashes if c.path.split("/")[0] in names]
            )
            write_subject_report(
                settings.out_dir, label, settings.run_uuid, crash_files=crash_files
            )
        except Exception as error:
            # A broken page must not hide that the derivatives are there.
            failed.append(f"FAILED report of sub-{label}: {type(error).__name__}: {error}")
    return failed


def _write_methods(out_dir: Path, records: Sequence[dict[str, Any]]) -> None:
    from deepprep.reports.boilerplate import write_citations
    from deepprep.reports.methods import Step

    steps = [Step.from_dict(step) for record in records for step in record["steps"]]
    if steps:
        write_citations(out_dir, steps)


def _write_fragments(
    settings: Settings, subject: SubjectInputs, device: str, *, again: bool
) -> None:
    """The sections About and B0 field mapping of a report."""
    from deepprep.execution.provenance import machine, versions
    from deepprep.reports.summaries import about_summary, fieldmap_summary, write_fragment

    if not subject.t1w:
        return

    def path(entities: Entities, desc: str, suffix: str) -> Path:
        return derivative_path(
            settings.out_dir, entities, datatype="figures", desc=desc, suffix=suffix,
            extension=".html",
        )  # fmt: skip

    about = about_summary(
        __version__,
        shlex.join(["deepprep", *sys.argv[1:]]),
        time.strftime("%Y-%m-%d %H:%M:%S %z"),
        versions(),
        {**machine(), **({"Device": device} if device else {})},
    )
    page = path({"sub": subject.label}, "about", "T1w")
    if not (again and page.exists()):
        write_fragment(about, page)
    if not settings.anat_only:
        found = fieldmap_summary(_fieldmap_rows(subject))
        write_fragment(found, path(subject.own_entities, "summary", "fieldmap"))


def _fieldmap_rows(subject: SubjectInputs) -> list[Any]:
    from deepprep.reports.summaries import FieldmapRow

    chosen: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
    rejected: dict[tuple[str, tuple[str, ...], str], None] = {}
    for run in subject.bold:
        if run.fieldmap.found:
            key = (run.fieldmap.fieldmap_id, run.fieldmap.sources)
            chosen.setdefault(key, []).append(run)
        for other in run.fieldmap.rejected:
            rejected.setdefault((other.method, other.sources, other.reason))
    for other in subject.rejected_fieldmaps:
        rejected.setdefault((other.method, other.sources, other.reason))
    rows = [
        FieldmapRow(
            name=name,
            method=runs[0].fieldmap.method,
            sources=[Path(s).name for s in runs[0].fieldmap.sources],
            chosen_for=[run.name for run in runs],
            reason=runs[0].fieldmap.reason,
        )
        for (name, _), runs in chosen.items()
    ]
    rows += [
        FieldmapRow(name="", method=m, sources=[Path(s).name for s in sources], reason=reason)
        for m, sources, reason in rejected
    ]
    return rows
