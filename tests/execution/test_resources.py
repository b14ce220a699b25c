import cloudpickle
import pytest
from pydra.compose import python

from deepprep.execution import resources
from deepprep.execution.resources import Resources, stage, stage_of
from tests.execution import toys


def test_stage_declares_needs_and_a_title():
    found = stage_of(toys.HeadMotion)
    assert found.title == "Head motion"
    assert found.resources(None) == Resources(cpus=1, mem_gb=0.2, gpu=False)
    assert not found.always_run
    assert stage_of(toys.Publish).always_run


def test_memory_may_depend_on_the_inputs():
    @stage(mem_gb=lambda task: 0.5 + task.n_frames / 100, title="Resampling")
    @python.define
    def Resample(n_frames: int) -> int:
        return n_frames

    task = Resample(n_frames=150)
    assert stage_of(task).resources(task).mem_gb == 2.0
    assert stage_of(task).title == "Resampling"


def test_a_task_without_stage_gets_one_processor():
    @python.define
    def Plain(x: int) -> int:
        return x

    assert stage_of(Plain).resources(Plain(x=1)) == Resources(1, 1.0, False)


@pytest.mark.parametrize("wrong", [{"cpus": 0}, {"mem_gb": 0.0}])
def test_impossible_needs_are_refused(wrong):
    with pytest.raises(ValueError):
        stage(**wrong)


def test_a_stage_travels_by_name():
    # by value it would be a copy of the function, made from the code of the main process
    pickled = cloudpickle.dumps(toys.Conform)
    assert cloudpickle.loads(pickled) is toys.Conform
    assert len(pickled) < 200


def test_the_function_of_a_task_travels_by_name():
    # cloudpickle 3.1.3 strips the file name from functions it ships by value; Pydra then hashes
    # byte code in the task process and source in the main one, and refuses the result
    task = toys.TwinA(value=1)
    arrived = cloudpickle.loads(cloudpickle.dumps(task))
    assert arrived.function is task.function
    assert arrived._hash == task._hash


def test_a_change_of_code_changes_the_cache_key(monkeypatch):
    before = toys.TwinA(value=1)._checksum
    assert toys.TwinA(value=1)._checksum == before
    monkeypatch.setattr(resources, "code_stamp", lambda *_: "another")
    assert toys.TwinA(value=1)._checksum != before
