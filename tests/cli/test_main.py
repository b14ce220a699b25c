"""Verbs, exit codes, what is printed, and how fast the command answers."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from deepprep import __version__
from deepprep.cli.main import main
from tests.bids.datasets import write_dataset, write_image, write_json, write_phasediff


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_dataset(tmp_path / "bids", ("01", "02"))


@pytest.fixture
def workflow(monkeypatch):
    """A stand-in for the workflow that records what it was asked."""
    module = types.ModuleType("deepprep.workflows.participant")
    calls: list[tuple] = []

    def run(settings, subjects, problems):
        calls.append(("run", settings, subjects, problems))
        return module.code

    def rerender(settings, subjects):
        calls.append(("rerender", settings, subjects))
        return 0

    module.code, module.run, module.rerender, module.calls = 0, run, rerender, calls
    monkeypatch.setitem(sys.modules, "deepprep.workflows.participant", module)
    return module


ARGUMENTS = ("bids", "out", "participant", "--nprocs", "2")


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"DeepPrep {__version__}\n"
    assert main(["--help"]) == 0
    assert "--output-spaces" in capsys.readouterr().out
    assert main([]) == 2
    assert "deepprep BIDS_DIR OUT_DIR participant" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_answers_without_importing_anything_heavy(flag):
    code = (
        "import sys; from deepprep.cli.main import main; main([sys.argv[1]]);"
        "heavy = {'numpy', 'torch', 'pandas', 'nibabel', 'bids', 'nipype', 'rich', 'pydra'};"
        "sys.exit(3 if heavy & set(sys.modules) else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code, flag], check=False).returncode == 0


def test_all_good(root, workflow, capsys):
    assert main(ARGUMENTS) == 0
    ((_, settings, subjects, problems),) = workflow.calls
    assert [s.label for s in subjects] == ["01", "02"]
    assert problems == []
    saved = settings.work_dir / settings.run_uuid / "config.toml"
    assert "participant_label = []" in saved.read_text()
    assert "BIDS validation was skipped: bids-validator-deno is not" in capsys.readouterr().err


def test_broken_participant_is_named_and_the_other_runs(root, workflow, capsys):
    (root / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"")
    assert main(ARGUMENTS) == 1
    ((_, _, subjects, problems),) = workflow.calls
    assert [s.label for s in subjects] == ["02"]
    assert any(p.is_error for p in problems)
    last = capsys.readouterr().err.splitlines()
    assert "not processed: sub-01/anat/sub-01_T1w.nii.gz (the file has zero bytes)" in last


def test_broken_run_leaves_its_anatomy(root, workflow):
    (root / "sub-01/func/sub-01_task-rest_bold.nii.gz").write_bytes(b"")
    assert main(ARGUMENTS) == 1
    ((_, _, subjects, _),) = workflow.calls
    assert [len(s.bold) for s in subjects] == [0, 1]


def test_failure_of_the_workflow_is_exit_1(root, workflow):
    workflow.code = 1
    assert main(ARGUMENTS) == 1


def test_nothing_usable_is_exit_1_without_running(root, workflow):
    for label in ("01", "02"):
        (root / f"sub-{label}/anat/sub-{label}_T1w.nii.gz").write_bytes(b"")
    assert main(ARGUMENTS) == 1
    assert workflow.calls == []


def test_dataset_problem_is_exit_2(root, workflow, capsys):
    (root / "dataset_description.json").unlink()
    assert main(ARGUMENTS) == 2
    assert "dataset_description.json: the file is missing" in capsys.readouterr().err
    assert workflow.calls == []


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--participant-label", "09"), "sub-09 does not exist"),
        (("--use-syn-sdc",), "--use-syn-sdc is not available yet in this version."),
        (("--output-spaces", "fsaverage7"), "not a surface of this version"),
        (("--nonsense",), "unknown option --nonsense"),
        (("--output-spaces", "MNI152NLin2009cAsym:res-7"), "MNI152NLin2009cAsym"),
    ],
)
def test_bad_arguments_are_exit_2_and_one_sentence(root, workflow, capsys, flags, words):
    assert main([*ARGUMENTS, *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("deepprep: error: ")
    assert words in err
    assert err.count("\n") == 1
    assert workflow.calls == []


def test_interrupt_is_130(root, workflow, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "run", stop)
    assert main(ARGUMENTS) == 130
    assert capsys.readouterr().err.endswith("run the same command again to go on from here.\n")


def test_reports_only_and_boilerplate_only(root, workflow):
    for flag in ("--reports-only", "--boilerplate-only"):
        assert main([*ARGUMENTS, flag]) == 0
    assert [c[0] for c in workflow.calls] == ["rerender", "rerender"]


def test_clean_workdir_only_empties_our_own_folder(root, workflow, capsys):
    (Path("work/old")).mkdir(parents=True)
    assert main([*ARGUMENTS, "--clean-workdir"]) == 2
    assert "was not made by DeepPrep" in capsys.readouterr().err
    assert Path("work/old").exists()
    assert main(ARGUMENTS) == 0
    assert main([*ARGUMENTS, "--clean-workdir"]) == 0
    assert not Path("work/old").exists()


def test_input_is_never_written_to(root, workflow):
    def listing():
        return {p: p.stat().st_mtime_ns for p in sorted(root.rglob("*"))}

    before = listing()
    main(ARGUMENTS)
    main([*ARGUMENTS, "--plan"])
    assert listing() == before


def test_plan_says_what_why_and_how_much(root, workflow, capsys):
    write_phasediff(root)
    metadata = {"RepetitionTime": 2.0, "PhaseEncodingAxis": "j"}
    write_json(root / "sub-02/func/sub-02_task-rest_bold.json", metadata)
    assert main([*ARGUMENTS, "--plan", "--output-spaces", "MNI152NLin2009cAsym:res-2", "T1w"]) == 0
    out = capsys.readouterr().out
    first, second = out.split("\nsub-02\n")
    assert "slice timing    yes: SliceTiming has 4 slices over 1.500 s of a TR of 2 s" in first
    assert "field map       phasediff (sub-01/fmap/sub-01_phasediff.nii.gz" in first
    assert "IntendedFor names this run" in first
    assert "resampled to    MNI152NLin2009cAsym:res-2, T1w" in first
    assert "slice timing    no: the sidecar has no SliceTiming" in second
    assert "only PhaseEncodingAxis 'j', which leaves the polarity open" in second
    assert "Total: about " in second
    assert workflow.calls == []
    assert not Path("out").exists()
    assert not Path("work").exists()


def test_plan_names_what_fails(root, workflow, capsys):
    write_image(root / "sub-01/func/sub-01_task-rest_bold.nii.gz", (6, 7, 4))
    (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    assert main([*ARGUMENTS, "--dry-run"]) == 1
    out = capsys.readouterr().out
    assert "FAILED      sub-01/func/sub-01_task-rest_bold.nii.gz: it is named bold but" in out
    assert "FAILED      sub-02: it has no T1w image" in out
    assert "nothing is done for this participant" in out


def test_group_table(root, capsys):
    assert main(["bids", "out", "group"]) == 2
    assert "has no confounds tables yet: run the participant level first" in (
        capsys.readouterr().err
    )
    folder = Path("out/sub-01/func")
    folder.mkdir(parents=True)
    (folder / "sub-01_task-rest_desc-confounds_timeseries.tsv").write_text(
        "framewise_displacement\tstd_dvars\tmotion_outlier00\nn/a\tn/a\t0\n0.2\t1.0\t0\n0.6\t2.0\t1\n"
    )
    assert main(["bids", "out", "group"]) == 0
    header, row = Path("out/group_bold.tsv").read_text().splitlines()
    values = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert values == {
        "bids_name": "sub-01_task-rest",
        "n_frames": "3",
        "fd_mean_mm": "0.4000",
        "fd_max_mm": "0.6000",
        "fd_percent_above": "50.0000",
        "std_dvars_mean": "1.5000",
        "n_motion_outliers": "1",
        "n_non_steady_state": "0",
    }


def test_validator_is_run_when_installed(root, workflow, capsys, monkeypatch):
    bin_dir = root.parent / "bin"
    bin_dir.mkdir()
    report = {
        "issues": {
            "issues": [
                {"code": "NOT_INCLUDED", "severity": "error", "location": "/odd.txt"},
                {"code": "NOT_INCLUDED", "severity": "error", "location": "/odd2.txt"},
                {"code": "README_FILE_MISSING", "severity": "warning"},
            ],
            "codeMessages": {"NOT_INCLUDED": "Files with such naming scheme are not BIDS. More."},
        }
    }
    program = bin_dir / "bids-validator-deno"
    program.write_text(f"#!/bin/sh\ncat <<'X'\n{json.dumps(report)}\nX\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_dir), prepend=":")
    assert main(ARGUMENTS) == 0
    err = capsys.readouterr().err
    assert "bids-validator-deno found 1 kind of error in the data set." in err
    assert (
        "warning: odd.txt and 1 more: the BIDS validator says NOT_INCLUDED: Files with such naming "
        "scheme are not BIDS. Correct it, or say --skip-bids-validation.\n" in err
    )
    assert main([*ARGUMENTS, "--skip-bids-validation"]) == 0
    err = capsys.readouterr().err
    assert "BIDS validation was skipped (--skip-bids-validation)." in err
    assert "odd.txt" not in err


def test_phantom_verbs(root, monkeypatch, capsys):
    module = types.ModuleType("deepprep.phantom")
    calls = []
    module.make_phantom = lambda out, t1w_file=None, seed=0: calls.append((out, t1w_file, seed))
    module.score_phantom = lambda phantom, derivatives: calls.append((phantom, derivatives))
    monkeypatch.setitem(sys.modules, "deepprep.phantom", module)
    assert main(["phantom", "demo", "--seed", "3"]) == 0
    assert calls == [("demo", None, 3)]
    assert main(["phantom", "demo", "--t1w", "none.nii.gz"]) == 2
    assert main(["phantom"]) == 2
    assert main(["phantom-score", "bids", "bids"]) == 0
    assert calls[-1] == ("bids", "bids")
    assert main(["phantom-score", "bids", "nowhere"]) == 2


@pytest.mark.shared
def test_plan_of_real_data(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(shared_data / "bids-forrest"), "out", "participant", "--plan"]) == 0
    out = capsys.readouterr().out
    assert "156 frames of 80x80x35 voxels, TR 2 s" in out
    assert "polarity open" in out
