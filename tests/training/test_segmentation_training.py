"""Recipe of the segmentation network: labels, generator, network, resuming."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from deepprep.segmentation.compact.network import (
    Architecture,
    SegmentationNet,
    predict,
)
from training.segmentation import artefacts, train
from training.segmentation.fields import Draw, head_coordinates, node_shape, random_diffeomorphism
from training.segmentation.generator import HeadGenerator, Settings, corner_labels, largest_share
from training.segmentation.labels import (
    CLASSES,
    SOURCES,
    enlarge_pallidum,
    load_map,
    mirrored_classes,
    target_of_source,
)
from training.segmentation.losses import DICE_SMOOTHING, coarse_target, voxel_losses
from training.segmentation.validate import dice_per_class

SMALL_NET = Architecture(coarse=(8, 8, 8, 8), fine=8)


def class_of(label: int) -> int:
    return CLASSES.index(label)


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spherical heads: a shell of bone, CSF, cortex, white matter, a left putamen; LIA."""
    folder = tmp_path_factory.mktemp("labels")
    grid = np.stack(np.meshgrid(*[np.arange(56.0) - 27.5] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    right = grid[0] > 0
    labels = np.zeros(radius.shape, dtype=np.int16)
    labels[radius < 26] = 515
    labels[radius < 23] = 24
    labels[radius < 20] = 3
    labels[(radius < 20) & right] = 42
    labels[radius < 14] = 2
    labels[(radius < 14) & right] = 41
    labels[(np.abs(grid[0] + 7) < 4) & (radius < 12)] = 12
    ras = nib.Nifti1Image(labels, np.eye(4))
    lia = ras.as_reoriented(nib.orientations.axcodes2ornt("LIA"))
    for number in (1, 2):
        nib.save(lia, folder / f"seg_{number:02d}.nii.gz")
    return folder


def test_choroid_plexus_goes_to_the_ventricle_of_its_side() -> None:
    target = dict(zip(SOURCES, target_of_source()))
    assert target[136] == class_of(4) and target[163] == class_of(43)
    assert target[515] == 0 and target[85] == 0


def test_mirroring_twice_is_nothing_and_the_brain_stem_stays() -> None:
    mirror = mirrored_classes()
    assert (mirror[mirror] == np.arange(len(CLASSES))).all()
    assert mirror[class_of(13)] == class_of(52)
    assert mirror[class_of(16)] == class_of(16)


def test_the_class_with_the_largest_share_wins_even_when_split_over_corners() -> None:
    classes = [torch.tensor([c], dtype=torch.uint8) for c in (1, 2, 2, 3, 3, 3, 3, 3)]
    weights = [torch.tensor([w]) for w in (0.4, 0.3, 0.2, 0.02, 0.02, 0.02, 0.02, 0.02)]
    assert largest_share(classes, weights).item() == 2


def test_corner_weights_are_trilinear() -> None:
    sources = torch.zeros(4, 4, 4, dtype=torch.uint8)
    sources[2, 1, 1] = 1
    labels, weights = corner_labels(sources, torch.tensor([1.25, 1.0, 1.0]).view(3, 1, 1, 1))
    share = sum(float(w) for c, w in zip(labels, weights) if int(c) == 1)
    assert share == pytest.approx(0.25)


def test_coordinates_without_deformation_are_a_translation() -> None:
    shape = (20, 24, 33)
    still = torch.zeros(1, 3, *node_shape(shape))
    out = head_coordinates(Draw(0), shape, torch.tensor([30.0, 40, 50]), torch.eye(3), still)
    assert torch.allclose(out[:, 0, 0, 0], torch.tensor([20.5, 28.5, 34.0]), atol=1e-4)
    assert torch.allclose(out[:, 19, 23, 32], torch.tensor([39.5, 51.5, 66.0]), atol=1e-4)


def test_deformations_do_not_fold() -> None:
    shape = (96, 96, 96)
    for seed in range(3):
        warp = random_diffeomorphism(Draw(seed), shape, 3.0)
        field = head_coordinates(Draw(0), shape, torch.zeros(3), torch.eye(3), warp)
        columns = [torch.diff(field, dim=axis + 1)[:, :95, :95, :95] for axis in range(3)]
        jacobian = torch.linalg.det(torch.stack(columns, -1).permute(1, 2, 3, 0, 4))
        assert (jacobian > 0).float().mean() > 0.999


@pytest.mark.parametrize("seed", range(6))
def test_left_is_left_of_the_middle_whether_mirrored_or_not(toy_folder: Path, seed: int) -> None:
    settings = Settings(degrees=5, centre_jitter_mm=0, p_cut=0, warp_mm=1)
    make = HeadGenerator([load_map(toy_folder / "seg_01.nii.gz")], (64, 64, 64), settings=settings)
    sample = make(seed)
    target = sample.target[0]
    for label, sign in ((3, -1), (2, -1), (42, 1), (41, 1)):
        position = (target == class_of(label)).nonzero().float().mean(0) + sample.origin[0]
        assert position[0] * sign > 2
    brain = (target > 1).nonzero().float()
    middle = (brain.amin(0) + brain.amax(0)) / 2 + sample.origin[0]
    assert middle.abs().max() < 5


def test_same_seed_same_patch_and_intensities_in_range(toy_folder: Path) -> None:
    make = HeadGenerator([load_map(toy_folder / "seg_01.nii.gz")], (48, 64, 48))
    first, again, other = make(3), make(3), make(4)
    assert torch.equal(first.image, again.image) and torch.equal(first.target, again.target)
    assert not torch.equal(first.image, other.image)
    assert first.image.min() >= 0 and first.image.max() <= 1.5 * 1.5
    assert torch.isfinite(first.image).all()


def test_the_eight_voxels_of_a_cube() -> None:
    target = torch.zeros(1, 2, 4, 2, dtype=torch.uint8)
    target[0, 0, 0], target[0, 1, 3, 0] = 5, 7
    cubes = coarse_target(target)
    assert cubes.shape == (1, 1, 2, 1, 8)
    assert sorted(cubes[0, 0, 0, 0].tolist()) == [0] * 6 + [5, 5]
    assert sorted(cubes[0, 0, 1, 0].tolist()) == [0] * 7 + [7]


@pytest.mark.parametrize("parts", [1, 8])
def test_losses_of_voxels_are_those_of_their_shares_and_so_are_their_derivatives(
    parts: int,
) -> None:
    torch.manual_seed(0)
    n = len(CLASSES)
    logits = torch.randn(1, n, 4, 5, 6, requires_grad=True)
    truth, weights = torch.randint(0, 12, (120, parts)), torch.rand(n) + 0.5
    share = torch.nn.functional.one_hot(truth, n).float().mean(1)
    log_posterior = logits.movedim(1, -1).flatten(0, -2).log_softmax(-1)
    weighted = share * weights
    entropy = -(weighted * log_posterior).sum() / weighted.sum()
    p = log_posterior.exp()
    overlap, size = (p * share).sum(0), p.square().sum(0) + share.square().sum(0)
    dice = ((2 * overlap + DICE_SMOOTHING) / (size + DICE_SMOOTHING))[share.sum(0) > 0].mean()
    found = voxel_losses(logits, truth, weights)
    torch.testing.assert_close(found[0], entropy)
    torch.testing.assert_close(found[1], dice)
    ours = torch.autograd.grad(3 * found[0] - found[1], logits)[0]
    theirs = torch.autograd.grad(3 * entropy - dice, logits)[0]
    torch.testing.assert_close(ours, theirs)


def test_slabs_give_what_one_pass_gives() -> None:
    torch.manual_seed(0)
    net = SegmentationNet(SMALL_NET).eval()
    image, origin = torch.rand(1, 1, 48, 32, 32), torch.tensor([[-24.0, -16, -16]])
    with torch.no_grad():
        whole = net(image, origin)[0].argmax(0)
    assert (predict(net, image, origin, slab=16) == whole).float().mean() > 0.9999


def test_sides_not_divisible_by_the_stride_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        SegmentationNet(SMALL_NET)(torch.rand(1, 1, 40, 32, 32), torch.zeros(1, 3))


def test_control_points_make_white_matter_even_and_blank_bright_grey_matter() -> None:
    side = torch.arange(64.0)
    bias = (1 + 0.004 * (side - 32))[:, None, None].expand(64, 64, 64)
    truth = torch.ones(64, 64, 64)
    truth[20:32, 20:44, 20:44], truth[36:48, 20:44, 20:44] = 0.97, 0.5
    white = truth == 1
    found = artefacts.plateau(truth * bias, white, Draw(0))
    assert (found[:16] == 1).all() and (found[52:] == 1).all()
    assert (found[22:30, 22:42, 22:42] == 1).all()
    dark = found[37:47, 21:43, 21:43]
    assert dark.min() > 0.45 and dark.max() < 0.55
    nowhere = artefacts.plateau(0.3 * truth, torch.zeros_like(white), Draw(0))
    assert torch.isfinite(nowhere).all()


def test_dice_of_known_overlap() -> None:
    truth = torch.tensor([1, 1, 1, 0])
    dice = dice_per_class(torch.tensor([1, 1, 2, 0]), truth)
    assert dice[1] == pytest.approx(0.8)
    assert dice[2] == 0 and np.isnan(dice[3])


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    toy_folder: Path, tmp_path: Path
) -> None:
    options = ["--labels", str(toy_folder), "--steps", "3", "--patch", "48", "48", "48"]
    options += ["--tile", "24", "--coarse", "8", "8", "8", "8", "--fine", "8", "--device", "cpu"]
    options += ["--train-maps", "1", "2", "--validate-every", "0"]
    train.main(["--run", str(tmp_path / "whole"), *options])
    for _ in range(3):
        train.main(["--run", str(tmp_path / "legs"), *options, "--max-minutes", "0"])
    states = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "legs")
    ]
    assert states[0]["step"] == states[1]["step"] == 3
    for part in ("model", "average"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name


def test_the_model_card_is_of_the_weights_that_ship():
    import hashlib

    from deepprep.segmentation.compact.engine import WEIGHTS

    card = Path(__file__).parents[2] / "training/segmentation/MODEL_CARD.md"
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in card.read_text()


@pytest.mark.parametrize("order", ["C", "F"])
def test_small_pallida_grow_into_white_matter_only(order: str) -> None:
    labels = np.full((40, 40, 40), 2, np.int16, order=order)
    labels[:20] = 41
    labels[24:36, 8:32, 10:30] = 12
    labels[21:24, 14:24, 14:24] = 13
    labels[20, 14:24, 14:24] = 28
    before = labels.copy()
    enlarge_pallidum(labels)
    changed = labels != before
    assert set(np.unique(before[changed])) == {2}
    assert set(np.unique(labels[changed])) == {13}
    # 2 mm are not enough for 0.4 of this putamen; nothing lies farther
    away = ndimage.distance_transform_edt(before != 13)
    assert away[changed].max() <= 2.0


def test_large_pallidum_stays() -> None:
    labels = np.full((20, 20, 20), 2, np.int16)
    labels[5:10, 5:10, 5:10] = 13
    labels[12, 12, 12] = 12
    before = labels.copy()
    enlarge_pallidum(labels)
    np.testing.assert_array_equal(labels, before)


def test_pallidum_reaches_its_share() -> None:
    labels = np.full((40, 40, 40), 2, np.int16)
    labels[24:36, 8:32, 10:30] = 12
    labels[14:24, 12:28, 14:25] = 13
    share = 0.4 * (labels == 12).sum()
    assert (labels == 13).sum() < share
    enlarge_pallidum(labels)
    assert (labels == 13).sum() == round(share)
