"""Flags, aliases, refusals, and how they become settings."""

import os
from pathlib import Path

import pytest

from deepprep.cli.options import FIXED, NO_EFFECT, REFUSED
from deepprep.cli.parser import build_parser, parse
from deepprep.cli.settings import make_settings
from deepprep.config import Settings, from_toml, save_settings
from deepprep.errors import InputError, MissingResourceError, NotAvailableError
from deepprep.workflows.choices import Choices


@pytest.fixture
def bids(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bids").mkdir()
    return tmp_path / "bids"


@pytest.fixture
def settings_of(bids):
    def make(*flags: str) -> Settings:
        return make_settings(parse([str(bids), str(bids.parent / "out"), "participant", *flags]))

    return make


def test_defaults_are_fmripreps(settings_of, bids):
    settings = settings_of()
    assert settings.bids_dir == bids
    assert settings.out_dir == bids.parent / "out"
    assert settings.work_dir == bids.parent / "work"
    assert settings.output_spaces == ("MNI152NLin2009cAsym:res-native",)
    assert settings.participant_label == ()
    assert settings.dummy_scans is None
    assert settings.slice_time_ref == 0.5
    assert (settings.fd_spike_threshold, settings.dvars_spike_threshold) == (0.5, 1.5)
    assert settings.nprocs == len(os.sched_getaffinity(0))
    assert settings.mem_gb is None
    assert settings.run_uuid


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ("--participant-label sub-01 02", "participant_label", ("01", "02")),
        ("--participant_label=[01,02]", "participant_label", ("01", "02")),
        ("--participant-label all", "participant_label", ()),
        ("--session-label ses-a b", "session_label", ("a", "b")),
        ("--task-id task-rest", "task_id", ("rest",)),
        ("-t rest", "task_id", ("rest",)),
        ("--bold_task_type rest nback", "task_id", ("rest", "nback")),
        ("--skip-bids-validation", "skip_bids_validation", True),
        ("--anat-only", "anat_only", True),
        ("--workflow smri", "anat_only", True),
        ("--workflow all", "anat_only", False),
        (
            "--output-spaces MNI152NLin6Asym:res-2 T1w",
            "output_spaces",
            ("MNI152NLin6Asym:res-2", "T1w"),
        ),
        ("--output-spaces", "output_spaces", ()),
        ("--mni-template MNI152NLin6Asym", "output_spaces", ("MNI152NLin6Asym",)),
        (
            "--bold_volume_space MNI152NLin6Asym --bold_volume_res 02",
            "output_spaces",
            ("MNI152NLin6Asym:res-02",),
        ),
        ("--bold_volume_space None", "output_spaces", ()),
        ("--ignore fieldmaps slicetiming", "ignore", ("fieldmaps", "slicetiming")),
        ("--bold_sdc False", "ignore", ("fieldmaps",)),
        ("--bold_sdc True", "ignore", ()),
        ("--dummy-scans 4", "dummy_scans", 4),
        ("--dummy-scans 0", "dummy_scans", 0),
        ("--bold_skip_frame 2", "dummy_scans", 2),
        ("--slice-time-ref start", "slice_time_ref", 0.0),
        ("--slice-time-ref middle", "slice_time_ref", 0.5),
        ("--slice-time-ref 0.25", "slice_time_ref", 0.25),
        ("--fd-spike-threshold 0.3", "fd_spike_threshold", 0.3),
        ("--fd-threshold 0.3", "fd_spike_threshold", 0.3),
        ("--dvars-spike-threshold 2", "dvars_spike_threshold", 2.0),
        ("--random-seed 7", "random_seed", 7),
        ("--nprocs 3", "nprocs", 3),
        ("--nthreads 3", "nprocs", 3),
        ("--n_cpus 3", "nprocs", 3),
        ("--cpus 3", "nprocs", 3),
        ("--omp-nthreads 2", "omp_nthreads", 2),
        ("--omp-cores 2", "omp_nthreads", 2),
        ("--mem 8G", "mem_gb", 8.0),
        ("--mem-mb 4000", "mem_gb", 4.0),
        ("--mem 4000M", "mem_gb", 4.0),
        ("--memory 12", "mem_gb", 12.0),
        ("--device cuda:1", "device", "cuda:1"),
        ("--device gpu", "device", "auto"),
        ("--device 0", "device", "cuda:0"),
        ("--clean-workdir", "clean_workdir", True),
        ("--stop-on-first-crash", "stop_on_first_crash", True),
        ("--reports-only", "reports_only", True),
        ("--boilerplate-only", "boilerplate_only", True),
        ("-vv", "verbose", 2),
        ("--dry-run", "dry_run", True),
        ("--plan", "dry_run", True),
        ("--skull-strip-t1w force", "skull_strip_t1w", "force"),
        ("--skip-skullstrip", "skull_strip_t1w", "skip"),
        ("--lesion-fill mirror", "lesion_fill", "mirror"),
        (
            "--subject-anatomical-reference sessionwise",
            "subject_anatomical_reference",
            "sessionwise",
        ),
    ],
)
def test_flag(settings_of, flags, field, value):
    assert getattr(settings_of(*flags.split()), field) == value


