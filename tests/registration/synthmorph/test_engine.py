"""SynthMorph's networks from images to maps in the world, with random weights."""

import numpy as np
import pytest
import torch

from deepprep.errors import MissingResourceError, StageError
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration import engines
from deepprep.registration.diffeomorphic import Level, register_diffeomorphic
from deepprep.registration.engines import choose_normalisation
from deepprep.registration.flow import flow_of
from deepprep.registration.synthmorph import network
from deepprep.registration.synthmorph.engine import (
    NetworkSpace,
    conjugate,
    network_affine,
    network_velocity,
)
from deepprep.registration.transforms import Affine, Chain, Displacement, jacobian_determinant
from tests.registration.heads import T1W, brain_points, error_mm, grid, motion, paint
from tests.registration.synthmorph.random_weights import (
    deformation_layers,
    detector_layers,
    keras_file,
)

EXTENT = 96


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Files of narrow networks under the official names."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(4)
    keras_file(folder / "synthmorph.affine.2.h5", detector_layers(8, 32, rng))
    keras_file(folder / "synthmorph.deform.3.h5", deformation_layers(4, rng, gain=20.0))
    return folder


def files(weights):
    return choose_normalisation("synthmorph", weights).files


def test_network_space_is_lia_about_the_middle():
    image = paint(grid(3.0, flip=(-1, 1, 1), turn_deg=10), T1W)
    space = NetworkSpace.around(image, 64)
    assert space.grid.axcodes == ("L", "I", "A")
    np.testing.assert_allclose(space.grid.centre_ras, image.grid.centre_ras, atol=1e-9)
    # every second voxel, beginning with the first
    np.testing.assert_allclose(space.half.affine[:3, 3], space.grid.affine[:3, 3])
    assert space.half.shape == (32, 32, 32)


def test_equal_heads_are_not_moved_wherever_they_lie(weights):
    # the features of a network see the same shapes wherever the image lies
    head = paint(grid(3.0), T1W)
    np.testing.assert_allclose(
        network_affine(head, head, files(weights)[0], extent=EXTENT).matrix, np.eye(4), atol=1e-3
    )
    away = motion(mm=(30, -20, 40))
    moved = Volume(head.data, away.matrix @ head.affine)
    found = network_affine(head, moved, files(weights)[0], extent=EXTENT)
    assert error_mm(found, away).max() < 0.1


def test_the_map_of_the_network_is_in_its_voxels_about_the_middle(weights, monkeypatch):
    # 3 voxels to the left, 5 down and 7 forward, and 10 % larger; LIA axes of 1 mm
    matrix = torch.tensor([[[1.1, 0, 0, 3.0], [0, 1.1, 0, 5.0], [0, 0, 1.1, 7.0]]])
    monkeypatch.setattr(network.FeatureDetector, "affine", lambda *a: matrix)
    head = paint(grid(3.0), T1W)
    away = Volume(head.data, motion(mm=(30, -20, 40)).matrix @ head.affine)
    found = network_affine(head, away, files(weights)[0], extent=EXTENT)
    expected = motion(mm=(30 - 3, -20 + 7, 40 - 5), scales=(1.1, 1.1, 1.1))
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-5)


def test_the_velocity_half_way_is_carried_to_the_fixed_space():
    root = motion(degrees=(4, -3, 6), mm=(5, 2, -3), scales=(1.05, 0.97, 1.0))
    lattice = grid(3.0)
    points = lattice.points_ras()
    smooth = 3.0 * np.sin(points / 25.0) * np.exp(-((points / 45.0) ** 2).sum(-1, keepdims=True))
    middle = Displacement(smooth.astype(np.float32), lattice.affine)
    blank = Volume(np.ones(lattice.shape, np.float32), lattice.affine)
    there = flow_of(middle, blank, Affine.identity(), 3.0).forward
    own = flow_of(conjugate(middle, root, lattice), blank, Affine.identity(), 3.0).forward
    expected = Chain([root, there, root.inverse()])
    assert error_mm(own, expected).max() < 0.1
    assert error_mm(own, Affine.identity()).max() > 1.0


