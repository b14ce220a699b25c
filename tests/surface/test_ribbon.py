"""Ribbon, filled and wm of two concentric balls a side."""

from types import SimpleNamespace

import numpy as np
import pytest
from skimage.measure import marching_cubes

from deepprep.image.volume import Grid
from deepprep.surface.mesh import Mesh
from deepprep.surface.ribbon import ribbon_volumes

AFFINE = np.array([[-1.0, 0, 0, 30], [0, 0, 1.5, -15], [0, -1, 0, 12], [0, 0, 0, 1]])
GRID = Grid((60, 26, 22), AFFINE)


def ball(centre: tuple[float, float, float], radius: float) -> Mesh:
    n = int(radius) + 3
    axes = np.indices((2 * n + 1,) * 3) - n
    vertices, faces, *_ = marching_cubes(radius - np.sqrt((axes**2).sum(0)), 0.0)
    mesh = Mesh(vertices - n + np.array(centre), faces)
    return mesh if mesh.enclosed_volume_mm3 > 0 else Mesh(mesh.vertices, mesh.faces[:, ::-1])


def side(name: str, x: float) -> SimpleNamespace:
    return SimpleNamespace(side=name, white=ball((x, 0, 0), 5), pial=ball((x, 0, 0), 8))


def test_shells_are_cortex_and_cores_are_white_matter_on_the_right_sides():
    made = ribbon_volumes(side("left", -14), side("right", 14), GRID)
    world = GRID.points_ras()
    for x, white, cortex, filled in ((-14, 2, 3, 255), (14, 41, 42, 127)):
        distance = np.linalg.norm(world - np.array([x, 0, 0]), axis=-1)
        assert (made.ribbon[distance < 4.8] == white).all()
        assert (made.ribbon[(distance > 5.2) & (distance < 7.8)] == cortex).all()
        assert (made.filled[distance < 4.8] == filled).all()
        assert (made.filled[(distance > 5.2) & (distance < 12)] == 0).all()
    assert set(np.unique(made.ribbon)) == {0, 2, 3, 41, 42}


def test_wm_marks_what_was_filled():
    made = ribbon_volumes(side("left", -14), side("right", 14), GRID)
    aseg = np.zeros(GRID.shape, int)
    aseg[np.linalg.norm(GRID.points_ras() - np.array([-14, 0, 0]), axis=-1) < 2] = 4
    wm = made.wm(aseg)
    assert (wm[aseg == 4] == 250).all()
    assert ((wm == 110) == ((made.filled > 0) & (aseg != 4))).all()


def test_swapped_sides_are_refused():
    with pytest.raises(ValueError, match="left and the right"):
        ribbon_volumes(side("right", 14), side("left", -14), GRID)
