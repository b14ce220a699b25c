"""Patches of real heads with pseudo-labels, and the fusion that makes the labels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deepprep.segmentation.compact.network import CLASSES
from training.segmentation.atlas_fusion import local_correlation
from training.segmentation.pseudo_labels import with_atlas
from training.segmentation.real_heads import Mixture, RealPatches, load_head, pull


def class_of(label: int) -> int:
    return CLASSES.index(label)


@pytest.fixture(scope="module")
def head_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of left and right white matter in cortex; left is darker by its label alone."""
    grid = np.stack(np.meshgrid(*[np.arange(72.0) - 35.5] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    right = grid[0] > 0
    classes = np.zeros(radius.shape, np.uint8)
    classes[radius < 30] = class_of(3)
    classes[(radius < 30) & right] = class_of(42)
    classes[radius < 22] = class_of(2)
    classes[(radius < 22) & right] = class_of(41)
    image = np.where(radius < 22, 1.0, np.where(radius < 30, 0.6, 0.0))
    path = tmp_path_factory.mktemp("real") / "ball.npz"
    np.savez_compressed(path, image=image.astype(np.float16), classes=classes)
    return path


@pytest.mark.parametrize("seed", range(6))
def test_left_stays_left_of_the_middle(head_file: Path, seed: int) -> None:
    sample = RealPatches([load_head(head_file)], (64, 64, 64))(seed)
    for label, sign in ((3, -1), (2, -1), (42, 1), (41, 1)):
        voxels = (sample.target[0] == class_of(label)).nonzero().float()
        assert (voxels.mean(0) + sample.origin[0])[0] * sign > 2


def test_same_seed_same_patch_and_label_follows_intensity(head_file: Path) -> None:
    make = RealPatches([load_head(head_file)], (48, 64, 48))
    first, again, other = make(3), make(3), make(4)
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    assert not torch.equal(first.image, other.image)
    white = torch.isin(first.target[0], torch.tensor([class_of(2), class_of(41)]))
    grey = torch.isin(first.target[0], torch.tensor([class_of(3), class_of(42)]))
    image = first.image[0, 0]
    assert image[white].median() > image[grey].median() + 0.1
    assert image.min() >= 0 and torch.isfinite(image).all()


def test_pull_at_voxel_centres_is_the_image() -> None:
    image = torch.rand(5, 6, 7)
    where = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (5, 6, 7)), indexing="ij"))
    assert torch.allclose(pull(image, where), image, atol=1e-5)
    assert pull(image, where + 20).abs().max() == 0


def test_mixture_takes_the_share_asked_for() -> None:
    source = Mixture(lambda seed: "synthetic", lambda seed: "real", 0.25)  # type: ignore
    taken = [source(seed) for seed in range(400)]
    assert 0.18 < taken.count("real") / 400 < 0.32
    assert source(5) == source(5)


def test_local_correlation_of_scaled_images_is_one_and_of_inverse_ones_minus_one() -> None:
    a = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    assert local_correlation(a, 3 * a + 1).min() > 0.95
    assert local_correlation(a, 1 - a).max() < -0.95


def test_the_atlas_leaves_fluid_and_far_away_structures_alone() -> None:
    shape = (40, 20, 20)
    posterior = np.zeros((len(CLASSES), *shape), np.float32)
    votes = np.zeros_like(posterior)
    posterior[class_of(18), :15], posterior[class_of(2), 15:] = 1, 1
    posterior[class_of(5), :, :5] = 1
    posterior[:, :, :, :5] *= (np.arange(len(CLASSES)) == class_of(5))[:, None, None, None]
    posterior[class_of(5), :, 5:], posterior[class_of(5), :, :, :5] = 0, 1
    posterior /= posterior.sum(0)
    votes[class_of(18), :12], votes[class_of(2), 12:] = 1, 1
    out = with_atlas(votes, posterior)
    assert np.allclose(out.sum(0), 1, atol=1e-5)
    assert np.allclose(out[class_of(5)], posterior[class_of(5)], atol=1e-5)
    assert np.allclose(out[:, 30:], posterior[:, 30:], atol=1e-3)
    assert (out[class_of(2), 13, 15, 15] > 0.4) and (out[class_of(18), 5, 15, 15] > 0.95)
