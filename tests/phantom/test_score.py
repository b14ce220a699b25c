"""The scorer gives zero for the truth and the right number for a known error."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from deepprep.errors import InputError
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume, save_volume
from deepprep.phantom import score_phantom
from deepprep.phantom.activation_score import fit_glm
from deepprep.phantom.motion import pose_matrix
from deepprep.phantom.score import NOT_COMPUTED, rigid_mean
from deepprep.registration.itk import write_affine
from deepprep.registration.itk_series import write_affine_series
from deepprep.registration.transforms import Affine

STEM = "sub-01_task-blocks"
REFERENCE_POSE = pose_matrix(np.array([0.4, -0.3, 0.2, 0.01, -0.005, 0.008]), np.array([5.0, 0, 9]))
"""The pipeline's reference image is not the head at rest."""


def shift(x=0.0, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = [x, y, z]
    return matrix


def write_estimates(folder, motion, coreg):
    func = folder / "sub-01" / "func"
    write_affine_series(func / f"{STEM}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt", motion)
    write_affine(func / f"{STEM}_from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt", coreg)
    return folder


@pytest.fixture
def right(simulated):
    """Motion to the pipeline's reference, and T1w points to it, without error."""
    motion = simulated.frame_poses @ np.linalg.inv(REFERENCE_POSE)
    return motion, REFERENCE_POSE @ simulated.t1w_to_bold


def test_truth_scores_zero(right, phantom_dir, tmp_path):
    scores = score_phantom(phantom_dir, write_estimates(tmp_path, *right), show=False)
    for name in ("motion_rms_mm", "motion_rms_deg", "coregistration_mean_mm"):
        assert scores[name] == pytest.approx(0, abs=1e-6)
    assert scores["field_rms_hz"] == NOT_COMPUTED == scores["activation_correlation"]


def test_coregistration_off_by_one_mm_scores_one_mm(right, phantom_dir, tmp_path):
    motion, coreg = right
    done = write_estimates(tmp_path, motion, shift(x=1.0) @ coreg)
    scores = score_phantom(phantom_dir, done, show=False)
    assert scores["coregistration_mean_mm"] == pytest.approx(1.0, abs=1e-6)
    assert scores["motion_rms_mm"] == pytest.approx(0.0, abs=1e-6)


def test_coregistration_written_the_wrong_way_round_is_seen(right, phantom_dir, tmp_path):
    motion, coreg = right
    done = write_estimates(tmp_path, motion, np.linalg.inv(coreg))
    assert score_phantom(phantom_dir, done, show=False)["coregistration_mean_mm"] > 5


def test_one_frame_off_by_one_mm_scores_its_share(right, phantom_dir, tmp_path):
    motion, coreg = right
    motion = motion.copy()
    motion[11] = shift(z=1.0) @ motion[11]
    scores = score_phantom(phantom_dir, write_estimates(tmp_path, motion, coreg), show=False)
    assert scores["motion_max_mm"] == pytest.approx(1.0, abs=1e-3)
    assert scores["motion_rms_mm"] == pytest.approx(np.sqrt(1 / 40), abs=1e-3)


def test_half_the_frames_off_by_one_mm_cannot_hide(right, phantom_dir, tmp_path):
    motion, coreg = right
    motion = motion.copy()
    motion[::2] = shift(y=1.0) @ motion[::2]
    scores = score_phantom(phantom_dir, write_estimates(tmp_path, motion, coreg), show=False)
    assert scores["motion_rms_mm"] >= 0.49


def test_no_motion_correction_scores_the_motion(simulated, right, phantom_dir, tmp_path):
    still = np.stack([np.eye(4)] * 40)
    scores = score_phantom(phantom_dir, write_estimates(tmp_path, still, right[1]), show=False)
    assert scores["motion_rms_mm"] > 0.3


def test_rotation_error_is_in_degrees(right, phantom_dir, tmp_path):
    motion, coreg = right
    motion = motion.copy()
    turn = pose_matrix(np.array([0, 0, 0, 0, np.deg2rad(2.0), 0]), np.zeros(3))
    motion[5] = turn @ motion[5]
    scores = score_phantom(phantom_dir, write_estimates(tmp_path, motion, coreg), show=False)
    assert scores["motion_max_deg"] == pytest.approx(2.0, abs=1e-2)


def test_field_error_is_in_hz(phantom_dir, tmp_path):
    field = load_volume(phantom_dir / "sourcedata/truth/fieldmap_hz.nii.gz")
    out = tmp_path / "sub-01" / "fmap" / "sub-01_fmapid-a_desc-preproc_fieldmap.nii.gz"
    save_volume(field.like(field.data + 7.0), out)
    scores = score_phantom(phantom_dir, tmp_path, show=False)
    assert scores["field_rms_hz"] == pytest.approx(7.0, abs=0.01)


def ideal_bold_in_t1w(simulated, motion_corrected=True):
    """The run brought to T1w space with the true transforms, one interpolation."""
    grid = simulated.bold.grid
    target = Volume(np.zeros(grid.shape), np.linalg.inv(simulated.t1w_to_bold) @ grid.affine).grid
    frames = []
    for t, pose in enumerate(simulated.frame_poses):
        to_frame = (pose if motion_corrected else np.eye(4)) @ simulated.t1w_to_bold
        frame = simulated.bold.frame(t)
        frames.append(resample(frame, target, Affine(to_frame), "linear").data)
    return Volume(np.stack(frames, axis=3), target.affine)


def test_activation_comes_out_of_an_ideal_preprocessing(simulated, phantom_dir, tmp_path):
    bold = ideal_bold_in_t1w(simulated)
    save_volume(
        bold, tmp_path / "sub-01/func" / f"{STEM}_space-T1w_desc-preproc_bold.nii.gz", tr_s=2.0
    )
    scores = score_phantom(phantom_dir, tmp_path, show=False)
    assert scores["activation_correlation"] > 0.35
    assert scores["tsnr_grey_median"] > 20
    flipped = bold.like(bold.data[:, ::-1])
    save_volume(flipped, tmp_path / "sub-01/func" / f"{STEM}_space-T1w_desc-preproc_bold.nii.gz")
    worse = score_phantom(phantom_dir, tmp_path, show=False)
    assert worse["activation_correlation"] < scores["activation_correlation"] - 0.1


def test_confounds_follow_the_true_motion(simulated, phantom_dir, tmp_path):
    axes = simulated.bold.affine[:3, :3] / np.linalg.norm(simulated.bold.affine[:3, :3], axis=0)
    p = simulated.motion_parameters
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    table = pd.DataFrame(np.c_[p[:, :3] @ axes, p[:, 3:] @ axes], columns=names)
    out = tmp_path / "sub-01/func" / f"{STEM}_desc-confounds_timeseries.tsv"
    out.parent.mkdir(parents=True)
    table.to_csv(out, sep="\t", index=False)
    scores = score_phantom(phantom_dir, tmp_path, show=False)
    assert scores["confound_motion_min_correlation"] == pytest.approx(1.0, abs=1e-4)
    table["rot_y"] = np.random.default_rng(0).normal(size=40)
    table.to_csv(out, sep="\t", index=False)
    scores = score_phantom(phantom_dir, tmp_path, show=False)
    assert scores["confound_motion_min_correlation"] < 0.6


def test_glm_gives_percent_signal_change():
    task = np.r_[np.zeros(10), np.ones(10)][:, None]
    series = 200 + 4 * task.T + np.zeros((3, 20))
    np.testing.assert_allclose(fit_glm(series, task, np.zeros((20, 0))), 2.0)


def test_rigid_mean_of_one_map_is_that_map():
    pose = pose_matrix(np.array([1, 2, 3, 0.1, 0.2, 0.3]), np.zeros(3))
    np.testing.assert_allclose(rigid_mean(np.stack([pose] * 5)), pose, atol=1e-12)


def test_a_folder_without_truth_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no sourcedata/truth"):
        score_phantom(tmp_path, tmp_path)


def test_table_names_what_is_not_met(right, phantom_dir, tmp_path, capsys):
    motion, coreg = right
    score_phantom(phantom_dir, write_estimates(tmp_path, motion, shift(3.0) @ coreg))
    printed = capsys.readouterr().out
    assert "NOT MET" in printed and "ok" in printed
    shutil.rmtree(tmp_path / "sub-01")


def test_itk_file_of_the_truth_is_the_text_matrix(phantom_dir):
    from deepprep.registration.itk import read_affine

    truth = phantom_dir / "sourcedata/truth"
    saved = read_affine(truth / "from-boldref_to-T1w_mode-image_xfm.txt").matrix
    np.testing.assert_allclose(saved, np.loadtxt(truth / "t1w_to_bold.txt"), atol=1e-6)
    assert nib.aff2axcodes(saved) == ("R", "A", "S")
