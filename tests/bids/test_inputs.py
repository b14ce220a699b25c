"""What is collected from a data set, and field maps chosen with their reasons."""

import json
from pathlib import Path

import pytest

from deepprep.bids.fieldmaps import describe, describe_rejected, find_fieldmaps, total_readout_time
from deepprep.bids.inputs import collect, entities_of
from deepprep.bids.records import Image, Run, SubjectInputs, run_from_json, run_to_json
from deepprep.errors import InputError
from tests.bids.datasets import (
    BOLD_METADATA,
    BOLD_SHAPE,
    T1W_SHAPE,
    settings_for,
    write_dataset,
    write_epi_pair,
    write_image,
    write_json,
    write_phasediff,
)

RUN_TARGET = "func/sub-01_task-rest_bold.nii.gz"
PHASEDIFF = "sub-01/fmap/sub-01_phasediff.nii.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "bids")


def run_of(root: Path, **options) -> Run:
    (subject,) = collect(settings_for(root, **options))
    (run,) = subject.bold
    return run


def change_sidecar(root: Path, **changes) -> None:
    metadata = {k: v for k, v in {**BOLD_METADATA, **changes}.items() if v is not None}
    write_json(root / "sub-01/func/sub-01_task-rest_bold.json", metadata)


def test_records_survive_json(root):
    write_phasediff(root)
    write_epi_pair(root)
    (subject,) = collect(settings_for(root))
    assert SubjectInputs.from_json(subject.to_json()) == subject
    run = subject.bold[0]
    assert run_from_json(run_to_json(run)) == run
    assert run.shape == BOLD_SHAPE
    assert run.zooms == (3.0, 3.0, 3.0, 2.0)
    assert run.tr_s == 2.0
    assert run.fieldmap.found
    assert run.slice_timing.apply


def test_entities_keep_what_is_written():
    assert entities_of("/x/sub-01/func/sub-01_task-rest_run-01_bold.nii.gz") == {
        "sub": "01",
        "task": "rest",
        "run": "01",
        "datatype": "func",
        "suffix": "bold",
        "extension": ".nii.gz",
    }


def test_sessions_tasks_filters_and_natural_order(root):
    for session in ("a", "b"):
        folder = root / f"sub-01/ses-{session}"
        stem = f"sub-01_ses-{session}"
        write_image(folder / f"anat/{stem}_T1w.nii.gz", T1W_SHAPE)
        for task in ("nback_run-10", "nback_run-9", "rest"):
            write_image(folder / f"func/{stem}_task-{task}_bold.nii.gz", BOLD_SHAPE)
    write_json(root / "task-nback_bold.json", {"RepetitionTime": 2.0})
    for path in [*(root / "sub-01/anat").iterdir(), *(root / "sub-01/func").iterdir()]:
        path.unlink()

    (both,) = collect(settings_for(root))
    assert both.sessions == ("a", "b")
    assert len(both.t1w) == 2
    (one,) = collect(settings_for(root, session_label=("b",), task_id=("nback",)))
    assert [i.name for i in one.t1w] == ["sub-01_ses-b_T1w"]
    assert [r.name for r in one.bold] == [
        "sub-01_ses-b_task-nback_run-9_bold",
        "sub-01_ses-b_task-nback_run-10_bold",
    ]
    per_session = collect(settings_for(root, subject_anatomical_reference="sessionwise"))
    assert [s.name for s in per_session] == ["sub-01_ses-a", "sub-01_ses-b"]
    assert [len(s.bold) for s in per_session] == [3, 3]
    assert per_session[1].own_entities == {"sub": "01", "ses": "b"}
    assert both.own_entities == {"sub": "01"}

    query = {"bold": {"run": None}, "t1w": {"session": "a"}}
    file = write_json(root.parent / "filter.json", query)
    (filtered,) = collect(settings_for(root, bids_filter_file=file))
    assert [r.entities["task"] for r in filtered.bold] == ["rest", "rest"]
    assert [i.name for i in filtered.t1w] == ["sub-01_ses-a_T1w"]
    query = {"bold": {"run": "*", "session": "b"}}
    file = write_json(root.parent / "filter.json", query)
    (filtered,) = collect(settings_for(root, bids_filter_file=file))
    assert len(filtered.bold) == 2


