"""The ladder: official weights first, ours else, and a sentence that says why."""

import sys
import types

import pytest

from deepprep.errors import InputError, MissingResourceError
from deepprep.nn.models import weights_of
from deepprep.segmentation import engines
from deepprep.segmentation.engines import CHOICES, ENGINES, choose_engine

COMPACT = "deepprep.segmentation.compact.engine"


@pytest.fixture
def compact(monkeypatch):
    """A stand-in for the embedded engine."""
    module = types.ModuleType(COMPACT)

    class CompactEngine:
        name = "deepprep"

        def weight_files(self, models_dir):
            return ["bundled.safetensors"]

    module.CompactEngine = CompactEngine
    monkeypatch.setitem(sys.modules, COMPACT, module)
    return module


def put(folder, engine):
    for weight in weights_of(engine):
        (folder / weight.file).write_bytes(b"x")


def test_choices_are_auto_and_all_engines():
    assert set(CHOICES) == {"auto", *(r.name for r in ENGINES)}


def test_auto_takes_ours_where_nothing_else_is(compact, tmp_path):
    engine, files, reason = choose_engine("auto", tmp_path)
    assert engine.name == "deepprep"
    assert files == ["bundled.safetensors"]
    assert reason == (
        "deepprep (auto): bundled weights are there; no weights of fastsurfer-vinn and "
        "fastsurfer-v1."
    )


def test_auto_prefers_official_weights_vinn_before_v1(compact, tmp_path):
    put(tmp_path, "fastsurfer-v1")
    assert choose_engine("auto", tmp_path).engine.name == "fastsurfer-v1"
    put(tmp_path, "fastsurfer-vinn")
    engine, files, reason = choose_engine("auto", tmp_path)
    assert engine.name == "fastsurfer-vinn"
    assert [f.name for f in files] == [w.file for w in weights_of("fastsurfer-vinn")]
    assert reason == "fastsurfer-vinn (auto): official weights of FastSurferVINN are there."


def test_the_engine_asked_for_is_taken(compact, tmp_path):
    put(tmp_path, "fastsurfer-vinn")
    engine, _, reason = choose_engine("deepprep", tmp_path)
    assert engine.name == "deepprep"
    assert reason == "deepprep: asked for with --seg-engine."


@pytest.mark.parametrize("name", ["fastsurfer-vinn", "fastsurfer-v1"])
def test_missing_weights_are_named_with_the_command_that_fetches_them(name, tmp_path):
    with pytest.raises(MissingResourceError) as error:
        choose_engine(name, tmp_path)
    text = str(error.value)
    for weight in weights_of(name):
        assert weight.file in text
    assert f"'deepprep models fetch {name}'" in text
    assert str(tmp_path) in text


def test_one_of_three_files_is_not_enough(tmp_path):
    put(tmp_path, "fastsurfer-vinn")
    (tmp_path / weights_of("fastsurfer-vinn")[1].file).unlink()
    with pytest.raises(MissingResourceError, match="not all in"):
        choose_engine("fastsurfer-vinn", tmp_path)


def test_unknown_engine(tmp_path):
    with pytest.raises(InputError, match="--seg-engine other is not known: choose one of auto"):
        choose_engine("other", tmp_path)


def test_nothing_at_all(monkeypatch, tmp_path):
    def absent(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(engines, "import_module", absent)
    with pytest.raises(MissingResourceError, match="install deepprep again"):
        choose_engine("auto", tmp_path)


def test_faults_inside_an_engine_are_not_hidden(monkeypatch, tmp_path):
    def broken(name):
        raise ModuleNotFoundError(name="numpy_of_the_engine")

    monkeypatch.setattr(engines, "import_module", broken)
    with pytest.raises(ModuleNotFoundError):
        choose_engine("deepprep", tmp_path)
