"""Lesion masks of a data set and of --lesion-mask: found, paired with a T1w, checked."""

import numpy as np
import pytest

from deepprep.bids.checks import preflight, usable
from deepprep.bids.inputs import collect
from deepprep.bids.lesions import corner_distance_mm, partner, values_finding
from deepprep.errors import InputError
from tests.bids.datasets import T1W_SHAPE, settings_for, write_dataset, write_image

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def lesion(shape=T1W_SHAPE, value=1):
    data = np.zeros(shape, np.int16)
    data[2:5, 3:6, 4:7] = value
    return data


def write_lesion(root, name="sub-01_label-lesion_roi.nii.gz", data=None, affine=AFFINE):
    data = lesion() if data is None else data
    return write_image(root / "sub-01" / "anat" / name, data.shape, affine=affine, data=data)


def problems_of(root, **options):
    settings = settings_for(root, **options)
    subjects = collect(settings)
    problems = preflight(settings, subjects)
    return subjects, problems, usable(subjects, problems)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_label-lesion_roi.nii.gz",
        "sub-01_desc-lesion_roi.nii.gz",
        "sub-01_T1w_label-lesion_roi.nii.gz",  # as fMRIPrep's documentation names it
        "sub-01_roi.nii.gz",
    ],
)
def test_masks_are_found_under_the_names_that_fmriprep_takes(name, tmp_path):
    root = write_dataset(tmp_path / "bids")
    path = write_lesion(root, name)
    (subject,), problems, good = problems_of(root)
    assert [i.path for i in subject.lesions] == [str(path)]
    assert not [p for p in problems if "lesion" in p.code.lower()]
    assert len(good) == 1


def test_regions_that_are_no_lesions_are_named_and_not_used(tmp_path):
    root = write_dataset(tmp_path / "bids")
    write_lesion(root, "sub-01_label-thalamus_roi.nii.gz")
    (subject,), problems, _ = problems_of(root)
    assert not subject.lesions
    assert [p.code for p in problems] == ["ROI_IGNORED"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (np.zeros(T1W_SHAPE, np.int16), "LESION_EMPTY"),
        (1 - lesion(), "LESION_INVERTED"),
        (np.arange(np.prod(T1W_SHAPE), dtype=np.int16).reshape(T1W_SHAPE), "LESION_NOT_A_MASK"),
        (np.stack([lesion()] * 3, -1), "LESION_NOT_3D"),
    ],
)
def test_a_mask_that_cannot_be_used_stops_the_participant(data, code, tmp_path):
    root = write_dataset(tmp_path / "bids")
    write_lesion(root, data=data)
    _, problems, good = problems_of(root)
    assert [(p.code, p.level, p.scope) for p in problems] == [(code, "error", "subject")]
    assert good == []


def test_another_lattice_is_warned_about_and_another_place_refused(tmp_path):
    root = write_dataset(tmp_path / "bids")
    finer = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    write_lesion(root, data=lesion(tuple(2 * n for n in T1W_SHAPE)), affine=finer)
    _, problems, good = problems_of(root)
    assert [(p.code, p.level) for p in problems] == [("LESION_RESAMPLED", "warning")]
    assert len(good) == 1
    far = AFFINE.copy()
    far[0, 3] = 500
    write_lesion(root, affine=far)
    _, problems, good = problems_of(root)
    assert [(p.code, p.level) for p in problems] == [("LESION_ELSEWHERE", "error")]
    assert good == []


def test_the_order_of_axes_is_no_other_lattice(tmp_path):
    first = write_image(tmp_path / "a.nii.gz", T1W_SHAPE)
    flip = np.diag([-3.0, 3.0, 3.0, 1.0])
    flip[0, 3] = 3.0 * (T1W_SHAPE[0] - 1)
    second = write_image(tmp_path / "b.nii.gz", T1W_SHAPE, affine=flip)
    assert corner_distance_mm(str(first), str(second)) < 1e-5


def test_probabilities_and_one_label_are_masks():
    assert values_finding(lesion(value=255)) is None
    assert values_finding(lesion() * 0.75) is None
    assert values_finding(np.linspace(0, 0.7, 1000).reshape(10, 10, 10) ** 3) is None


def test_the_partner_is_the_t1w_of_the_same_lattice_then_of_the_same_name(tmp_path):
    shifted = AFFINE.copy()
    shifted[2, 3] = 7
    heads = [
        write_image(tmp_path / f"sub-01_ses-{n}_T1w.nii.gz", T1W_SHAPE, affine=a)
        for n, a in ((1, AFFINE), (2, shifted), (3, AFFINE))
    ]
    names = [str(h) for h in heads]
    masks = [
        write_image(tmp_path / f"sub-01_ses-{n}_roi.nii.gz", T1W_SHAPE, affine=a, data=lesion())
        for n, a in ((3, AFFINE), (1, shifted))
    ]
    assert [partner(str(m), names) for m in masks] == [2, 1]


def test_the_flag_replaces_the_masks_of_the_data_set_for_one_participant(tmp_path):
    root = write_dataset(tmp_path / "bids", ("01", "02"))
    write_lesion(root)
    given = write_image(tmp_path / "drawn.nii.gz", T1W_SHAPE, data=lesion())
    (subject,), _, good = problems_of(root, lesion_mask=given, participant_label=("01",))
    assert [i.path for i in subject.lesions] == [str(given)]
    assert len(good) == 1
    with pytest.raises(InputError, match="is for one participant, and 2 are chosen"):
        collect(settings_for(root, lesion_mask=given))
