"""Recipe of the deformation network: pairs, their labels, what is minimised, resuming."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from deepprep.image.volume import Volume
from deepprep.registration.synthmorph.compact import load_compact
from training.registration import train
from training.registration.generator import (
    SCORED,
    Anatomy,
    PairGenerator,
    Setting,
    anatomies,
    group_of_source,
    paint,
    random_blobs,
    warped_lattice,
)
from training.segmentation.fields import Draw
from training.segmentation.labels import SOURCES, load_maps

QUIET = Setting(
    p_shapes=0, p_t1w=1, p_stripped=1, degrees=0, scale=0, shear=0, shift_mm=0, own_degrees=0,
    own_scale=0, own_shear=0, own_shift_mm=0, warp_mm=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads with a ball of each of many structures; the second is larger and elsewhere."""
    folder = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(1)
    centres = rng.uniform(-30, 30, (len(SCORED) + 8, 3))
    numbers = [n for group in SCORED for n in group][: len(centres)]
    for number, (size, shift) in enumerate(((1.0, 0.0), (1.2, 6.0)), 1):
        labels = np.zeros((110, 110, 110), np.int16)
        grid = np.stack(np.meshgrid(*[np.arange(110.0) - 55 - shift] * 3, indexing="ij"))
        labels[np.sqrt((grid**2).sum(0)) < 42 * size] = 24
        for centre, label in zip(centres, numbers):
            away = np.sqrt(((grid.T / size - centre) ** 2).sum(-1)).T
            labels[away < 8] = label
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"seg_{number:02d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def template(folder: Path) -> Volume:
    image = nib.load(folder / "seg_01.nii.gz")
    affine = np.eye(4)
    affine[:3, 3] = (-55, -40, -60)
    return Volume(np.asarray(image.dataobj).astype(np.uint8), affine)


def test_heads_are_laid_over_the_template(folder: Path, template: Volume) -> None:
    heads = anatomies(load_maps(folder, (1, 2)), template)
    pair = PairGenerator(heads, (56, 56, 56), QUIET)(4)
    assert float(train.dice(pair.moving_shares, pair.fixed_shares).mean()) > 0.9


def test_a_voxel_holds_the_mean_of_its_eight_parts() -> None:
    index = {label: SOURCES.index(label) for label in (0, 2, 3)}
    sources = np.zeros((8, 8, 8), np.uint8)
    sources[:, :, :4] = index[2]
    sources[:, :, 4:] = index[3]
    at = np.stack(np.meshgrid(*[np.arange(4.0) * 2 + 0.5] * 3, indexing="ij")).astype(np.float32)
    at[2] += 1
    means = np.zeros(len(SOURCES), np.float32)
    means[index[2]], means[index[3]] = 1.0, 0.5
    groups = group_of_source()
    image, counts, tissue = paint(sources, at, means, groups, np.arange(len(SOURCES)) > 0, 17)
    np.testing.assert_allclose(image[1, 1], [1.0, 0.75, 0.5, 0.25])
    np.testing.assert_array_equal(counts[0, 1, 1], [8, 4, 0, 0])
    np.testing.assert_array_equal(counts[2, 1, 1], [0, 4, 8, 4])
    np.testing.assert_allclose(tissue[1, 1], [1, 1, 1, 0.5])


def test_both_sides_share_a_map_only_where_they_are_apart() -> None:
    groups = group_of_source()
    of = {label: groups[SOURCES.index(label)] for label in (2, 41, 3, 42, 10, 49, 24, 0, 502)}
    assert of[2] != of[41] and of[3] != of[42] and of[10] == of[49]
    assert of[24] == of[0] == of[502] == -1


def test_pairs_repeat_and_their_contrasts_differ(folder: Path, template: Volume) -> None:
    heads = anatomies(load_maps(folder, (1, 2)), template)
    make = PairGenerator(heads, (32, 40, 32))
    for seed in range(6):
        one, two = make(seed), make(seed)
        assert torch.equal(one.moving, two.moving)
        assert torch.equal(one.fixed_shares, two.fixed_shares)
        assert one.moving.shape == (1, 1, 32, 40, 32)
        assert one.fixed_shares.shape == (1, len(SCORED), 32, 40, 32)
        assert float(one.fixed_shares.sum(1).max()) <= 1
        assert torch.isfinite(one.moving).all() and float(one.moving.min()) >= 0
        assert not torch.equal(one.moving, one.fixed)


