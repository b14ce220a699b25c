"""Surfaces of a finished subject: placed where the T1w is, or refused in one sentence."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from fileformats.generic import File
from scipy.spatial.transform import Rotation

from benchmarks.surface_phantom import SHAPES, FoldedHemisphere, as_right, render
from deepprep.bids.records import Image, SubjectInputs
from deepprep.bids.subjects_dir import check_subject_folder, find_subject_folder, folder_names
from deepprep.errors import StageError
from deepprep.image.freesurfer_space import byte_scaling, conform_image, conformed_grid
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.existing_surfaces import ReadSurfaces
from deepprep.interfaces.hemisphere_files import load_hemisphere
from deepprep.interfaces.mesh_files import write_freesurfer_surface, write_label, write_morph
from deepprep.interfaces.mgz import save_mgz
from deepprep.interfaces.nifti import save_volume
from deepprep.surface.marching_cubes import marching_cubes

LEFT = replace(SHAPES["gentle"], radius_mm=17.0, centre_ras=(-24.0, 0.0, 0.0))
RIGHT = as_right(replace(SHAPES["waves"], radius_mm=15.0, centre_ras=(22.0, 3.0, 4.0)))
TRUTH = {"left": LEFT, "right": RIGHT}


def grid_of(axes: str, oblique: bool) -> Grid:
    """A lattice of 1 x 1.1 x 1 mm around both hemispheres."""
    affine = np.diag([1.0, 1.1, 1.0, 1.0])
    shape = (106, 60, 62)
    if oblique:
        affine[:3, :3] = Rotation.from_euler("xyz", [9, -6, 12], degrees=True).as_matrix() @ affine[:3, :3]  # fmt: skip
        shape = (112, 76, 80)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) / 2)
    if axes[0] == "L":
        affine[:3, 3] += affine[:3, 0] * (shape[0] - 1)
        affine[:3, 0] *= -1
    return Grid(shape, affine)


def level_mesh(shape: FoldedHemisphere, which: str):
    """Triangles of the true surface, about 1 mm."""
    centre = np.array(shape.centre_ras)
    affine = np.eye(4)
    affine[:3, 3] = centre - 28.3  # no lattice point at the centre, where directions end
    grid = Grid((57, 57, 57), affine)
    points = grid.points_ras().reshape(-1, 3)
    level = getattr(shape, f"{which}_distance")(points).reshape(grid.shape)
    return marching_cubes(Volume(level.astype(np.float32), affine))


def write_subject(folder: Path, t1w: Volume) -> Path:
    """What a reconstruction leaves: pial vertices out along the normals of white."""
    orig_grid = conformed_grid(t1w.grid)
    orig = byte_scaling(t1w.data).apply(conform_image(t1w, orig_grid).data)
    (folder / "mri").mkdir(parents=True)
    save_mgz(Volume(orig, orig_grid.affine), folder / "mri" / "orig.mgz")
    for side, hemi in (("left", "lh"), ("right", "rh")):
        white = level_mesh(TRUTH[side], "white")
        pial = white.moved(white.vertices + 0.5 * white.vertex_normals)
        for name, mesh in (("white", white), ("pial", pial)):
            write_freesurfer_surface(folder / "surf" / f"{hemi}.{name}", mesh, orig_grid)
        write_morph(
            folder / "surf" / f"{hemi}.sulc", np.arange(white.n_vertices) * 0.01, white.n_faces
        )
        inside = np.arange(white.n_vertices) > 50
        write_label(folder / "label" / f"{hemi}.cortex.label", inside, white, orig_grid, "sub-01")
    return folder


def files_of(t1w: Volume, folder: Path) -> dict[str, File]:
    mask = (t1w.data > 0.05 * t1w.data.max()).astype(np.uint8)
    return {
        "t1w": File(save_volume(t1w, folder / "t1w.nii")),
        "mask": File(save_volume(t1w.like(mask), folder / "mask.nii")),
    }


def read(subject: Path, t1w: Volume, folder: Path):
    task = ReadSurfaces(folder=str(subject), stamps=[], **files_of(t1w, folder), label="sub-01")
    result = task(cache_root=folder / "cache")
    info = json.loads(Path(str(result.left_info)).read_text())
    return {s: load_hemisphere(str(getattr(result, s))) for s in TRUTH}, info


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    t1w = render([LEFT, RIGHT], grid=grid_of("RAS", False), noise=0.02).image
    return write_subject(tmp_path_factory.mktemp("subjects") / "sub-01", t1w)


@pytest.mark.parametrize(("axes", "oblique"), [("LAS", False), ("LAS", True)])
def test_surfaces_lie_on_the_t1w_in_any_orientation(axes, oblique, tmp_path):
    t1w = render([LEFT, RIGHT], grid=grid_of(axes, oblique), noise=0.02).image
    found, info = read(write_subject(tmp_path / "sub-01", t1w), t1w, tmp_path)
    assert info["head_moved_mm"] == 0 and "lies where the T1w does" in info["source"]
    for side, truth in TRUTH.items():
        white = found[side].white
        np.testing.assert_allclose(white.vertices, level_mesh(truth, "white").vertices, atol=1e-3)
        assert white.enclosed_volume_mm3 > 0
        assert found[side].side == side


def test_what_is_missing_is_computed_and_what_is_there_is_kept(subject, tmp_path):
    t1w = render([LEFT, RIGHT], grid=grid_of("RAS", False), noise=0.02, seed=1).image
    found, _ = read(subject, t1w, tmp_path)
    left = found["left"]
    np.testing.assert_allclose(left.overlays["sulc"], np.arange(left.white.n_vertices) * 0.01)
    np.testing.assert_array_equal(np.flatnonzero(~left.cortex), np.arange(51))
    assert abs(left.overlays["thickness"][left.cortex].mean() - 0.5) < 0.05
    assert left.qc["euler_white"] == 2
    assert set(left.overlays) >= {"curv", "area.pial", "volume", "w-g.pct"}


def test_a_head_that_moved_between_scans_is_registered(subject, tmp_path):
    t1w = render([LEFT, RIGHT], grid=grid_of("LAS", True), noise=0.02, seed=2).image
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", [2, -3, 4], degrees=True).as_matrix()
    moved[:3, 3] = [1.0, -2.0, 1.5]
    found, info = read(subject, Volume(t1w.data, moved @ t1w.affine), tmp_path)
    assert 2 < info["head_moved_mm"] < 12 and "was registered to it" in info["source"]
    back = np.linalg.inv(moved)
    for side, truth in TRUTH.items():
        points = found[side].white.vertices @ back[:3, :3].T + back[:3, 3]
        assert np.abs(truth.white_distance(points)).mean() < 0.3


def test_another_head_is_refused(subject, tmp_path):
    others = [replace(SHAPES["network"], radius_mm=16.0, centre_ras=LEFT.centre_ras),
              as_right(replace(SHAPES["gentle"], radius_mm=16.0, centre_ras=RIGHT.centre_ras))]  # fmt: skip
    t1w = render(others, grid=grid_of("RAS", False), noise=0.02).image
    with pytest.raises(StageError, match="does not show the head of the T1w of sub-01"):
        read(subject, t1w, tmp_path)


def broken(subject: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(subject, tmp_path / "sub-01"))


def test_files_of_two_runs_are_refused(subject, tmp_path):
    t1w = render([LEFT, RIGHT], grid=grid_of("RAS", False), noise=0.02).image
    folder = broken(subject, tmp_path)
    write_morph(folder / "surf" / "lh.thickness", np.ones(7), 5)
    with pytest.raises(StageError, match=r"lh\.thickness has 7 values"):
        read(folder, t1w, tmp_path)
    (folder / "surf" / "lh.thickness").unlink()
    other = conformed_grid(grid_of("LAS", True))
    moved = other.affine.copy()
    moved[0, 3] += 4
    write_freesurfer_surface(
        folder / "surf" / "rh.white", level_mesh(RIGHT, "white"), Grid(other.shape, moved)
    )
    with pytest.raises(StageError, match=r"rh\.white was made for another volume"):
        read(folder, t1w, tmp_path)


def test_what_a_folder_must_hold_is_checked_before_the_run(subject, tmp_path):
    one = SubjectInputs("01", t1w=(Image("/data/sub-01/anat/sub-01_T1w.nii.gz"),))
    folder = broken(subject, tmp_path)
    assert check_subject_folder(tmp_path, one) == []
    (folder / "surf" / "lh.pial").rename(folder / "surf" / "lh.pial.T1")
    assert check_subject_folder(tmp_path, one) == []
    (folder / "surf" / "rh.pial").unlink()
    (problem,) = check_subject_folder(tmp_path, one)
    assert problem.is_error and "lacks surf/rh.pial" in problem.sentence()
    (folder / "scripts").mkdir()
    (folder / "scripts" / "IsRunning.lh+rh").touch()
    (problem,) = check_subject_folder(tmp_path, one)
    assert problem.is_error and "going on still" in problem.sentence()
    (problem,) = check_subject_folder(tmp_path, replace(one, label="02"))
    assert not problem.is_error and "no folder sub-02" in problem.sentence()


def test_names_of_folders_are_fmripreps(tmp_path):
    assert folder_names(SubjectInputs("01", sessions=("a", "b"))) == ["sub-01"]
    assert folder_names(SubjectInputs("01", sessions=("a",))) == ["sub-01", "sub-01_ses-a"]
    of_session = SubjectInputs("01", sessions=("a", "b"), anatomical_session="b")
    assert folder_names(of_session) == ["sub-01_ses-b"]
    (tmp_path / "sub-01_ses-a").mkdir()
    one = SubjectInputs("01", sessions=("a",))
    assert find_subject_folder(tmp_path, one) == tmp_path / "sub-01_ses-a"


def test_surface_files_of_freesurfer_are_in_tkregister_space(subject):
    points, _, info = nib.freesurfer.read_geometry(
        subject / "surf" / "lh.white", read_metadata=True
    )
    np.testing.assert_allclose(points.mean(0) + info["cras"], LEFT.centre_ras, atol=1.0)