def test_field_maps_of_sessions_with_one_identifier_are_kept_apart(tmp_path):
    # sdcflows takes the files of all sessions with one B0FieldIdentifier for one field map
    root = tmp_path / "sessions"
    for session in ("a", "b"):
        write_dataset(root)
        write_phasediff(
            root,
            B0FieldIdentifier="gre",
            IntendedFor=f"ses-{session}/func/sub-01_ses-{session}_task-rest_bold.nii.gz",
        )
        for path in [p for p in (root / "sub-01").rglob("sub-01_*") if "ses-" not in str(p)]:
            new = root / f"sub-01/ses-{session}" / path.parent.name
            new.mkdir(parents=True, exist_ok=True)
            path.rename(new / path.name.replace("sub-01_", f"sub-01_ses-{session}_"))
    sources = {
        s: [
            f"sub-01/ses-{s}/fmap/sub-01_ses-{s}_{name}.nii.gz"
            for name in ("magnitude1", "magnitude2", "phasediff")
        ]
        for s in ("a", "b")
    }

    def chosen(**options):
        return {
            run.entities["ses"]: sorted(
                Path(s).relative_to(root).as_posix() for s in run.fieldmap.sources
            )
            for subject in collect(settings_for(root, **options))
            for run in subject.bold
        }

    assert chosen() == sources
    assert chosen(subject_anatomical_reference="sessionwise") == sources
    assert chosen(session_label=("b",)) == {"b": sources["b"]}


def test_sessions_and_tasks_that_do_not_exist(root):
    with pytest.raises(InputError, match=r"--task-id: rst does not exist .* they have rest"):
        collect(settings_for(root, task_id=("rst",)))
    with pytest.raises(InputError, match=r"--session-label: 3 does not exist .* they have none"):
        collect(settings_for(root, session_label=("3",)))


def test_metadata_that_contradicts_a_file_name(root):
    change_sidecar(root, run=7)
    write_image(root / "sub-01/func/sub-01_task-rest_run-1_bold.nii.gz", BOLD_SHAPE)
    with pytest.raises(
        InputError, match=r"cannot be indexed by pybids: Conflicting values .*run-1"
    ):
        collect(settings_for(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"bolt": {}}', "has the unknown kind 'bolt'"),
        ('{"bold": 3}', "must be like"),
    ],
)
def test_bad_filter_file(root, text, message):
    file = root.parent / "filter.json"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        collect(settings_for(root, bids_filter_file=file))


def test_database_is_written_and_reused(root):
    database = root.parent / "db"
    (first,) = collect(settings_for(root, bids_database_dir=database))
    assert any(database.iterdir())
    assert collect(settings_for(root, bids_database_dir=database)) == [first]


def test_derivatives_inside_the_dataset_are_not_inputs(root):
    write_image(root / "derivatives/x/sub-01/anat/sub-01_run-2_T1w.nii.gz", T1W_SHAPE)
    write_image(root / "results/sub-01/anat/sub-01_run-3_T1w.nii.gz", T1W_SHAPE)
    settings = settings_for(root)
    from dataclasses import replace

    (subject,) = collect(replace(settings, out_dir=root / "results"))
    assert [i.name for i in subject.t1w] == ["sub-01_T1w"]


def test_sbref_and_events_belong_to_their_run(root):
    write_image(root / "sub-01/func/sub-01_task-rest_sbref.nii.gz", BOLD_SHAPE[:3])
    (root / "sub-01/func/sub-01_task-rest_events.tsv").write_text("onset\tduration\n")
    run = run_of(root)
    assert run.sbref is not None
    assert run.sbref.name == "sub-01_task-rest_sbref"
    assert run.events is not None
    assert run_of(root, ignore=("sbref",)).sbref is None


def test_no_field_map(root):
    run = run_of(root)
    assert describe(run.fieldmap, root) == "none: the participant has no field map"


def test_phase_difference_by_intended_for(root):
    write_phasediff(root)
    choice = run_of(root).fieldmap
    assert choice.method == "phasediff"
    assert choice.reason == "IntendedFor names this run"
    assert {Path(s).name for s in choice.sources} == {
        "sub-01_phasediff.nii.gz",
        "sub-01_magnitude1.nii.gz",
        "sub-01_magnitude2.nii.gz",
    }
    assert choice.fmapid == "auto00000"
    assert choice.phase_encoding_direction == "j-"
    assert choice.total_readout_time_s == 0.02


@pytest.mark.parametrize("target", [f"bids::sub-01/{RUN_TARGET}", [RUN_TARGET, "func/x.nii.gz"]])
def test_intended_for_as_uri_and_as_list(root, target):
    write_phasediff(root, IntendedFor=target)
    assert run_of(root).fieldmap.found


def test_field_map_for_another_run_is_rejected(root):
    write_phasediff(root, IntendedFor="func/sub-01_task-other_bold.nii.gz")
    choice = run_of(root).fieldmap
    assert not choice.found
    assert choice.reason == (
        "no usable field map is meant for this run (IntendedFor or B0FieldSource)"
    )
    (rejected,) = choice.rejected
    assert PHASEDIFF in describe_rejected(rejected, root)
    assert rejected.reason == "it is not meant for this run (IntendedFor or B0FieldSource)"


