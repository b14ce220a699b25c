import json

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.image.volume import Grid
from deepprep.interfaces.nifti import load_volume
from deepprep.phantom import make_phantom
from deepprep.phantom.acquire import Scanner, Source, acquire_frame, spline_maps
from deepprep.phantom.dataset import write_dataset
from deepprep.phantom.field import scale_to_hz, shim, susceptibility_field
from deepprep.phantom.motion import pose_matrix, random_trajectory
from deepprep.phantom.simulate import PhantomOptions, simulate
from deepprep.phantom.timecourse import Event, response
from tests.phantom.conftest import shell_head


def blob(shape, at, sigma):
    index = np.indices(shape).astype(float)
    squared = sum(((index[a] - at[a]) / sigma) ** 2 for a in range(3))
    return np.exp(-squared / 2).astype(np.float32)


def still_scanner(shape=(30, 30, 12), sign=1, readout=0.03):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return Scanner(Grid(shape, affine), np.zeros(shape[2]), sign, readout)


def source_of(scanner, at_voxel, hz=0.0):
    """A blob at a voxel of the scanner, on a lattice of its own, in a constant field."""
    affine = np.eye(4)
    affine[:3, 3] = [-10.0, -10.0, -12.0]
    grid = Grid((80, 80, 60), affine)
    at = grid.ras2vox @ scanner.grid.affine @ [*at_voxel, 1.0]
    maps = spline_maps(blob(grid.shape, at[:3], 4.0)[None])
    return Source(grid, maps, np.full(grid.shape, hz, np.float32))


def centre(frame):
    return np.array(ndimage.center_of_mass(frame))


@pytest.mark.parametrize(("sign", "expected"), [(1, 2.4), (-1, -2.4)])
def test_positive_field_moves_signal_along_the_phase_axis(sign, expected):
    scanner = still_scanner(sign=sign, readout=0.03)
    still = np.broadcast_to(np.eye(4), (12, 4, 4))
    plain = acquire_frame(source_of(scanner, (15, 15, 6)), scanner, still)[0]
    moved = acquire_frame(source_of(scanner, (15, 15, 6), hz=80.0), scanner, still)[0]
    np.testing.assert_allclose(centre(plain), [15, 15, 6], atol=0.02)
    np.testing.assert_allclose(centre(moved) - centre(plain), [0, expected, 0], atol=0.02)


def test_field_gradient_keeps_the_amount_of_signal():
    scanner = still_scanner()
    still = np.broadcast_to(np.eye(4), (12, 4, 4))
    source = source_of(scanner, (15, 15, 6))
    plain = acquire_frame(source, scanner, still)[0]
    ramp = np.linspace(-200, 200, source.field_hz.shape[1], dtype=np.float32)
    bent = Source(source.grid, source.maps, np.broadcast_to(ramp[:, None], (80, 80, 60)).copy())
    stretched = acquire_frame(bent, scanner, still)[0]
    assert stretched.max() < 0.95 * plain.max()
    assert stretched.sum() == pytest.approx(plain.sum(), rel=0.01)


def test_pose_moves_the_head_the_way_the_matrix_says():
    scanner = still_scanner()
    pose = pose_matrix(np.array([4.0, -2.0, 3.0, 0, 0, 0]), np.zeros(3))
    source = source_of(scanner, (15, 15, 6))
    frame = acquire_frame(source, scanner, np.broadcast_to(pose, (12, 4, 4)))[0]
    np.testing.assert_allclose(centre(frame), [17, 14, 7], atol=0.02)


def test_each_slice_is_taken_with_its_own_pose():
    scanner = still_scanner()
    poses = np.stack([np.eye(4)] * 12)
    poses[6, 0, 3] = 4.0
    frame = acquire_frame(source_of(scanner, (15, 15, 6)), scanner, poses)[0]
    assert ndimage.center_of_mass(frame[:, :, 6])[0] == pytest.approx(17, abs=0.02)
    assert ndimage.center_of_mass(frame[:, :, 5])[0] == pytest.approx(15, abs=0.02)