def test_one_label_map_makes_no_pair() -> None:
    with pytest.raises(ValueError, match="two label maps"):
        PairGenerator([Anatomy(np.zeros((4, 4, 4), np.uint8), np.eye(4))], (16, 16, 16))


def test_shapes_come_in_many_kinds() -> None:
    assert len(np.unique(random_blobs(Draw(1), (48, 48, 48)))) > len(SCORED) // 2


def test_lattice_without_deformation_is_two_mm_about_the_middle() -> None:
    at = warped_lattice(Draw(0), (5, 6, 7), np.eye(4), 0.0)
    # the roughest part of a deformation is there however weak the rest is
    assert np.abs(at[:, 2, 2:4, 3].mean(1)).max() < 2.5
    np.testing.assert_allclose(at[0, 4].mean() - at[0, 0].mean(), 8.0, atol=1.0)


def test_flow_of_a_constant_velocity_shifts() -> None:
    velocity = torch.zeros(1, 3, 12, 10, 8)
    velocity[:, 1] = 2.0
    torch.testing.assert_close(train.flow(velocity), velocity)
    values = torch.arange(10.0).view(1, 1, 1, 10, 1).expand(1, 1, 12, 10, 8)
    moved = train.carried(values, velocity)
    torch.testing.assert_close(moved[..., :8, :], values[..., 2:, :])


def test_dice_and_roughness_have_their_known_values() -> None:
    first = torch.zeros(1, 2, 8, 8, 8)
    first[:, 0, :4] = 1
    second = torch.zeros_like(first)
    second[:, 0, 2:6] = 1
    # the second map is empty on both sides and does not count
    torch.testing.assert_close(train.dice(first, second), torch.tensor([0.5]))
    ramp = torch.zeros(1, 3, 6, 6, 6)
    ramp[0, 0] = 0.3 * torch.arange(6.0).view(6, 1, 1)
    torch.testing.assert_close(train.roughness(ramp), torch.tensor(0.3**2 / 9))
    inner = train.determinant(ramp[0])
    torch.testing.assert_close(inner, torch.full_like(inner, 1.3))


def test_an_interrupted_run_equals_an_uninterrupted_one_and_is_exported(
    folder: Path, template: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "load_volume", lambda *a: template)
    monkeypatch.setattr(train, "VALIDATION_MAPS", (1, 2))
    common = ["--labels", str(folder), "--train-maps", "1", "2", "--patch", "16", "24", "16",
              "--device", "cpu", "--precision", "fp32", "--filters", "2", "3", "4", "5"]  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main(["--run", str(whole), "--steps", "6", "--validate-every", "3", *common])
    trainer = train.Trainer(train.parse(["--run", str(parts), "--steps", "6", *common]))
    for _ in range(3):
        trainer.train_step()
    trainer.save()
    resumed = train.Trainer(train.parse(["--run", str(parts), "--steps", "6", *common]))
    first, second = trainer.optimizer.state_dict(), resumed.optimizer.state_dict()
    for key, state in first["state"].items():
        assert all(torch.equal(v, second["state"][key][name]) for name, v in state.items())
    for one, two in ((trainer.net.state_dict(), resumed.net.state_dict()),
                     (trainer.average, resumed.average)):  # fmt: skip
        assert all(torch.equal(value, two[name]) for name, value in one.items())
    train.main(["--run", str(parts), "--steps", "6", "--validate-every", "0", *common])
    # matrix products differ in their last bits with where their memory lies, and the optimiser
    # makes more of it, so that the weights of two equal runs are equal to some digits only
    logs = [(r / "losses.csv").read_text().splitlines() for r in (whole, parts)]
    assert [row.split(",")[0] for row in logs[1][1:]] == ["4", "5", "6"]
    for one, two in zip(logs[0][4:], logs[1][1:]):
        np.testing.assert_allclose(float(one.split(",")[3]), float(two.split(",")[3]), atol=2e-4)
    rows = (whole / "validation.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("step,dice,dice_before")
    weights = tmp_path / "weights.safetensors"
    train.main(["--run", str(whole), "--export", str(weights)])
    net = load_compact(weights)
    a = torch.load(whole / "checkpoint.pt", weights_only=True)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, a["average"][name], atol=1e-3, rtol=1e-2)
