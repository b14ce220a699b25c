import nibabel as nib
import numpy as np
import pytest

from deepprep.image.freesurfer_space import conformed_grid, vox2ras_tkr
from deepprep.image.volume import Grid
from deepprep.surface import mesh_files
from deepprep.surface.mesh import Mesh

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def _rotation(degrees: float) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    )


GRIDS = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LAS": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "0.7 mm": np.diag([0.7, 0.8, 1.2, 1.0]),
    "oblique": nib.affines.from_matvec(_rotation(17.0) @ np.diag([0.9, 1.0, 1.1])),
}


@pytest.fixture(params=GRIDS, ids=str)
def t1w_grid(request: pytest.FixtureRequest) -> Grid:
    affine = GRIDS[request.param].copy()
    affine[:3, 3] += [-71.3, -98.2, -55.7]
    return Grid((150, 180, 160), affine)


def _mesh_on_voxels(grid: Grid) -> tuple[Mesh, np.ndarray]:
    voxels = np.array([[10, 20, 30], [100, 30, 40], [50, 120, 60], [70, 80, 140]], dtype=float)
    return Mesh(nib.affines.apply_affine(grid.affine, voxels), TETRAHEDRON), voxels


def test_gifti_vertices_lie_on_the_voxels_of_the_t1w(tmp_path, t1w_grid: Grid) -> None:
    mesh, voxels = _mesh_on_voxels(t1w_grid)
    mesh_files.write_gifti_surface(tmp_path / "a.surf.gii", mesh, "left", "pial")
    back = nib.load(tmp_path / "a.surf.gii")
    points = back.darrays[0]
    found = nib.affines.apply_affine(t1w_grid.ras2vox, points.data)
    np.testing.assert_allclose(found, voxels, atol=1e-3)
    assert points.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert points.meta["AnatomicalStructureSecondary"] == "Pial"
    assert points.meta["GeometricType"] == "Anatomical"
    np.testing.assert_array_equal(points.coordsys.xform, np.eye(4))
    np.testing.assert_array_equal(back.darrays[1].data, TETRAHEDRON)


def test_freesurfer_vertices_lie_on_the_voxels_of_orig(tmp_path, t1w_grid: Grid) -> None:
    mesh, voxels = _mesh_on_voxels(t1w_grid)
    orig = conformed_grid(t1w_grid)
    mesh_files.write_freesurfer_surface(tmp_path / "lh.white", mesh, orig)
    tkr, faces, info = nib.freesurfer.read_geometry(tmp_path / "lh.white", read_metadata=True)
    # Freeview: surface RAS -> voxel of orig.mgz -> scanner RAS -> voxel of the T1w
    in_orig = nib.affines.apply_affine(np.linalg.inv(vox2ras_tkr(orig)), tkr)
    in_t1w = nib.affines.apply_affine(t1w_grid.ras2vox @ orig.affine, in_orig)
    np.testing.assert_allclose(in_t1w, voxels, atol=1e-3)
    # surface RAS plus c_ras is scanner RAS: what mris_convert --to-scanner does
    np.testing.assert_allclose(tkr + info["cras"], mesh.vertices, atol=1e-3)
    np.testing.assert_array_equal(faces, TETRAHEDRON)
    np.testing.assert_allclose(info["volume"], [256, 256, 256])
    read = mesh_files.read_freesurfer_surface(tmp_path / "lh.white", orig)
    np.testing.assert_allclose(read.vertices, mesh.vertices, atol=1e-3)


def test_surface_of_another_volume_is_refused(tmp_path) -> None:
    here = conformed_grid(Grid((150, 180, 160), np.eye(4)))
    mesh, _ = _mesh_on_voxels(Grid((150, 180, 160), np.eye(4)))
    mesh_files.write_freesurfer_surface(tmp_path / "lh.white", mesh, here)
    there = Grid(here.shape, here.affine + np.outer([5, 0, 0, 0], [0, 0, 0, 1]))
    with pytest.raises(ValueError, match="not of the same subject"):
        mesh_files.read_freesurfer_surface(tmp_path / "lh.white", there)


def test_label_holds_the_vertices_inside(tmp_path) -> None:
    grid = Grid((150, 180, 160), np.eye(4))
    mesh, _ = _mesh_on_voxels(grid)
    orig = conformed_grid(grid)
    inside = np.array([True, False, True, False])
    mesh_files.write_freesurfer_label(tmp_path / "lh.cortex.label", inside, mesh, orig, "sub-01")
    np.testing.assert_array_equal(nib.freesurfer.read_label(tmp_path / "lh.cortex.label"), [0, 2])


def test_overlays_and_cortex_keep_their_values(tmp_path) -> None:
    values = np.array([0.5, 2.25, -1.0, 4.0], dtype=np.float32)
    mesh_files.write_freesurfer_overlay(tmp_path / "lh.curv", values, 4)
    np.testing.assert_array_equal(nib.freesurfer.read_morph_data(tmp_path / "lh.curv"), values)
    mesh_files.write_gifti_overlay(tmp_path / "c.shape.gii", values, "right", "curv")
    image = nib.load(tmp_path / "c.shape.gii")
    np.testing.assert_array_equal(image.darrays[0].data, values)
    assert image.meta["AnatomicalStructurePrimary"] == "CortexRight"
    mesh_files.write_gifti_cortex(tmp_path / "c.label.gii", values > 0, "left")
    image = nib.load(tmp_path / "c.label.gii")
    np.testing.assert_array_equal(image.darrays[0].data, [1, 1, 0, 1])
    assert image.labeltable.get_labels_as_dict()[1] == "cortex"


def test_unknown_kind_and_unnamed_labels_are_refused(tmp_path) -> None:
    mesh, _ = _mesh_on_voxels(Grid((150, 180, 160), np.eye(4)))
    with pytest.raises(ValueError, match="not cortex"):
        mesh_files.write_gifti_surface(tmp_path / "x.surf.gii", mesh, "left", "cortex")
    with pytest.raises(ValueError, match=r"\[7\]"):
        mesh_files.write_gifti_labels(tmp_path / "x.label.gii", np.array([7]), "left", {})