def test_rotation_turns_about_the_given_centre():
    pose = pose_matrix(np.array([0, 0, 0, 0, 0, np.pi / 2]), np.array([10.0, 0, 0]))
    np.testing.assert_allclose(pose @ [10, 0, 0, 1], [10, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(pose @ [11, 0, 0, 1], [10, 1, 0, 1], atol=1e-12)


def test_trajectory_steps_by_the_step():
    rng = np.random.default_rng(0)
    path = random_trajectory(rng, 200.0, 2.0, np.zeros(3), drift_mm=0.0, step_mm=1.0)
    before, after = path.at(path.step_times_s[:1] - 0.2), path.at(path.step_times_s[:1] + 0.2)
    np.testing.assert_allclose((after - before)[0], path.steps[0], atol=1e-9)


def test_sphere_of_tissue_has_a_dipole_field_outside_and_none_inside():
    index = np.indices((48, 48, 48)) - 24
    r = np.sqrt((index**2).sum(axis=0))
    ball = r < 10
    # Without the neck: the ball ends above the lowest plane.
    field = susceptibility_field(ball, np.zeros_like(ball), np.ones(3), smooth_mm=0.0)
    above, beside = field[24, 24, 40], field[40, 24, 24]
    assert above > 0 > beside
    assert above / beside == pytest.approx(-2.0, rel=0.15)
    # chi / 3 (a / r)^3 (3 cos^2 - 1), the Lorentz-corrected field of a sphere.
    assert above == pytest.approx(2.0 / 3.0 * (10 / 16) ** 3, rel=0.1)
    assert abs(field[24, 24, 24]) < 0.05 * above


def test_shim_leaves_no_linear_field_and_scale_gives_hz():
    head, brain = shell_head()
    x = np.indices(brain.shape)[0].astype(np.float32)
    assert np.abs(shim(3.0 * x + 5.0, brain)[brain]).max() < 1e-2
    field = np.random.default_rng(0).normal(size=brain.shape).astype(np.float32)
    hz = scale_to_hz(field, brain, 60.0)
    assert np.percentile(np.abs(hz[brain]), 99.5) == pytest.approx(
        60 * 1.5 * np.tanh(1 / 1.5), rel=0.01
    )
    del head


def test_response_plateaus_at_one_and_peaks_late():
    times = np.arange(0.0, 80.0, 0.5)
    block = response([Event(10.0, 40.0, "a")], "a", times)
    assert block[times < 10].max() == pytest.approx(0.0, abs=1e-6)
    assert block[np.abs(times - 45) < 1] == pytest.approx(1.0, abs=0.02)
    blip = response([Event(10.0, 0.5, "a")], "a", times)
    assert times[blip.argmax()] == pytest.approx(15.0, abs=1.0)
    assert not response([Event(10.0, 40.0, "a")], "b", times).any()


def test_brain_of_the_phantom_is_where_truth_says(simulated):
    steady = simulated.bold.data[..., 5:].mean(axis=3)
    inside = simulated.brain.data > 0.99
    assert np.median(steady[inside]) > 5 * np.median(steady[simulated.brain.data < 0.01])
    pose = simulated.frame_poses[7]
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-10)


def test_first_frames_are_brighter(simulated):
    mean = simulated.bold.data[simulated.brain.data > 0.99].mean(axis=0)
    assert mean[0] > 1.2 * mean[10] and mean[1] > 1.03 * mean[10]
    assert abs(mean[4] / mean[10] - 1) < 0.02


def test_field_map_phase_agrees_with_the_true_field(simulated):
    phase = simulated.phasediff.data / 4095 * 2 * np.pi - np.pi
    hz = phase / (2 * np.pi * (0.00738 - 0.00492))
    inside = simulated.brain.data > 0.99
    assert np.median(np.abs(hz - simulated.field_hz.data)[inside]) < 3.0


def test_active_voxels_follow_the_task(simulated, phantom_dir):
    truth = load_volume(phantom_dir / "sourcedata/truth/desc-visual_activation.nii.gz")
    assert 1.0 < truth.data.max() <= 4.0
    at = np.unravel_index(truth.data.argmax(), truth.shape)
    ras = simulated.t1w_to_bold @ truth.affine @ [*at, 1.0]
    i, j, k = np.rint(simulated.bold.grid.ras2vox @ ras)[:3].astype(int)
    series = simulated.bold.data[i - 1 : i + 2, j - 1 : j + 2, k, 5:].mean(axis=(0, 1))
    assert np.corrcoef(series, simulated.responses["visual"][5:])[0, 1] > 0.5


def test_files_are_bids_with_metadata(phantom_dir, simulated):
    sidecar = json.loads((phantom_dir / "sub-01/func/sub-01_task-blocks_bold.json").read_text())
    assert len(sidecar["SliceTiming"]) == 16 and max(sidecar["SliceTiming"]) < 2.0
    assert sidecar["TotalReadoutTime"] == pytest.approx(sidecar["EffectiveEchoSpacing"] * 31)
    events = pd.read_csv(phantom_dir / "sub-01/func/sub-01_task-blocks_events.tsv", sep="\t")
    assert set(events.trial_type) == {"visual", "motor"}
    bold = load_volume(phantom_dir / "sub-01/func/sub-01_task-blocks_bold.nii.gz", dtype=None)
    assert bold.shape == (32, 32, 16, 40) and bold.grid.axcodes == ("L", "A", "S")
    t1w = load_volume(phantom_dir / "sub-01/anat/sub-01_T1w.nii.gz", dtype=None)
    assert t1w.grid.axcodes == ("P", "S", "R")
    assert sorted(np.unique(t1w.data)) == sorted(np.unique(simulated.t1w.data))


def test_pybids_reads_the_phantom(phantom_dir):
    from bids import BIDSLayout

    layout = BIDSLayout(phantom_dir, validate=True)
    bold = layout.get(suffix="bold", extension=".nii.gz")
    assert len(bold) == 1 and bold[0].get_metadata()["RepetitionTime"] == 2.0
    assert layout.get(suffix="phasediff", extension=".nii.gz")[0].get_metadata()["EchoTime1"] > 0


def test_same_seed_same_bytes(tmp_path):
    head, brain = shell_head()
    options = PhantomOptions(n_frames=3, shape=(20, 20, 8), zooms_mm=(9.0, 9.0, 14.0))
    files = "sub-01/func/sub-01_task-blocks_bold.nii.gz"
    one, two, other = (
        write_dataset(simulate(head, options, seed, brain), tmp_path / name, "x", seed) / files
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_no_image_is_refused(tmp_path):
    bad = tmp_path / "t1.nii.gz"
    bad.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"t1\.nii\.gz cannot be read"):
        make_phantom(tmp_path / "out", bad)


def test_foreign_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        make_phantom(tmp_path)
