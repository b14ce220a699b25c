"""Official layouts load strictly; wrong, broken and malicious files are refused with a sentence."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from deepprep.errors import InputError
from deepprep.segmentation.fastsurfer.checkpoint import load_into
from deepprep.segmentation.fastsurfer.network import FastSurferCNN, FastSurferVINN


class Configuration(dict):
    """As yacs.config.CfgNode: a dictionary with attributes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.frozen = True


class Scheduler:
    """Some object of a training."""

    def __init__(self):
        self.steps = [1, 2]


class Malicious:
    """Would make a folder when unpickled by pickle."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def official_v1(net):
    state = {f"module.{name}": t for name, t in net.state_dict().items()}
    return {"model_state_dict": state, "epoch": 30}


def official_vinn(net, **more):
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    return {
        "model_state": net.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "epoch": 69,
        "best_metric": np.float64(0.9),
        "config": Configuration({"MODEL": Configuration({"NUM_CLASSES": 79})}),
        "scheduler_state": {"T_cur": 3, "object": Scheduler()},
        **more,
    }


def same_tensors(a, b) -> bool:
    return all(torch.equal(t, b.state_dict()[name]) for name, t in a.state_dict().items())


@pytest.mark.parametrize("new_zip", [True, False])
@pytest.mark.parametrize("classes", [79, 51])
def test_official_layouts_load(tmp_path, classes, new_zip):
    for build, layout in ((FastSurferCNN, official_v1), (FastSurferVINN, official_vinn)):
        net, path = build(classes), tmp_path / f"{build.__name__}.pkl"
        torch.save(layout(net), path, _use_new_zipfile_serialization=new_zip)
        loaded = load_into(build(classes), path)
        assert same_tensors(net, loaded)
        assert not loaded.training


@pytest.mark.parametrize("new_zip", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path, new_zip):
    net = FastSurferVINN()
    trap, path = tmp_path / "trap", tmp_path / "checkpoint.pkl"
    torch.save(
        official_vinn(net, extra=Malicious(trap)), path, _use_new_zipfile_serialization=new_zip
    )
    assert same_tensors(net, load_into(FastSurferVINN(), path))
    assert not trap.exists()
    pickle.loads(pickle.dumps(Malicious(trap)))  # the trap works where code is run
    assert trap.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: official_v1(FastSurferCNN(79)), "does not fit FastSurferVINN (it lacks"),
        (lambda: official_vinn(FastSurferVINN(51)), "classifier.conv.weight is 51x71x1x1 instead"),
        (lambda: {"weights": {}}, "holds no tensors under model_state or model_state_dict"),
        (lambda: [1, 2], "holds no tensors"),
        (lambda: {"model_state": {"a": 1}}, "holds no tensors"),
        (
            lambda: {"model_state": {**FastSurferVINN().state_dict(), "more": torch.ones(1)}},
            "it holds more and 0 more tensors that are not known",
        ),
    ],
)
def test_wrong_files_are_refused_with_a_sentence(tmp_path, content, words):
    path = tmp_path / "wrong.pkl"
    torch.save(content(), path)
    with pytest.raises(InputError) as error:
        load_into(FastSurferVINN(79), path)
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_values_that_are_not_finite_are_refused(tmp_path):
    net = FastSurferVINN()
    net.decode1.conv0.weight.data[0] = float("nan")
    torch.save({"model_state": net.state_dict()}, tmp_path / "nan.pkl")
    with pytest.raises(InputError, match=r"decode1.conv0.weight is not finite"):
        load_into(FastSurferVINN(), tmp_path / "nan.pkl")


@pytest.mark.parametrize("new_zip", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_files_are_refused(tmp_path, share, new_zip):
    path = tmp_path / "cut.pkl"
    torch.save(official_v1(FastSurferCNN()), path, _use_new_zipfile_serialization=new_zip)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match="is damaged, cut short or no checkpoint"):
        load_into(FastSurferCNN(), path)


def test_web_pages_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "page.pkl"
    path.write_text("<html>404 not found</html>")
    with pytest.raises(InputError, match="is damaged, cut short or no checkpoint"):
        load_into(FastSurferCNN(), path)
    with pytest.raises(InputError, match=r"none\.pkl cannot be read"):
        load_into(FastSurferCNN(), tmp_path / "none.pkl")
