"""Our own deformation network: antisymmetry, where its velocity lies, which way it points."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deepprep.errors import StageError
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration.flow import flow_of
from deepprep.registration.synthmorph import compact
from deepprep.registration.synthmorph.compact import (
    CompactDeformation,
    compact_velocity,
    load_compact,
    network_grid,
)
from deepprep.registration.transforms import Affine, Displacement
from tests.registration.heads import T1W, error_mm, grid, motion, paint

SMALL = (2, 3, 4, 5)


@pytest.fixture
def weights(tmp_path):
    """Random weights whose velocities are a voxel or so."""
    torch.manual_seed(3)
    net = CompactDeformation(SMALL)
    for head in net.heads:
        torch.nn.init.normal_(head.weight, std=0.5)
    path = tmp_path / "net.safetensors"
    described = {"architecture": json.dumps({"filters": SMALL})}
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path, described)
    return path


def test_swapping_the_images_turns_the_velocity_round(weights):
    net = load_compact(weights)
    a, b = torch.rand(2, 1, 1, 16, 24, 8)
    with torch.no_grad():
        there, back, none = net(a, b), net(b, a), net(a, a)
    assert there.shape == (1, 3, 8, 12, 4)
    assert float(there.abs().max()) > 1e-3
    torch.testing.assert_close(there, -back)
    torch.testing.assert_close(none, torch.zeros_like(none))


def test_network_lattice_covers_the_brain_in_multiples_of_eight():
    fixed = paint(grid(3.0), T1W)
    found = network_grid(fixed)
    assert all(n % 8 == 0 for n in found.shape)
    np.testing.assert_allclose(found.zooms_mm, 2.0)
    brain = np.argwhere(fixed.data != 0) @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
    voxels = brain @ found.ras2vox[:3, :3].T + found.ras2vox[:3, 3]
    assert voxels.min() > 5 and (voxels < np.array(found.shape) - 6).all()


class Attracted(CompactDeformation):
    """Moves along the slope of the fixed image by what the images differ: one demons step."""

    def one_way(self, moving, fixed):
        small = [torch.nn.functional.avg_pool3d(v, 2) for v in (moving, fixed)]
        slope = torch.stack(torch.gradient(small[1][0, 0] + small[0][0, 0]))[None] / 2
        apart = small[1] - small[0]
        # voxels of the input are half as wide
        return 2.0 * apart * slope / (slope.pow(2).sum(1, keepdim=True) + apart**2 + 1e-3)


@pytest.mark.parametrize("flip", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("turn_deg", [0.0, 12.0])
def test_velocity_points_to_the_moving_image(flip, turn_deg, monkeypatch):
    """A step along the slope must bring the images closer, whatever the axes of the files."""
    monkeypatch.setattr(compact, "load_compact", lambda path: Attracted(SMALL).eval())
    fixed = paint(grid(2.0, flip=flip, turn_deg=turn_deg), T1W)
    moving = paint(grid(2.5, flip=(1, -1, 1)), T1W, motion(mm=(3.0, -2.0, 1.5)))
    velocity = compact_velocity(fixed, moving, Affine.identity(), "unused")
    result = flow_of(velocity, fixed, Affine.identity())
    before = resample(moving, fixed.grid, None, "linear").data - fixed.data
    after = resample(moving, fixed.grid, result.fixed_to_moving(), "linear").data - fixed.data
    assert np.abs(after).mean() < 0.8 * np.abs(before).mean()


def test_equal_heads_are_not_moved(weights):
    head = paint(grid(2.0), T1W)
    velocity = compact_velocity(head, head, Affine.identity(), weights)
    np.testing.assert_allclose(velocity.field, 0.0, atol=1e-4)


def test_velocity_voxels_lie_between_those_of_the_input(weights, monkeypatch):
    """A velocity that is the place itself, in voxels of 2 mm, must be 4 mm steps from its origin."""

    class Place(CompactDeformation):
        def forward(self, moving, fixed):
            shape = [n // 2 for n in fixed.shape[2:]]
            at = torch.meshgrid(*(2 * torch.arange(float(n)) + 0.5 for n in shape), indexing="ij")
            return torch.stack(at)[None]

    monkeypatch.setattr(compact, "load_compact", lambda path: Place(SMALL).eval())
    fixed = paint(grid(3.0), T1W)
    velocity = compact_velocity(fixed, fixed, Affine.identity(), "unused", passes=1)
    points = np.array([[0.0, 0, 0], [10, -20, 5]])
    origin = network_grid(fixed).affine[:3, 3]
    np.testing.assert_allclose(velocity.map_points(points) - points, points - origin, atol=1e-3)


def test_what_cannot_be_registered_is_one_sentence(weights, tmp_path):
    head = paint(grid(3.0), T1W)
    empty = Volume(np.zeros_like(head.data), head.affine)
    with pytest.raises(StageError, match="empty"):
        compact_velocity(empty, head, Affine.identity(), weights)
    with pytest.raises(StageError, match="empty or constant"):
        compact_velocity(head, empty, Affine.identity(), weights)
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, other, {"architecture": json.dumps({"filters": SMALL})})
    with pytest.raises(ValueError, match=r"other\.safetensors is not of this network"):
        load_compact(other)


def test_shipped_weights_bring_a_deformed_head_closer():
    from deepprep.registration.engines import COMPACT_FILE

    fixed = paint(grid(2.0), T1W)
    points = grid(6.0).points_ras()
    bump = np.zeros((*points.shape[:3], 3), np.float32)
    bump[..., 1] = 7.0 * np.exp(-((points / 35.0) ** 2).sum(-1))
    truth = flow_of(Displacement(bump, grid(6.0).affine), fixed, Affine.identity(), 3.0)
    moving = resample(fixed, fixed.grid, truth.moving_to_fixed(), "linear")
    found = flow_of(
        compact_velocity(fixed, moving, Affine.identity(), COMPACT_FILE), fixed, Affine.identity()
    )
    left = error_mm(found.forward, truth.forward).mean()
    assert left < 0.6 * error_mm(Affine.identity(), truth.forward).mean()
