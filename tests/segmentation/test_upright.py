"""A head that lies turned is segmented as if it stood upright."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.image.brain_mask import NETWORK, BrainMask
from deepprep.image.resample import resample, resample_image
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.freesurfer import template_brain
from deepprep.registration.transforms import Affine
from deepprep.segmentation import upright
from deepprep.segmentation.intracranial import TemplateBrain
from deepprep.segmentation.result import Segmentation
from deepprep.segmentation.upright import (
    anatomical_axes,
    extract_brain_upright,
    lattice_axes,
    segment_upright,
    turned_by,
    upright_grid,
)


class HalvesEngine:
    """Calls the half of the brain on the right of its own lattice's middle 41, the other 2."""

    name = "halves"

    def weight_files(self, models_dir):
        return []

    def segment(self, head, mask, files, *, device, threshold):
        along = np.argwhere(mask) @ head.affine[:3, :3].T @ lattice_axes(head.grid)[:, 0]
        labels = np.zeros(head.shape, np.uint8)
        labels[mask] = np.where(along > along.mean(), 41, 2)
        soft = mask.astype(np.float32)
        return Segmentation(labels, soft, 0 * soft, 0 * soft, 0 * soft, {2: 1.0}, self.name)


@pytest.fixture(scope="module")
def template() -> TemplateBrain:
    return template_brain()


def turned(template: TemplateBrain, degrees: tuple[float, float, float]):
    """The template's head turned in space on an upright lattice, its mask, and the map back."""
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -128
    grid = Grid((65, 65, 65), affine)
    back = Affine(np.linalg.inv(move))
    mask = resample(template.mask.like(template.mask.data.astype(np.float32)), grid, back, "linear")
    return resample_image(template.head, grid, back), mask.data > 0.5, back


@pytest.mark.parametrize("degrees", [(0, 0, 50), (40, -20, 0)])
def test_halves_of_a_turned_head_are_its_own(template, degrees):
    head, mask, back = turned(template, degrees)
    found = segment_upright(HalvesEngine(), head, mask, [], template)
    voxels = np.argwhere(mask)
    points = back.map_points(voxels @ head.affine[:3, :3].T + head.affine[:3, 3])
    truth = np.where(points[:, 0] > points[:, 0].mean(), 41, 2)
    right = found.labels[mask] == truth
    assert right[np.abs(points[:, 0]) > 6].mean() > 0.99
    assert right.mean() > 0.95
    assert "set upright" in found.notes[-1]


def test_brain_extraction_sees_a_turned_head_upright(template, monkeypatch):
    """The network finds a part of a turned brain, and all of an upright one."""
    head, mask, _ = turned(template, (0, 45, 0))
    seen = []

    def network(volume, mode, device):
        seen.append(volume)
        if volume is head:
            part = ndimage.binary_erosion(mask)
            return BrainMask(part, NETWORK, "the input has a skull", 1.0)
        pose = anatomical_axes(volume, volume.data > 0, template)
        assert turned_by(volume.grid, pose) < 5
        return BrainMask(volume.data > 0, NETWORK, "forced", 1.0)

    monkeypatch.setattr(upright, "extract_brain", network)
    brain = head.like(np.where(mask, head.data, 0))
    seen.clear()
    head = brain
    found = extract_brain_upright(head, template)
    assert len(seen) == 2
    overlap = 2 * (found.mask & mask).sum() / (found.mask.sum() + mask.sum())
    assert overlap > 0.95
    assert found.reason.endswith("turned by 45 degrees and was set upright")
    assert found.volume_ml == pytest.approx(found.mask.sum() * 0.064)


def test_an_upright_or_stripped_head_is_looked_at_once(template, monkeypatch):
    for degrees, method in (((8, 0, 0), NETWORK), ((0, 45, 0), "input")):
        head, mask, _ = turned(template, degrees)
        given = BrainMask(mask, method, "", 1.0)
        monkeypatch.setattr(upright, "extract_brain", lambda volume, *a, given=given: given)
        assert extract_brain_upright(head, template) is given


def test_a_head_that_nods_a_little_is_left_on_its_lattice(template):
    head, mask, _ = turned(template, (12, 0, 0))
    plain = HalvesEngine().segment(head, mask, [], device="cpu", threshold=0.5)
    found = segment_upright(HalvesEngine(), head, mask, [], template)
    assert found.notes == ()
    np.testing.assert_array_equal(found.labels, plain.labels)


def test_the_axes_of_an_oblique_lattice_count_not_those_of_the_world(template):
    head, mask, _ = turned(template, (0, 0, 0))
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", (0, 35, 0), degrees=True).as_matrix()
    oblique = Volume(head.data, turn @ head.affine)
    assert turned_by(oblique.grid, anatomical_axes(oblique, mask, template)) < 3


@pytest.mark.parametrize("degrees", [0.0, 10.0, 40.0])
def test_degrees_between_a_lattice_and_a_head(degrees):
    axes = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    flipped = Grid(
        (5, 6, 7), np.array([[0, -2.0, 0, 4], [0, 0, 1, 5], [-3, 0, 0, 6], [0, 0, 0, 1]])
    )
    assert turned_by(flipped, axes) == pytest.approx(degrees, abs=1e-6)


def test_the_upright_lattice_covers_the_brain_and_the_skull_around_it():
    grid = Grid((20, 30, 10), np.diag([0.8, 1.0, 3.0, 1.0]))
    mask = np.zeros(grid.shape, bool)
    mask[4:9, 10:20, 3:8] = True
    axes = Rotation.from_euler("xyz", (30, 20, -40), degrees=True).as_matrix()
    found = upright_grid(grid, axes, mask)
    np.testing.assert_allclose(found.zooms_mm, 0.8)
    points = np.argwhere(mask) * grid.zooms_mm
    vox = points @ found.ras2vox[:3, :3].T + found.ras2vox[:3, 3]
    np.testing.assert_allclose(vox.min(0), 40 / 0.8, atol=1e-6)
    assert (np.array(found.shape) - 1 - vox.max(0) >= 40 / 0.8 - 1e-6).all()
