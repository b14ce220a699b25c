"""Surface files: vertices stay on the image, whatever its orientation."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.freesurfer_space import conformed_grid, vox2ras_tkr
from deepprep.image.volume import Grid
from deepprep.interfaces import mesh_files
from deepprep.surface.mesh import Mesh

FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def oblique() -> np.ndarray:
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag([0.8, 1.1, 1.3])
    affine[:3, 3] = (-60, -90, -70)
    return affine


AFFINES = {
    "RAS": np.array([[1.0, 0, 0, -80], [0, 1, 0, -100], [0, 0, 1, -60], [0, 0, 0, 1]]),
    "LAS 0.7 mm": np.array([[-0.7, 0, 0, 70], [0, 0.7, 0, -90], [0, 0, 0.7, -50], [0, 0, 0, 1]]),
    "PIR": np.array([[0.0, 0, 2, -90], [-1, 0, 0, 100], [0, -1, 0, 80], [0, 0, 0, 1]]),
    "oblique": oblique(),
}


def mesh_at(grid: Grid) -> tuple[Mesh, np.ndarray]:
    """Four vertices at known voxels of the image."""
    voxels = np.array([[10.0, 12, 14], [20, 12, 14], [10, 25, 14], [10, 12, 30]])
    return Mesh(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3], FACES), voxels


@pytest.mark.parametrize("name", AFFINES)
def test_a_vertex_lies_on_the_same_voxel_for_freesurfer(tmp_path, name):
    grid = Grid((60, 64, 62), AFFINES[name])
    mesh, voxels = mesh_at(grid)
    orig = conformed_grid(grid)
    path = mesh_files.write_freesurfer_surface(tmp_path / "lh.white", mesh, orig)
    points, faces, info = nib.freesurfer.read_geometry(path, read_metadata=True)
    # Freeview's way: surface RAS -> voxel of orig.mgz -> scanner RAS -> voxel of the T1w
    in_orig = nib.affines.apply_affine(np.linalg.inv(vox2ras_tkr(orig)), points)
    world = nib.affines.apply_affine(orig.affine, in_orig)
    np.testing.assert_allclose(nib.affines.apply_affine(grid.ras2vox, world), voxels, atol=1e-4)
    np.testing.assert_array_equal(faces, FACES)
    # and the volume info places that volume as its own header does
    header = np.eye(4)
    header[:3, :3] = np.stack([info["xras"], info["yras"], info["zras"]], 1) * info["voxelsize"]
    header[:3, 3] = info["cras"] - header[:3, :3] @ (np.array(info["volume"]) / 2)
    np.testing.assert_allclose(header, orig.affine, atol=1e-4)
    back = mesh_files.read_freesurfer_surface(path, orig)
    np.testing.assert_allclose(back.vertices, mesh.vertices, atol=1e-4)


@pytest.mark.parametrize("name", AFFINES)
def test_gifti_holds_scanner_ras_of_the_nifti(tmp_path, name):
    grid = Grid((60, 64, 62), AFFINES[name])
    mesh, voxels = mesh_at(grid)
    path = mesh_files.write_surf_gii(tmp_path / "a.surf.gii", mesh, "L", "pial")
    image = nib.load(path)
    points, faces = image.agg_data(("pointset", "triangle"))
    np.testing.assert_allclose(nib.affines.apply_affine(grid.ras2vox, points), voxels, atol=1e-4)
    np.testing.assert_array_equal(faces, FACES)
    meta = image.darrays[0].meta
    assert meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert meta["AnatomicalStructureSecondary"] == "Pial"
    assert meta["GeometricType"] == "Anatomical"


def test_inflated_surfaces_keep_their_own_coordinates(tmp_path):
    orig = conformed_grid(Grid((60, 64, 62), AFFINES["oblique"]))
    mesh = Mesh(np.eye(4, 3) * 20, FACES)
    path = mesh_files.write_freesurfer_surface(tmp_path / "lh.inflated", mesh, orig, head=False)
    np.testing.assert_allclose(nib.freesurfer.read_geometry(path)[0], mesh.vertices)


def test_morph_data_and_label_come_back(tmp_path):
    grid = conformed_grid(Grid((60, 64, 62), AFFINES["RAS"]))
    mesh, _ = mesh_at(Grid((60, 64, 62), AFFINES["RAS"]))
    values = np.array([1.5, -2, 0, 4])
    path = mesh_files.write_morph(tmp_path / "lh.sulc", values, 4)
    np.testing.assert_allclose(nib.freesurfer.read_morph_data(path), values)
    label = mesh_files.write_label(
        tmp_path / "lh.cortex.label", np.array([True, False, True, False]), mesh, grid, "sub-1"
    )
    np.testing.assert_array_equal(nib.freesurfer.read_label(label), [0, 2])
    empty = mesh_files.write_label(tmp_path / "e.label", np.zeros(4, bool), mesh, grid, "sub-1")
    assert empty.read_text().splitlines()[1] == "0"


def test_shape_and_label_gifti_name_their_side_and_map(tmp_path):
    path = mesh_files.write_shape_gii(tmp_path / "t.shape.gii", np.arange(4.0), "R", "thickness")
    image = nib.load(path)
    np.testing.assert_array_equal(image.agg_data(), np.arange(4))
    assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
    assert image.darrays[0].meta["Name"] == "thickness"
    path = mesh_files.write_cortex_gii(tmp_path / "c.label.gii", np.array([1, 0, 1, 1], bool), "R")
    image = nib.load(path)
    np.testing.assert_array_equal(image.agg_data(), [1, 0, 1, 1])
    assert image.labeltable.get_labels_as_dict() == {0: "???", 1: "cortex"}


def test_a_label_without_an_entry_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label 7"):
        mesh_files.write_label_gii(tmp_path / "x.label.gii", np.array([7]), "L", "x", {})


def test_the_same_surface_gives_the_same_bytes(tmp_path):
    mesh, _ = mesh_at(Grid((60, 64, 62), AFFINES["RAS"]))
    one = mesh_files.write_surf_gii(tmp_path / "1.surf.gii", mesh, "L", "white").read_bytes()
    two = mesh_files.write_surf_gii(tmp_path / "2.surf.gii", mesh, "L", "white").read_bytes()
    assert one == two


def test_a_series_has_one_array_a_frame(tmp_path):
    series = np.arange(12.0).reshape(4, 3)
    image = nib.load(mesh_files.write_func_gii(tmp_path / "a.func.gii", series, "R", 2.5))
    assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
    assert len(image.darrays) == 3
    for frame, array in enumerate(image.darrays):
        assert array.intent == nib.nifti1.intent_codes["NIFTI_INTENT_TIME_SERIES"]
        assert np.array_equal(array.data, series[:, frame])
        assert float(array.meta["TimeStep"]) == 2500.0
    assert np.array_equal(image.agg_data(), series)
