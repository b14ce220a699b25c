"""``deepprep models``: exit codes, what is printed, and that nothing heavy is imported."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import pytest

from deepprep.cli.main import main
from deepprep.nn import models
from tests.nn.server import serving

CONTENT = b"weights" * 100


@pytest.fixture
def official(monkeypatch):
    """A server whose files stand for the official ones of VINN; checksums known but of one."""
    with serving() as server:
        registry = []
        for weight in models.weights_of("fastsurfer-vinn"):
            content = CONTENT + weight.view.encode()
            server.files["/" + weight.file] = content
            md5 = f"md5:{hashlib.md5(content).hexdigest()}"
            registry.append(
                replace(
                    weight,
                    size_bytes=len(content),
                    checksum=None if weight.view == "sagittal" else md5,
                    urls=(server.url("/" + weight.file),),
                )
            )
        monkeypatch.setattr("deepprep.nn.models.REGISTRY", tuple(registry))
        monkeypatch.setattr("deepprep.cli.models.REGISTRY", tuple(registry))
        yield server


def test_list_says_what_is_here(tmp_path, capsys):
    assert main(["models", "list", "--models-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"Folder of models: {tmp_path}" in out
    line = next(x for x in out.splitlines() if "aparc_vinn_axial" in x)
    assert line.split() == [
        "aparc_vinn_axial_v2.0.0.pkl", "22.4", "MB", "checksum", "known", "missing",
    ]  # fmt: skip
    assert "Apache-2.0" in out


def test_fetch_then_verify(official, tmp_path, capsys):
    folder = ["--models-dir", str(tmp_path)]
    assert main(["models", "fetch", "fastsurfer", *folder]) == 2
    err = capsys.readouterr().err
    assert "no checksum was published of aparc_vinn_sagittal_v2.0.0.pkl" in err
    assert official.asked == []

    assert main(["models", "fetch", "fastsurfer", *folder, "--accept-unverified"]) == 0
    out, err = capsys.readouterr()
    assert f"fastsurfer-vinn: all files are in {tmp_path}" in out
    assert "aparc_vinn_axial_v2.0.0.pkl: size and checksum are as published" in err
    assert "aparc_vinn_sagittal_v2.0.0.pkl: not verified" in err

    assert main(["models", "verify", "fastsurfer", *folder]) == 0
    states = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert states == ["ok", "ok", "unverified"]

    asked = len(official.asked)
    assert main(["models", "fetch", "fastsurfer", *folder, "--accept-unverified"]) == 0
    assert "is here already" in capsys.readouterr().err
    assert len(official.asked) == asked


def test_damaged_files_are_told_and_fetched_again(official, tmp_path, capsys):
    folder = ["--models-dir", str(tmp_path)]
    assert main(["models", "fetch", "fastsurfer", *folder, "--accept-unverified"]) == 0
    damaged = tmp_path / "aparc_vinn_axial_v2.0.0.pkl"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert main(["models", "verify", *folder]) == 1
    assert "its md5 checksum is wrong" in capsys.readouterr().out
    assert main(["models", "fetch", "fastsurfer", *folder, "--accept-unverified"]) == 0
    assert main(["models", "verify", *folder]) == 0


def test_missing_files_fail_only_the_engine_that_was_named(tmp_path):
    folder = ["--models-dir", str(tmp_path)]
    assert main(["models", "verify", *folder]) == 0
    assert main(["models", "verify", "fastsurfer-v1", *folder]) == 1


def test_offline_is_one_sentence(official, tmp_path, capsys):
    official.files.clear()
    arguments = ["models", "fetch", "fastsurfer", "--accept-unverified"]
    assert main([*arguments, "--models-dir", str(tmp_path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("deepprep: error: aparc_vinn_coronal_v2.0.0.pkl could not be fetched")
    assert "404" in last


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: {list,fetch,verify}"),
        (["fetch"], "required: NAME"),
        (["fetch", "nothing"], "there are no weights called 'nothing': choose one of fastsurfer,"),
        (["list", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["remove"], "invalid choice: 'remove'"),
    ],
)
def test_bad_arguments_are_exit_2_and_one_sentence(capsys, arguments, words):
    assert main(["models", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.startswith("deepprep: error: ") and err.count("\n") == 1


def test_short_help_names_the_verb(capsys):
    assert main([]) == 2
    assert "deepprep models {list,fetch,verify}" in capsys.readouterr().out


def test_models_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from deepprep.cli.main import main; main(['models', 'list']);"
        "heavy = {'numpy', 'torch', 'pandas', 'nibabel', 'bids', 'nipype', 'rich', 'pydra'};"
        "sys.exit(3 if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == 0
