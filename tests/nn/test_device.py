"""A task without a GPU slot computes on the CPU, whatever the run's device."""

import ast
from pathlib import Path

import pytest

import deepprep.interfaces
from deepprep.nn.device import usable_device

TASKS = [
    (path.name, node)
    for path in sorted(Path(deepprep.interfaces.__file__).parent.glob("*.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and "device" in {a.arg for a in node.args.args}
]


@pytest.mark.parametrize(("there", "device"), [(True, "cuda:1"), (False, "cpu")])
def test_cuda_is_used_where_the_process_has_it(there, device, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert usable_device("cuda:1") == device
    assert usable_device("cpu") == "cpu"
    assert usable_device("mps") == "mps"


@pytest.mark.parametrize(("file", "task"), TASKS, ids=[t.name for _, t in TASKS])
def test_tasks_without_a_gpu_slot_ask_for_the_device_they_have(file, task):
    stages = [
        d for d in task.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "stage"
    ]
    has_slot = any(k.arg == "gpu" for s in stages for k in s.keywords)
    only_told = task.name.startswith("Publish")
    if stages and not has_slot and not only_told:
        assert "usable_device" in ast.unparse(task), f"{file}: {task.name}"


def test_there_are_tasks_of_both_kinds():
    assert {"ConformT1w", "SegmentBrain", "ReconstructHemisphere"} <= {t.name for _, t in TASKS}