def test_networks_alone_give_a_map_that_does_not_fold_and_is_undone(weights):
    fixed, moving = paint(grid(3.0), T1W), paint(grid(3.0), T1W, motion((3, 0, 5)), seed=1)
    affine_file, deform_file = files(weights)
    affine = network_affine(fixed, moving, affine_file, extent=EXTENT)
    velocity = network_velocity(fixed, moving, affine, deform_file, extent=EXTENT)
    found = flow_of(velocity, fixed, affine, 3.0)
    assert jacobian_determinant(found.forward).data.min() > 0
    assert error_mm(found.forward, Affine.identity()).max() > 0.3  # random weights, but a warp
    points = brain_points()
    back = found.moving_to_fixed().map_points(found.fixed_to_moving().map_points(points))
    assert np.linalg.norm(back - points, axis=1).mean() < 0.1


def test_swapping_the_images_inverts_the_map(weights):
    one, two = paint(grid(3.0), T1W), paint(grid(3.0), T1W, motion((3, 0, 5)), seed=1)
    affine_file, deform_file = files(weights)
    there = network_affine(one, two, affine_file, extent=EXTENT)
    assert error_mm(network_affine(two, one, affine_file, extent=EXTENT), there.inverse()).max() < 2
    same = Affine.identity()
    forth = network_velocity(one, two, same, deform_file, extent=EXTENT).field
    back = network_velocity(two, one, same, deform_file, extent=EXTENT).field
    np.testing.assert_allclose(forth, -back, atol=1e-4)


def test_refinement_begins_with_the_field_of_the_network():
    """One iteration only looks at where it begins."""
    fixed = paint(grid(3.0), T1W)
    points = grid(3.0).points_ras()
    bump = np.zeros((*points.shape[:3], 3), np.float32)
    bump[..., 0] = 6.0 * np.exp(-((points / 30.0) ** 2).sum(-1))
    start = Displacement(bump, grid(3.0).affine)
    truth = flow_of(start, fixed, Affine.identity(), 3.0)
    moving = resample(fixed, grid(3.0), truth.moving_to_fixed(), "linear")
    levels = (Level(3.0, 1, 1.2, 0.5),)
    runs = {
        name: register_diffeomorphic(fixed, moving, Affine.identity(), start=s, levels=levels)
        for name, s in (("network", start), ("zero", None))
    }
    errors = {k: error_mm(r.forward, truth.forward).mean() for k, r in runs.items()}
    assert errors["network"] < 0.05
    assert errors["zero"] > 1.0


def test_a_map_that_is_none_between_heads_is_refused(weights, monkeypatch):
    head = paint(grid(3.0), T1W)
    flat = torch.zeros(1, 3, 4)
    monkeypatch.setattr(network.FeatureDetector, "affine", lambda *a: flat)
    with pytest.raises(StageError, match="determinant of 0"):
        network_affine(head, head, files(weights)[0], extent=EXTENT)
    turn = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(StageError, match="no square root"):
        network_velocity(head, head, turn, files(weights)[1], extent=EXTENT)


def test_engines_say_why_and_what_is_missing(tmp_path, weights, monkeypatch):
    choice = choose_normalisation("auto", weights)
    assert (choice.name, choice.files) == ("refine", ())
    assert "needs no weights" in choice.reason
    for name in ("synthmorph", "synthmorph+refine"):
        official = choose_normalisation(name, weights)
        assert (official.name, len(official.files)) == (name, 2)
        assert official.reason.endswith("Official weights.")
        own = choose_normalisation(name, tmp_path)
        assert (own.name, own.files) == (name, (engines.COMPACT_FILE,))
        assert "synthmorph.affine.2.h5 and" in own.reason
    monkeypatch.setattr(engines, "COMPACT_FILE", tmp_path / "none")
    with pytest.raises(MissingResourceError, match=r"needs synthmorph\.affine\.2\.h5 and"):
        choose_normalisation("synthmorph", tmp_path)