def test_opposite_polarity_pair_is_preferred_and_the_other_rejected(root):
    write_phasediff(root)
    write_epi_pair(root, intended=RUN_TARGET)
    choice = run_of(root).fieldmap
    assert choice.method == "pepolar"
    assert choice.reason == (
        "IntendedFor names this run; first of 2 by the order pepolar, mapped, phasediff, "
        "then by name"
    )
    assert [(r.method, r.reason) for r in choice.rejected] == [
        ("phasediff", "another field map was preferred (pepolar)")
    ]


def test_b0_field_source_wins(root):
    write_phasediff(root, B0FieldIdentifier="gre", IntendedFor=None)
    change_sidecar(root, B0FieldSource="gre")
    choice = run_of(root).fieldmap
    assert (choice.method, choice.fieldmap_id) == ("phasediff", "gre")
    assert choice.reason == "B0FieldSource of the run names 'gre'"


def test_maps_without_identifier_are_ignored_beside_one_with(root):
    write_phasediff(root, B0FieldIdentifier="gre")
    write_epi_pair(root, intended=RUN_TARGET)
    choice = run_of(root).fieldmap
    assert choice.method == "phasediff"
    assert {r.reason for r in choice.rejected} == {
        "it has no B0FieldIdentifier while other field maps have (BIDS then ignores it)"
    }


def test_incomplete_field_map_says_what_is_missing(root):
    write_phasediff(root, EchoTime2=None)
    choice = run_of(root).fieldmap
    assert not choice.found
    reasons = {Path(r.sources[0]).name: r.reason for r in choice.rejected}
    assert "EchoTime1' and/or 'EchoTime2" in reasons["sub-01_phasediff.nii.gz"]


def test_pair_with_one_polarity_is_rejected(root):
    write_epi_pair(root, intended=RUN_TARGET, PhaseEncodingDirection="j")
    # Against a run of the other polarity, one image would be enough.
    assert run_of(root).fieldmap.method == "pepolar"
    change_sidecar(root, PhaseEncodingDirection="j")
    choice = run_of(root).fieldmap
    assert not choice.found
    assert any("Only one phase-encoding direction <j>" in r.reason for r in choice.rejected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"PhaseEncodingDirection": None, "PhaseEncodingAxis": "j"},
            "the run has no PhaseEncodingDirection, only PhaseEncodingAxis 'j', "
            "which leaves the polarity open",
        ),
        ({"PhaseEncodingDirection": None}, "the run has no PhaseEncodingDirection"),
        (
            {"PhaseEncodingDirection": "y-"},
            "PhaseEncodingDirection of the run is 'y-', which BIDS does not know",
        ),
        (
            {"TotalReadoutTime": None},
            "neither TotalReadoutTime nor EffectiveEchoSpacing is known",
        ),
        (
            {"TotalReadoutTime": None, "EstimatedTotalReadoutTime": 0.02},
            "only an estimate of the readout time is known (EstimatedTotalReadoutTime)",
        ),
    ],
)
def test_metadata_of_the_run_can_forbid_correction(root, change, reason):
    write_phasediff(root)
    change_sidecar(root, **change)
    choice = run_of(root).fieldmap
    assert not choice.found
    assert choice.reason == reason
    assert choice.rejected[0].reason == reason


def test_switched_off(root):
    write_phasediff(root)
    choice = run_of(root, ignore=("fieldmaps",)).fieldmap
    assert choice.reason == "field maps are switched off with --ignore fieldmaps"
    assert choice.rejected[0].method == "phasediff"


def test_readout_time_from_echo_spacing():
    meta = {"EffectiveEchoSpacing": 0.0005, "PhaseEncodingDirection": "j-"}
    run = Image("/x", metadata=meta, shape=(64, 80, 30, 10))
    assert total_readout_time(run)[0] == pytest.approx(0.0005 * 79)


@pytest.mark.shared
def test_real_datasets(shared_data):
    (ci,) = collect(settings_for(shared_data / "bids-ci"))
    assert ci.bold[0].fieldmap.method == "phasediff"
    assert ci.bold[0].slice_timing.reference_time_s == pytest.approx(1.216)
    (forrest,) = collect(settings_for(shared_data / "bids-forrest"))
    run = forrest.bold[0]
    assert not run.slice_timing.apply
    assert "no SliceTiming" in run.slice_timing.reason
    assert "polarity" in run.fieldmap.reason


@pytest.mark.shared
def test_real_opposite_polarity_pairs(shared_data):
    from bids import BIDSLayout

    layout = BIDSLayout(shared_data / "bids-blippair", validate=False)
    (found,) = find_fieldmaps(layout, "polar").candidates
    assert found.method == "pepolar"
    assert len(found.sources) == 4
    assert json.dumps(found.metadata)
