"""The cascade of SUGAR's networks."""

import numpy as np
import pytest
import torch

from deepprep.data.surface_atlases import fsaverage_sphere
from deepprep.surface.distortion import count_folds
from deepprep.surface.spherical_registration import FoldingTarget
from deepprep.surface.sugar.inference import RIGID, network_feature, register_with_sugar
from tests.surface.shapes import ball


class Fixed(torch.nn.Module):
    """Answers like a network: constant Euler angles, and remembers what it was shown."""

    def __init__(self, angles, rigid=False):
        super().__init__()
        self.angles, self.rigid, self.seen = torch.tensor(angles).double(), rigid, []

    def forward(self, moving, fixed):
        self.seen.append((moving.numpy(), fixed.numpy()))
        return self.angles.expand(1 if self.rigid else len(moving), 3)


@pytest.fixture(scope="module")
def target():
    levels = {level: fsaverage_sphere(level) for level in range(3, 7)}
    return FoldingTarget(_pattern(levels[5]), _pattern(levels[5]) ** 2, levels[5], levels)


def _pattern(sphere, turn=None):
    turn = np.eye(3) if turn is None else turn
    x, y, z = (sphere.vertices @ turn / 100.0).T
    return np.sin(4 * x) + np.cos(3 * y) * z


def _networks(rigid=(0.0, 0.0, 0.0), others=(0.0, 0.0, 0.0)):
    nets = {str(level): Fixed(list(others)) for level in range(3, 7)}
    return {RIGID: Fixed(list(rigid), rigid=True), **nets}


def test_networks_that_answer_nothing_leave_the_sphere(target):
    sphere = ball(5, 100.0)
    found = register_with_sugar(sphere, _pattern(sphere), target, _networks())
    assert np.abs(found.sphere.vertices - sphere.vertices).max() < 0.02
    assert np.allclose(found.rotation, np.eye(3), atol=1e-6)
    assert found.correlation > 0.999 and count_folds(found.sphere) == 0


def test_a_rotation_is_applied_and_the_next_network_sees_the_turned_map(target):
    angle = 0.2
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    sphere = ball(5, 100.0)
    # The map lies turned back by the angle, so that turning it makes it the target's.
    networks = _networks(rigid=(0.0, 0.0, angle))
    found = register_with_sugar(sphere, _pattern(sphere, turn.T), target, networks)
    assert np.abs(found.sphere.vertices - sphere.vertices @ turn.T).max() < 0.02
    assert np.allclose(found.rotation, turn, atol=1e-6)
    assert found.correlation > 0.999 > 0.98 > 0
    for level in ("3", "6"):
        moving, fixed = networks[level].seen[0]
        assert np.corrcoef(moving, fixed)[0, 1] > 0.99


def test_rotations_of_all_levels_add_up(target):
    sphere = ball(5, 100.0)
    found = register_with_sugar(
        sphere, _pattern(sphere), target, _networks(others=(0.0, 0.0, 0.05))
    )
    c, s = np.cos(0.2), np.sin(0.2)
    expected = sphere.vertices @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T
    assert np.abs(found.sphere.vertices - expected).max() < 0.05


def test_far_values_are_drawn_in_as_published():
    values = np.r_[np.zeros(1000), 100.0, np.linspace(-1, 1, 1000)]
    scaled = (values - values.mean()) / values.std()
    found = network_feature(values)
    assert np.allclose(found[np.abs(scaled) < 3], scaled[np.abs(scaled) < 3])
    assert np.isclose(found[1000], 4.0, atol=1e-6)