def test_quoted_list_of_labels_as_in_deepprep(settings_of):
    assert settings_of("--participant_label", "001 002").participant_label == ("001", "002")


def test_paths_are_made_absolute(settings_of, bids):
    (bids.parent / "f.json").write_text("{}")
    settings = settings_of(
        *("--bids-filter-file", "f.json", "--bids-database-dir", "db", "-w", "scratch")
    )
    assert settings.bids_filter_file == bids.parent / "f.json"
    assert settings.bids_database_dir == bids.parent / "db"
    assert settings.work_dir == bids.parent / "scratch"


def test_folders_by_flag_as_in_the_seed(bids):
    words = f"--bids {bids} --output {bids.parent / 'o'} --workflow smri".split()
    settings = make_settings(parse(words))
    assert (settings.bids_dir, settings.out_dir) == (bids, bids.parent / "o")
    assert settings.analysis_level == "participant"
    with pytest.raises(InputError, match="name the same folder: give one"):
        make_settings(parse([str(bids), *words]))


@pytest.mark.parametrize("flag", sorted(REFUSED))
def test_known_flag_that_cannot_be_honoured_is_refused(settings_of, flag):
    with pytest.raises(NotAvailableError) as refusal:
        settings_of(flag)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{flag} ")
    assert sentence.endswith(".")
    assert refusal.value.exit_code == 2


def test_refusal_also_with_underscores_and_a_value(settings_of):
    with pytest.raises(NotAvailableError, match="--cifti-output is not available yet in this"):
        settings_of("--cifti_output=91k")


@pytest.mark.parametrize("flag", sorted(FIXED))
def test_flag_with_one_possible_value(settings_of, flag):
    settings_of(flag, FIXED[flag][0])
    with pytest.raises(NotAvailableError, match="not available yet in this version: only"):
        settings_of(flag, "other")


@pytest.mark.parametrize("flag", sorted(NO_EFFECT))
def test_flag_that_asks_for_what_happens_anyway(settings_of, flag):
    settings_of(flag)


def test_surfaces_are_on_unless_told_otherwise(settings_of):
    assert settings_of().surf_recon == "on"
    assert settings_of("--surf-recon").surf_recon == "on"
    assert settings_of("--surf-recon", "off").surf_recon == "off"
    assert settings_of("--fs-no-reconall").surf_recon == "off"
    with pytest.raises(InputError, match="contradicts"):
        settings_of("--fs-no-reconall", "--surf-recon", "on")
    assert settings_of().surf_recon_fallback == "volume"
    with pytest.raises(InputError, match="surf-recon-fallback"):
        settings_of("--surf-recon-fallback", "nothing")


def test_weights_of_the_surface_engine_are_looked_for_at_the_start(settings_of, tmp_path):
    assert settings_of().csr_engine == "auto"
    asked = settings_of("--csr-engine", "fastcsr", "--models-dir", str(tmp_path))
    with pytest.raises(MissingResourceError, match=r"lh_model\.pth and rh_model\.pth"):
        Choices.from_settings(asked, "cpu")
    for name in ("lh_model.pth", "rh_model.pth"):
        (tmp_path / name).touch()
    choices = Choices.from_settings(asked, "cpu")
    assert choices.csr_engine == "fastcsr" and Choices.from_json(choices.to_json()) == choices
    assert choices.csr_files["right"] == str(tmp_path / "rh_model.pth")
    with pytest.raises(InputError, match="csr-engine"):
        settings_of("--csr-engine", "freesurfer")


def test_weights_of_surfaces_are_not_needed_without_surfaces(settings_of, tmp_path):
    asked = settings_of(
        *("--csr-engine", "fastcsr", "--models-dir", str(tmp_path), "--surf-recon", "off")
    )
    assert Choices.from_settings(asked, "cpu").csr_engine == "segmentation"


@pytest.mark.parametrize("space", ["fsaverage5", "fsnative"])
def test_surface_spaces_need_the_surfaces(settings_of, space):
    given = ("--output-spaces", "MNI152NLin2009cAsym", space)
    assert settings_of(*given).output_spaces[1] == space
    with pytest.raises(InputError, match="needs the surfaces"):
        settings_of(*given, "--fs-no-reconall")


