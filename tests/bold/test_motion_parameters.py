"""Motion numbers against hand-made answers, nitransforms and nipype."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.bold.motion_parameters import (
    framewise_displacement,
    fsl_matrices,
    motion_parameters,
    rms_displacement,
)
from deepprep.image.volume import Volume
from tests.bold import simulated


def _random_affines(n: int) -> np.ndarray:
    random = np.random.default_rng(3)
    return np.stack([
        simulated.rigid(random.normal(size=3), random.normal(size=3) * 0.03) for _ in range(n)
    ])  # fmt: skip


@pytest.mark.parametrize("flip_x", [False, True])
def test_fsl_matrices_equal_nitransforms(flip_x):
    import nibabel as nib
    from nitransforms.io.fsl import FSLLinearTransformArray

    lattice = simulated.grid(flip_x=flip_x, shape=(10, 12, 8), oblique_rad=(0.1, 0.2, -0.1))
    image = nib.Nifti1Image(np.zeros(lattice.shape, np.float32), lattice.affine)
    affines = _random_affines(4)
    peer = FSLLinearTransformArray.from_ras(affines, reference=image, moving=image)
    expected = np.stack([x["parameters"] for x in peer.xforms])
    np.testing.assert_allclose(fsl_matrices(affines, lattice), expected, atol=1e-6)


def test_head_moved_right_in_a_las_image():
    # LAS storage has FSL's x to the left. The frame's head is 3 mm to the right, so bringing
    # it back is a motion of +3 mm along that x.
    lattice = simulated.grid(flip_x=True)
    reference = Volume(simulated.frame(lattice), lattice.affine)
    right = simulated.rigid(np.array([3.0, 0, 0]), np.zeros(3))
    parameters = motion_parameters(right[np.newaxis], reference)[0]
    assert parameters == pytest.approx([3, 0, 0, 0, 0, 0], abs=1e-9)


def test_turn_about_the_centre_of_gravity_has_no_translation():
    lattice = simulated.grid(flip_x=True)
    reference = Volume(simulated.frame(lattice), lattice.affine)
    weights = reference.data.ravel().astype(float)
    gravity = (lattice.points_ras().reshape(-1, 3) * weights[:, None]).sum(0) / weights.sum()
    nod = simulated.rigid(np.zeros(3), np.array([0.02, 0, 0]), centre=gravity)
    parameters = motion_parameters(nod[np.newaxis], reference)[0]
    assert np.abs(parameters[:3]).max() < 0.01
    assert np.abs(parameters[3]) == pytest.approx(0.02, abs=1e-6)
    assert np.abs(parameters[4:]).max() < 1e-6


def test_parameters_rebuild_the_matrices():
    lattice = simulated.grid(flip_x=True, oblique_rad=(0.1, 0.2, -0.1))
    reference = Volume(simulated.frame(lattice), lattice.affine)
    affines = _random_affines(3)
    gravity = np.array(ndimage.center_of_mass(reference.data)) * lattice.zooms_mm
    for matrix, (*shift, a, b, c) in zip(
        fsl_matrices(affines, lattice), motion_parameters(affines, reference), strict=True
    ):
        rotation = Rotation.from_euler("XYZ", [-a, -b, -c]).as_matrix()
        np.testing.assert_allclose(matrix[:3, :3], rotation, atol=1e-9)
        np.testing.assert_allclose(matrix[:3, 3], gravity - rotation @ gravity + shift, atol=1e-6)


def test_framewise_displacement_by_hand():
    parameters = np.array([[0, 0, 0, 0, 0, 0], [1, -2, 0, 0, 0.01, 0], [1, -2, 0, 0, 0.01, 0.0]])
    # 1 + 2 mm, and 0.01 rad on a sphere of 50 mm.
    assert framewise_displacement(parameters) == pytest.approx([np.nan, 3.5, 0.0], nan_ok=True)


def test_framewise_displacement_equals_nipype(tmp_path):
    from nipype.algorithms.confounds import FramewiseDisplacement

    parameters = np.random.default_rng(0).normal(size=(12, 6)) * [1, 1, 1, 0.01, 0.01, 0.01]
    np.savetxt(tmp_path / "par.txt", parameters)
    peer = FramewiseDisplacement(parameter_source="SPM")
    peer.inputs.in_file = str(tmp_path / "par.txt")
    peer.inputs.out_file = str(tmp_path / "fd.txt")
    peer.run(cwd=str(tmp_path))
    expected = np.loadtxt(tmp_path / "fd.txt", skiprows=1)
    np.testing.assert_allclose(framewise_displacement(parameters)[1:], expected, rtol=1e-5)


def test_rmsd_of_a_shift_and_of_a_turn():
    lattice = simulated.grid()
    still, shift = np.eye(4), simulated.rigid(np.array([0.0, 3, 4]), np.zeros(3))
    turn = simulated.rigid(np.zeros(3), np.array([0, 0, 0.01]))
    rmsd = rms_displacement(np.stack([still, shift, still, turn]), lattice)
    # About the sphere's centre, a turn by w moves points by w r sin(...): mean square is
    # 2 w^2 R^2 / 5.
    about_centre = 0.01 * 80 * np.sqrt(2 / 5)
    assert rmsd == pytest.approx([np.nan, 5, 5, about_centre], rel=1e-3, nan_ok=True)


def test_single_frame_has_no_displacement():
    assert framewise_displacement(np.zeros((1, 6))) == pytest.approx([np.nan], nan_ok=True)
    one = rms_displacement(np.eye(4)[None], simulated.grid())
    assert one == pytest.approx([np.nan], nan_ok=True)
