"""Every malformed input of the task, each with the message a user reads."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from deepprep.bids.checks import check_dataset, preflight, usable
from deepprep.bids.inputs import collect
from deepprep.errors import InputError
from tests.bids.datasets import (
    BOLD_METADATA,
    BOLD_SHAPE,
    T1W_SHAPE,
    settings_for,
    write_dataset,
    write_image,
    write_json,
    write_phasediff,
)

BOLD = "sub-01/func/sub-01_task-rest_bold.nii.gz"
SIDECAR = "sub-01/func/sub-01_task-rest_bold.json"
T1W = "sub-01/anat/sub-01_T1w.nii.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "bids", ("01", "02"))


def problems_of(root: Path, **options):
    settings = settings_for(root, **options)
    subjects = collect(settings)
    return subjects, preflight(settings, subjects)


def only_problem(root: Path, **options):
    """The one problem; an error of the run must stop that run and nothing else."""
    subjects, problems = problems_of(root, **options)
    assert len(problems) == 1, [p.sentence() for p in problems]
    good = usable(subjects, problems)
    assert [s.name for s in good] == ["sub-01", "sub-02"]
    if problems[0].file == BOLD:
        assert [len(s.bold) for s in good] == [0 if problems[0].is_error else 1, 1]
    return problems[0]


def change_sidecar(root: Path, **changes) -> None:
    metadata = {**BOLD_METADATA, **changes}
    write_json(root / SIDECAR, {k: v for k, v in metadata.items() if v is not ...})


def test_good_dataset_has_no_problem(root):
    subjects, problems = problems_of(root)
    assert problems == []
    assert usable(subjects, problems) == subjects
    assert check_dataset(settings_for(root)) == []


def test_dataset_description_missing(root):
    (root / "dataset_description.json").unlink()
    (problem,) = check_dataset(settings_for(root))
    assert problem.scope == "dataset"
    assert problem.is_error
    assert problem.sentence() == (
        f"dataset_description.json: the file is missing in {root}. "
        'Write {"Name": "...", "BIDSVersion": "1.9.0"} there, or give the folder that holds it.'
    )


def test_dataset_description_unreadable(root):
    (root / "dataset_description.json").write_text("{")
    (problem,) = check_dataset(settings_for(root))
    assert problem.is_error
    assert problem.code == "DESCRIPTION_UNREADABLE"


def test_dataset_description_without_version_is_a_warning(root):
    write_json(root / "dataset_description.json", {"Name": "x"})
    (problem,) = check_dataset(settings_for(root))
    assert not problem.is_error
    assert "it has no BIDSVersion" in problem.sentence()


def test_no_t1w_stops_only_that_participant(root):
    (root / T1W).unlink()
    subjects, problems = problems_of(root)
    assert [p.sentence() for p in problems] == [
        "sub-01: it has no T1w image. Put one at sub-01/anat/sub-01_T1w.nii.gz."
    ]
    assert [s.name for s in usable(subjects, problems)] == ["sub-02"]


def test_sidecar_missing(root):
    (root / SIDECAR).unlink()
    assert only_problem(root).sentence() == (
        f"{BOLD}: no JSON sidecar applies to it. "
        "Add a JSON file with at least RepetitionTime (dcm2niix writes it)."
    )


def test_sidecar_at_the_root_is_inherited(root):
    (root / SIDECAR).unlink()
    write_json(root / "task-rest_bold.json", {**BOLD_METADATA, "EchoTime": 0.01})
    subjects, problems = problems_of(root)
    assert problems == []
    assert [s.bold[0].metadata["EchoTime"] for s in subjects] == [0.01, 0.03]


def test_sidecar_unreadable_stops_only_its_run(root):
    (root / SIDECAR).write_text('{"RepetitionTime": 2.0,,}')
    sentence = only_problem(root).sentence()
    assert sentence.startswith(f"{BOLD}: its sidecar {SIDECAR} cannot be read (")
    assert sentence.endswith("Correct the JSON (a missing comma or bracket), or convert again.")


def test_sidecar_with_a_byte_order_mark(root):
    path = root / SIDECAR
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert "cannot be read (Unexpected UTF-8 BOM" in only_problem(root).sentence()


def test_sidecar_empty(root):
    (root / SIDECAR).write_text("")
    assert f"its sidecar {SIDECAR} cannot be read (empty)" in only_problem(root).sentence()


def test_unreadable_t1w_sidecar_is_only_a_warning(root):
    (root / "sub-01/anat/sub-01_T1w.json").write_text("{")
    problem = only_problem(root)
    assert not problem.is_error
    assert problem.file == "sub-01/anat/sub-01_T1w.json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            ...,
            "the sidecar has no RepetitionTime. "
            "Add RepetitionTime in seconds (the image header says 2 s).",
        ),
        (0, "RepetitionTime is 0. Write the true value in seconds."),
        (-2.0, "RepetitionTime is -2. Write the true value in seconds."),
        (
            2000,
            "RepetitionTime is 2000, which looks like milliseconds. BIDS wants seconds: write 2.",
        ),
        ("2.0", "RepetitionTime is '2.0', not a number. Write it as seconds, such as 2.0."),
    ],
)
def test_repetition_time(root, value, expected):
    change_sidecar(root, RepetitionTime=value)
    assert only_problem(root).sentence() == f"{BOLD}: {expected}"


def test_repetition_time_unlike_the_header_is_a_warning(root):
    change_sidecar(root, RepetitionTime=3.0)
    problem = only_problem(root)
    assert not problem.is_error
    assert "RepetitionTime is 3 s, the image header says 2" in problem.sentence()


def test_echo_time_in_ms(root):
    change_sidecar(root, EchoTime=30.0)
    assert only_problem(root).sentence() == (
        f"{BOLD}: EchoTime is 30, which looks like milliseconds. BIDS wants seconds: write 0.03."
    )


def test_echo_time_of_a_field_map_in_ms(root):
    write_phasediff(root, EchoTime1=4.92)
    sentence = only_problem(root).sentence()
    assert sentence.startswith("sub-01/fmap/sub-01_phasediff.nii.gz: EchoTime1 is 4.92, which")
    assert sentence.endswith("write 0.00492.")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("y-", "BIDS names voxel axes: write 'j-'."),
        ("x", "BIDS names voxel axes: write 'i'."),
        ("AP", "Write one of i, i-, j, j-, k, k- (voxel axis, with - when reversed)."),
    ],
)
def test_phase_encoding_direction(root, value, remedy):
    change_sidecar(root, PhaseEncodingDirection=value)
    assert only_problem(root).sentence() == (
        f"{BOLD}: PhaseEncodingDirection is '{value}'. {remedy}"
    )
    assert not only_problem(root, ignore=("fieldmaps",)).is_error


def test_slice_timing_of_wrong_length(root):
    change_sidecar(root, SliceTiming=[0.0, 1.0, 0.5])
    problem = only_problem(root)
    assert problem.is_error
    assert problem.sentence() == (
        f"{BOLD}: SliceTiming has 3 values but the image has 4 slices. "
        "Write one time for each slice, or add --ignore slicetiming."
    )
    assert not only_problem(root, ignore=("slicetiming",)).is_error


def test_slice_timing_beyond_tr(root):
    change_sidecar(root, SliceTiming=[0.0, 1000.0, 500.0, 1500.0])
    assert only_problem(root).sentence() == (
        f"{BOLD}: SliceTiming goes to 1500 (milliseconds?), beyond the RepetitionTime of 2 s. "
        "Write the times in seconds within one frame, or add --ignore slicetiming."
    )
    change_sidecar(root, SliceTiming=[0.0, 1.0, 0.5, 2.5])
    assert "goes to 2.5, beyond" in only_problem(root).sentence()


def test_3d_file_named_bold(root):
    write_image(root / BOLD, BOLD_SHAPE[:3])
    assert only_problem(root).sentence() == (
        f"{BOLD}: it is named bold but holds a single 3D frame. "
        "Name it _sbref if it is a reference, or put the whole series there."
    )


def test_too_short_series(root):
    write_image(root / BOLD, (*BOLD_SHAPE[:3], 5))
    assert "it has only 5 frames" in only_problem(root).sentence()


def test_multi_echo_is_refused_run_by_run(root):
    for echo in (1, 2):
        stem = root / f"sub-01/func/sub-01_task-me_echo-{echo}_bold"
        write_image(Path(f"{stem}.nii.gz"), BOLD_SHAPE)
        write_json(Path(f"{stem}.json"), BOLD_METADATA)
    subjects, problems = problems_of(root)
    assert [p.code for p in problems] == ["MULTI_ECHO", "MULTI_ECHO"]
    assert [r.name for r in usable(subjects, problems)[0].bold] == ["sub-01_task-rest_bold"]


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def fill(value: float, shape=BOLD_SHAPE):
    data = np.ones(shape, np.float32)
    data[1] = 2
    data[0, 0, 0] = value
    return data


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (lambda p: p.write_bytes(b""), "EMPTY_FILE", "the file has zero bytes. Convert or copy"),
        (truncate, "TRUNCATED", "the file is truncated or damaged ("),
        (
            lambda p: p.write_bytes(gzip.decompress(p.read_bytes())),
            "WRONG_GZIP",
            "the name says .gz but the file is not gzip-compressed. Rename it to .nii, or",
        ),
        (
            lambda p: p.write_bytes(gzip.compress(b"hello world" * 100)),
            "BAD_HEADER",
            "the header is not that of a NIfTI image",
        ),
        (
            lambda p: write_image(p, BOLD_SHAPE, data=np.zeros(BOLD_SHAPE, np.int16)),
            "ALL_ZERO",
            "all voxels are zero or NaN. Convert or copy the image again.",
        ),
        (
            lambda p: write_image(p, BOLD_SHAPE, data=np.ones(BOLD_SHAPE, np.int16)),
            "CONSTANT",
            "all voxels that are not zero have the same value, as those of a mask. Give",
        ),
        (
            lambda p: write_image(p, BOLD_SHAPE, data=np.full(BOLD_SHAPE, np.nan, np.float32)),
            "ALL_ZERO",
            "all voxels are zero or NaN",
        ),
        (
            lambda p: write_image(p, BOLD_SHAPE, data=fill(np.nan)),
            "NAN_VALUES",
            "8 voxels (0.6 %) are NaN or infinite. Replace them",
        ),
        (
            lambda p: write_image(p, BOLD_SHAPE, data=fill(np.inf)),
            "NAN_VALUES",
            "8 voxels (0.6 %) are NaN or infinite",
        ),
    ],
)
def test_damaged_image_stops_only_its_run(root, spoil, code, words):
    spoil(root / BOLD)
    problem = only_problem(root)
    assert (problem.code, problem.file, problem.is_error) == (code, BOLD, True)
    assert words in problem.sentence()


def test_integrity_is_checked_with_skip_bids_validation(root):
    truncate(root / BOLD)
    assert only_problem(root, skip_bids_validation=True).code == "TRUNCATED"


def test_broken_t1w_stops_its_participant(root):
    truncate(root / T1W)
    subjects, problems = problems_of(root)
    assert [p.code for p in problems] == ["TRUNCATED", "NO_USABLE_T1W"]
    assert [s.name for s in usable(subjects, problems)] == ["sub-02"]


def test_nan_in_a_t1w_is_only_a_warning(root):
    # a background of NaN is common, and single ones can be filled
    write_image(root / T1W, T1W_SHAPE, data=fill(np.nan, T1W_SHAPE))
    subjects, problems = problems_of(root)
    assert [(p.code, p.is_error) for p in problems] == [("NAN_IN_T1W", False)]
    assert [len(s.t1w) for s in usable(subjects, problems)] == [1, 1]


def test_broken_t1w_is_left_out_when_there_is_another(root):
    write_image(root / "sub-01/anat/sub-01_run-2_T1w.nii.gz", T1W_SHAPE)
    truncate(root / T1W)
    subjects, problems = problems_of(root)
    assert [p.code for p in problems] == ["TRUNCATED"]
    assert [i.name for i in usable(subjects, problems)[0].t1w] == ["sub-01_run-2_T1w"]


def test_t1w_with_frames(root):
    write_image(root / T1W, (*T1W_SHAPE, 2))
    _, problems = problems_of(root)
    assert "it has 2 frames, a T1w image has one. Keep one frame" in problems[0].sentence()


def set_forms(path: Path, sform, qform) -> None:
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    new = nib.Nifti1Image(data, None, image.header)
    new.header.set_sform(*sform)
    new.header.set_qform(*qform)
    nib.save(new, path)


def test_no_orientation(root):
    set_forms(root / BOLD, (None, 0), (None, 0))
    assert only_problem(root).sentence() == (
        f"{BOLD}: neither sform nor qform is set, so left and right cannot be told. "
        "Convert the image again with its orientation (dcm2niix keeps it)."
    )


def test_sheared_orientation(root):
    sheared = np.diag([3.0, 3.0, 3.0, 1.0])
    sheared[0, 1] = 0.6
    set_forms(root / BOLD, (sheared, 1), (np.diag([3.0, 3.0, 3.0, 1.0]), 1))
    sentence = only_problem(root).sentence()
    assert sentence.startswith(f"{BOLD}: the sform has shear (axes 78.7 degrees apart instead of")
    assert sentence.endswith(
        "Write an orientation without shear into the header "
        "(its qform has none: copy it to the sform)."
    )


def test_qform_alone_oblique_and_left_handed_are_fine(root):
    oblique = nib.affines.from_matvec(
        nib.eulerangles.euler2mat(0.2, 0.1, -0.3) @ np.diag([-3.0, 2.0, 4.0]), [10, 20, 30]
    )
    write_image(root / BOLD, BOLD_SHAPE, affine=oblique)
    set_forms(root / T1W, (None, 0), (oblique, 1))
    assert problems_of(root)[1] == []


def test_intended_for_missing_file(root):
    write_phasediff(root, IntendedFor="func/sub-01_task-gone_bold.nii.gz")
    problem = only_problem(root)
    assert not problem.is_error
    assert problem.sentence() == (
        "sub-01/fmap/sub-01_phasediff.nii.gz: IntendedFor names "
        "'func/sub-01_task-gone_bold.nii.gz', which does not exist. Correct the path (it starts "
        "below the participant's folder, such as func/sub-01_task-X_bold.nii.gz)."
    )


@pytest.mark.parametrize(
    "target", ["../../elsewhere/x_bold.nii.gz", "bids:other:sub-01/func/x_bold.nii.gz"]
)
def test_intended_for_outside_the_dataset(root, target):
    write_phasediff(root, IntendedFor=[target])
    assert only_problem(root).sentence() == (
        f"sub-01/fmap/sub-01_phasediff.nii.gz: IntendedFor names '{target}', which is outside "
        "the data set. It is not used: name a path inside the participant's folder."
    )


def test_damaged_field_map_is_taken_from_the_run(root):
    write_phasediff(root)
    (root / "sub-01/fmap/sub-01_magnitude1.nii.gz").write_bytes(b"")
    subjects, problems = problems_of(root)
    run = usable(subjects, problems)[0].bold[0]
    assert not run.fieldmap.found
    assert all(not p.is_error for p in problems)

    write_phasediff(root)
    truncate(root / "sub-01/fmap/sub-01_phasediff.nii.gz")
    subjects, problems = problems_of(root)
    assert subjects[0].bold[0].fieldmap.method == "phasediff"
    run = usable(subjects, problems)[0].bold[0]
    assert not run.fieldmap.found
    assert "sub-01_phasediff.nii.gz cannot be used: the file is truncated" in run.fieldmap.reason


def test_participant_that_does_not_exist(root):
    with pytest.raises(InputError, match=r"sub-07 does not exist in .*it has sub-01, sub-02\.$"):
        collect(settings_for(root, participant_label=("01", "07")))


def test_dataset_without_participants(tmp_path):
    root = write_dataset(tmp_path / "bids", ())
    with pytest.raises(InputError, match=r"has no sub-\* folder: give the root"):
        collect(settings_for(root))


def test_participant_without_bold_is_a_warning(root):
    for path in (root / "sub-01/func").iterdir():
        path.unlink()
    problem = only_problem(root)
    assert not problem.is_error
    assert "it has no BOLD run, so only its anatomy is processed" in problem.sentence()
    assert problems_of(root, anat_only=True)[1] == []


def test_results_of_the_integrity_check_are_remembered(root):
    settings = settings_for(root)
    subjects = collect(settings)
    assert preflight(settings, subjects) == []
    cache = settings.work_dir / "checked_images.json"
    known = json.loads(cache.read_text())
    assert len(known) == 4
    # A changed file is read again, an unchanged one is not.
    for entry in known.values():
        entry["finding"] = {"code": "X", "what": "remembered", "remedy": "."}
    cache.write_text(json.dumps(known))
    write_image(root / T1W, (5, 5, 5))
    files = {p.file for p in preflight(settings, subjects) if p.what == "remembered"}
    assert files == {BOLD, BOLD.replace("01", "02"), T1W.replace("01", "02")}