def test_parcellations_are_beside_aparc(settings_of):
    assert settings_of().surface_parcellation == ("aparc",)
    found = settings_of("--surface-parcellation", "schaefer200", "aparc.a2009s", "aparc")
    assert found.surface_parcellation == ("aparc", "schaefer200", "a2009s")
    with pytest.raises(InputError, match=r"schaefer350.*schaefer400"):
        settings_of("--surface-parcellation", "schaefer350")
    assert settings_of().sphere_engine == "auto"
    assert not settings_of().medial_surface_nan
    assert settings_of("--medial-surface-nan").medial_surface_nan


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--anat-onli", r"unknown option --anat-onli: did you mean --anat-only\?"),
        ("--participant 01", "unknown option --participant"),
        ("--nprocs 0", "--nprocs 0 must be at least 1"),
        ("--nprocs two", "invalid int value: 'two'"),
        ("--mem lots", "--mem 'lots' must be like 8G"),
        ("--mem 8", "at least 1 GB is needed .a plain number means MB"),
        ("--device tpu", "--device 'tpu' must be auto"),
        ("--slice-time-ref late", "--slice-time-ref 'late' must be"),
        ("--slice-time-ref 1.5", "must be from 0 to 1"),
        ("--dummy-scans -1", "is negative"),
        ("--fd-spike-threshold 0", "must be above 0"),
        ("--ignore everything", "invalid choice: 'everything'"),
        ("--reports-only --boilerplate-only", "cannot be combined"),
        ("--skip-skullstrip --skull-strip-t1w force", "contradicts"),
        ("--output-spaces MNI152NLin2009cAsym:den-10k", "takes no 'den'"),
        ("extra more", "'participant' is one argument too many"),
        ("--bids-filter-file none.json", "none.json does not exist"),
        ("--work-dir .", "must be a folder of its own"),
        ("--work-dir bids/work", "must be a folder of its own"),
    ],
)
def test_wrong_value_is_one_sentence(settings_of, flags, message):
    with pytest.raises(InputError, match=message) as wrong:
        settings_of(*flags.split())
    assert wrong.value.exit_code == 2
    assert "\n" not in str(wrong.value)


def test_options_may_stand_between_the_words(bids):
    words = [str(bids), "--anat-only", "out", "--nprocs", "2", "group"]
    assert make_settings(parse(words)).analysis_level == "group"
    with pytest.raises(InputError, match="'groups' is not an analysis level"):
        parse([str(bids), "out", "groups"])


def test_output_must_not_be_the_input(bids):
    for out in (bids, bids / "sub-01"):
        with pytest.raises(InputError, match="would mix derivatives into the raw data: use"):
            make_settings(parse([str(bids), str(out), "participant"]))
    make_settings(parse([str(bids), str(bids / "derivatives/deepprep"), "participant"]))


def test_missing_folders(bids):
    with pytest.raises(InputError, match="is not a folder"):
        make_settings(parse([str(bids / "no"), "out", "participant"]))
    with pytest.raises(InputError, match="OUT_DIR is missing"):
        make_settings(parse([str(bids)]))


def test_config_file_is_overridden_by_the_command_line(settings_of, bids):
    first = settings_of("--fd-threshold", "0.3", "--nprocs", "2", "--output-spaces", "T1w")
    file = save_settings(first, bids.parent / "config.toml")
    again = make_settings(parse(["--config-file", str(file), "--nprocs", "1"]))
    assert again.bids_dir == bids
    assert (again.fd_spike_threshold, again.nprocs) == (0.3, 1)
    assert again.output_spaces == ("T1w",)
    assert again.config_file == file
    assert again.run_uuid != first.run_uuid


def test_every_setting_survives_toml(settings_of, bids):
    (bids.parent / 'f "x".json').write_text("{}")
    settings = settings_of(
        *("--participant-label", "01", "--mem", "8G", "--dummy-scans", "3", "--anat-only"),
        *("--bids-filter-file", 'f "x".json', "-v"),
    )
    assert from_toml(save_settings(settings, bids.parent / "c.toml")) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[workflow\n", "is not valid TOML"),
        ("[workflow]\nfd_treshold = 1\n", "has the unknown option 'fd_treshold'"),
        ("nprocs = 'two'\n", "option 'nprocs' has a value of the wrong type"),
        ("ignore = ['fieldmap']\n", "--ignore 'fieldmap' is not known: use fieldmaps"),
        ("device = 'tpu'\n", "--device 'tpu' must be auto"),
        ("participant_label = 3\n", "option 'participant_label' has a value of the wrong type"),
    ],
)
def test_bad_config_file(settings_of, bids, text, message):
    (bids.parent / "c.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        settings_of("--config-file", "c.toml")
    with pytest.raises(InputError, match="cannot be read"):
        settings_of("--config-file", "none.toml")


def test_usage_page_lists_every_flag():
    page = (Path(__file__).parents[2] / "docs/usage.md").read_text()
    flags = {o for action in build_parser()._actions for o in action.option_strings}
    missing = sorted(f for f in flags | set(REFUSED) if f"`{f}`" not in page)
    assert missing == []
