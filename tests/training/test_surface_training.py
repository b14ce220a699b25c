"""Recipe of the level set network: targets, spoilt inputs, resuming, and the way back to a head."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from deepprep.image.volume import Volume
from deepprep.surface.fastcsr.compact import COMPACT, compact_level, load_compact
from deepprep.surface.fastcsr.network import LevelSetNet
from training.segmentation.fields import Draw
from training.segmentation.labels import load_maps
from training.surface import train
from training.surface.generator import LevelGenerator, as_distance, sample, source_level, spoilt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads: each side a ball of white matter of 12 mm in cortex of 15 mm."""
    folder = tmp_path_factory.mktemp("labels")
    grid = np.stack(np.meshgrid(*[np.arange(72.0) - 35.5] * 3, indexing="ij"))
    labels = np.zeros(grid[0].shape, dtype=np.int16)
    labels[np.sqrt((grid**2).sum(0)) < 34] = 24
    for centre, cortex, white in ((-16, 3, 2), (16, 42, 41)):
        radius = np.sqrt((grid[0] - centre) ** 2 + grid[1] ** 2 + grid[2] ** 2)
        labels[radius < 15] = cortex
        labels[radius < 12] = white
    for number in (1, 2):
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"seg_{number:02d}.nii.gz")
    return folder


def ball(radius: float, n: int = 40) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) - (n - 1) / 2] * 3, indexing="ij"))
    return grid.norm(dim=0) - radius


def test_level_of_a_label_map_is_the_distance_to_the_side_asked_for(folder: Path) -> None:
    head = load_maps(folder, (1,))[0]
    left, right = source_level(head, "left"), source_level(head, "right")
    for level, low in ((left, True), (right, False)):
        at = (level == level.min()).nonzero().float().mean(dim=0)
        assert (at[0] < level.shape[0] / 2) == low
        row = level[:, level.shape[1] // 2, level.shape[2] // 2]
        crossings = (row[1:].sign() != row[:-1].sign()).nonzero()[:, 0]
        assert len(crossings) == 2 and int(crossings[1] - crossings[0]) == 24


def test_a_stretched_level_becomes_a_distance_again() -> None:
    level = ball(10.0)
    near = level.abs() < 1.5
    found = as_distance(level * 1.3)
    assert (found - level)[near].abs().mean() < 0.05
    assert (level * 1.3 - level)[near].abs().mean() > 0.2


def test_sampling_at_lattice_points_gives_their_values() -> None:
    level = torch.randn(5, 6, 7)
    grid = torch.stack(
        torch.meshgrid(*(torch.arange(float(n)) for n in level.shape), indexing="ij")
    )
    torch.testing.assert_close(sample(level, grid), level, atol=1e-5, rtol=0)


def test_a_spoilt_hemisphere_is_near_the_true_one_and_not_it() -> None:
    level = ball(12.0)
    for seed in range(4):
        inside = spoilt(level, Draw(seed))
        assert (inside != (level < 0)).any()
        assert not inside[level > 3].any() and inside[level < -3].all()


def test_patches_repeat_and_target_and_image_fit(folder: Path) -> None:
    make = LevelGenerator(load_maps(folder, (1, 2)), (32, 32, 32))
    one, two = make(5), make(5)
    assert torch.equal(one.channels, two.channels) and torch.equal(one.target, two.target)
    assert one.channels.shape == (1, 2, 32, 32, 32)
    assert one.target.min() >= -1 and one.target.max() <= 1
    inside = one.target < -0.3
    assert one.channels[:, :1][inside].mean() > one.channels[:, :1][one.target > 0.3].mean()
    assert one.channels[:, 1:][inside].mean() > 0.8


def test_an_interrupted_run_equals_an_uninterrupted_one_and_is_exported(
    folder: Path, tmp_path: Path
) -> None:
    common = ["--labels", str(folder), "--train-maps", "1", "--patch", "24", "24", "24",
              "--device", "cpu", "--validate-every", "0"]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main(["--run", str(whole), "--steps", "6", *common])
    trainer = train.Trainer(train.parse(["--run", str(parts), "--steps", "6", *common]))
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    train.main(["--run", str(parts), "--steps", "6", *common])
    a, b = (torch.load(r / "checkpoint.pt", weights_only=True) for r in (whole, parts))
    assert a["step"] == b["step"] == 6
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name])
    weights = tmp_path / "weights.safetensors"
    train.main(["--run", str(whole), "--export", str(weights)])
    net = load_compact(weights)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, a["average"][name], atol=1e-3, rtol=1e-2)


class Filled(LevelSetNet):
    """Gives the filled hemisphere as level: shows where it lands."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 - x[:, 1:2]


@pytest.mark.parametrize("side", ["left", "right"])
def test_level_of_a_head_lies_on_its_hemisphere(folder: Path, side: str) -> None:
    image = nib.load(folder / "seg_01.nii.gz")
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, 3] = [5, -7, 9]
    labels = Volume(np.asarray(image.dataobj).astype(np.uint8), affine)
    level = compact_level(
        Filled(COMPACT), labels, labels.like(labels.data.astype(np.float32)), side
    )
    inside = np.argwhere(level.data < 0) @ level.affine[:3, :3].T + level.affine[:3, 3]
    expected = affine[:3, 3] + 35.5 + [-16 if side == "left" else 16, 0, 0]
    np.testing.assert_allclose(inside.mean(axis=0), expected, atol=0.05)
    with pytest.raises(ValueError, match="must be RAS"):
        compact_level(Filled(COMPACT), Volume(labels.data, np.diag([-1.0, 1, 1, 1])), labels, side)
