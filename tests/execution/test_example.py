"""How to define tasks and workflows and run them: the example to start from."""

import json
from pathlib import Path

from fileformats.generic import File
from pydra.compose import python, workflow

from deepprep.execution.progress import progress_display
from deepprep.execution.resources import stage
from deepprep.execution.subject_log import SubjectLogs
from deepprep.execution.submit import run_workflows


@stage(cpus=1, mem_gb=lambda task: 0.5 + 2e-9 * Path(task.t1w).stat().st_size, title="Conform")
@python.define(outputs=["conformed", "report"])
def ConformT1w(t1w: File, label: str) -> tuple[File, str]:
    """Two outputs: a file written in the folder of the task, and a small string."""
    import numpy as np  # slow libraries inside the function, light ones at module level

    conformed = Path("conformed.npy").absolute()
    np.save(conformed, np.fromfile(t1w, dtype=np.uint8))
    return File(conformed), f"{label} conformed"


@stage(cpus=2, mem_gb=1.0, gpu=True, title="Coregistration")
@python.define(outputs=["transform"])
def CoregisterBold(bold: File, t1w: File, weights_stamp: str, label: str) -> File:
    """The hash of the weights is an input, so that other weights recompute."""
    path = Path("transform.txt").absolute()
    path.write_text(f"{Path(bold).stat().st_size} {Path(t1w).stat().st_size} {weights_stamp}")
    return File(path)


@stage(always_run=True, title="Derivatives")
@python.define(outputs=["written"])
def PublishTransform(transform: File, out_dir: str, label: str) -> str:
    """Writes outside the work directory, so it is never taken from the cache; returns JSON."""
    target = Path(out_dir) / f"{label}_xfm.txt"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(Path(transform).read_bytes())
    return json.dumps([str(target)])


@workflow.define(outputs=["written"])
def BoldRun(bold: File, t1w: File, out_dir: str, label: str) -> str:
    """One BOLD run; ``t1w`` is an output of the subject's workflow."""
    coregistered = workflow.add(
        CoregisterBold(bold=bold, t1w=t1w, weights_stamp="0a1b2c", label=label)
    )
    published = workflow.add(
        PublishTransform(transform=coregistered.transform, out_dir=out_dir, label=label)
    )
    return published.written


@workflow.define(outputs=["report"])
def Subject(t1w: File, bold_runs: list[tuple[str, File]], out_dir: str, label: str) -> str:
    """One subject; the loop runs when the workflow is laid out, with the true inputs."""
    anat = workflow.add(ConformT1w(t1w=t1w, label=label))
    for run_label, bold in bold_runs:
        workflow.add(
            BoldRun(bold=bold, t1w=anat.conformed, out_dir=out_dir, label=run_label),
            name=f"bold_{run_label.replace('-', '_')}",
        )
    return anat.report


def test_example(tmp_path: Path):
    for name in ("T1w", "rest", "nback"):
        (tmp_path / f"{name}.nii").write_bytes(b"voxels of " + name.encode())
    runs = [(f"task-{name}", File(tmp_path / f"{name}.nii")) for name in ("rest", "nback")]
    subject = Subject(
        t1w=File(tmp_path / "T1w.nii"),
        bold_runs=runs,
        out_dir=str(tmp_path / "out"),
        label="sub-01",
    )
    with progress_display() as progress:
        outcomes = run_workflows(
            [("sub-01", subject)],
            cache_root=tmp_path / "work",
            n_cpus=2,
            mem_gb=4.0,
            events_path=tmp_path / "out/logs/events.jsonl",
            logs_dir=tmp_path / "out/logs",
            on_event=[progress, SubjectLogs(tmp_path / "out/logs")],
        )
    outcome = outcomes["sub-01"]
    assert outcome.ok, outcome.error_text
    assert outcome.outputs.report == "sub-01 conformed"
    assert {path.name for path in (tmp_path / "out").glob("*.txt")} == {
        "task-rest_xfm.txt",
        "task-nback_xfm.txt",
    }
    assert "Coregistration" in (tmp_path / "out/logs/sub-01.log").read_text()
