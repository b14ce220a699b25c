"""The way of a head to the embedded network and back, with a made-up network."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import inv_ornt_aff

from deepprep.image.volume import Volume
from deepprep.segmentation.compact import inference
from deepprep.segmentation.compact.engine import WEIGHTS, CompactEngine
from deepprep.segmentation.compact.inference import prepare
from deepprep.segmentation.compact.network import CLASSES, Architecture, SegmentationNet
from deepprep.segmentation.labels import mirrored

WHITE, GREY = 100.0, 60.0


class SideAndIntensity(torch.nn.Module):
    """Calls bright voxels white matter and the others cortex, of the side their x says."""

    def sides_swapped(self):
        return MirrorImage()

    def coarse(self, image, origin):
        size = image.shape[2]
        x = origin[:, 0, None] + torch.arange(0, size, 2) + 0.5
        return x[:, None, :, None, None].expand(1, 1, size // 2, *(n // 2 for n in image.shape[3:]))

    def fine(self, image, features, inner=()):
        x = features.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4).clone()
        x[:, :, 0::2] -= 0.5
        x[:, :, 1::2] += 0.5
        logits = torch.full((1, len(CLASSES), *image.shape[2:]), -20.0)
        bright = image[0, 0] > 0.8
        for label, where in (
            (2, bright & (x[0, 0] < 0)),
            (41, bright & (x[0, 0] > 0)),
            (3, (image[0, 0] > 0.3) & ~bright & (x[0, 0] < 0)),
            (42, (image[0, 0] > 0.3) & ~bright & (x[0, 0] > 0)),
            (0, image[0, 0] <= 0.3),
        ):
            logits[0, CLASSES.index(label)][where] = 5.0
        return logits[:, :, *inner]


class MirrorImage(SideAndIntensity):
    """The same, left and right exchanged in what it says."""

    def fine(self, image, features, inner=()):
        logits = super().fine(image, features, inner)
        return logits[:, [CLASSES.index(mirrored(label)) for label in CLASSES]]


@pytest.fixture(autouse=True)
def _stub(monkeypatch):
    monkeypatch.setattr(inference, "load_network", lambda path, device: SideAndIntensity())


def head(shape=(24, 30, 26)) -> tuple[Volume, np.ndarray]:
    """An asymmetric bright core in a grey shell; RAS, 1 mm, off-centre in its field of view."""
    x, y, z = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    r2 = ((x - 11.5) / 8) ** 2 + ((y - 15) / 12) ** 2 + ((z - 12) / 9) ** 2
    core = ((x - 10) / 5) ** 2 + ((y - 17) / 7) ** 2 + ((z - 13) / 5) ** 2
    data = np.where(core < 1, WHITE, np.where(r2 < 1, GREY, 0)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = (-11.0, -20.0, 5.0)
    return Volume(data, affine), r2 < 1


def turned(volume: Volume, ornt: np.ndarray) -> Volume:
    data = np.ascontiguousarray(nib.apply_orientation(volume.data, ornt))
    return Volume(data, volume.affine @ inv_ornt_aff(ornt, volume.shape))


def segment(volume: Volume, mask: np.ndarray):
    return CompactEngine().segment(volume, mask, [WEIGHTS])


def test_sides_and_tissues_are_right():
    volume, mask = head()
    found = segment(volume, mask)
    right = (np.arange(24) > 11.5)[:, None, None]
    np.testing.assert_array_equal(found.labels[mask], np.where(
        volume.data > 80, np.where(right, 41, 2), np.where(right, 42, 3))[mask])  # fmt: skip
    assert not found.labels[~mask].any()
    np.testing.assert_allclose(found.white[volume.data > 80], 1, atol=2e-3)
    assert found.volumes_mm3[41] == pytest.approx(((volume.data > 80) & right).sum(), rel=0.01)
    assert found.uncertainty[mask].max() < 0.01


def test_all_48_orientations_give_the_same_labels():
    volume, mask = head()
    expected = segment(volume, mask).labels
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            ornt = np.array([[a, s] for a, s in zip(axes, signs)], dtype=float)
            other = turned(volume, ornt)
            where = turned(volume.like(mask), ornt).data > 0
            got = segment(other, where)
            back = turned(other.like(got.labels), np.array(
                nib.orientations.ornt_transform(
                    nib.io_orientation(other.affine), nib.io_orientation(volume.affine))))  # fmt: skip
            np.testing.assert_allclose(back.affine, volume.affine)
            np.testing.assert_array_equal(back.data, expected, err_msg=str((axes, signs)))


@pytest.mark.parametrize("zooms", [(0.7, 0.7, 0.7), (1.5, 1.5, 1.5), (1.0, 0.8, 3.0)])
def test_other_voxel_sizes_keep_sides_and_volumes(zooms):
    fine, _ = head()
    shape = tuple(int(np.ceil(n / z)) for n, z in zip(fine.shape, zooms))
    affine = np.diag([*zooms, 1.0])
    affine[:3, 3] = fine.affine[:3, 3]
    from deepprep.image.resample import resample
    from deepprep.image.volume import Grid

    volume = resample(fine, Grid(shape, affine), None, "linear")
    mask = volume.data > 30
    found = segment(volume, mask)
    assert found.labels.shape == volume.shape
    x = volume.grid.points_ras()[..., 0]
    assert set(np.unique(found.labels[x > 2])) == {0, 41, 42}
    assert set(np.unique(found.labels[x < -2])) == {0, 2, 3}
    bright_mm3 = (volume.data > 80).sum() * volume.grid.voxel_volume_mm3
    assert found.volumes_mm3[2] + found.volumes_mm3[41] == pytest.approx(bright_mm3, rel=0.25)


def test_oblique_head_keeps_its_sides():
    volume, mask = head()
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:3, :3] = [
        [np.cos(angle), -np.sin(angle), 0],
        [np.sin(angle), np.cos(angle), 0],
        [0, 0, 1],
    ]
    straight = segment(volume, mask).labels
    tilted = segment(Volume(volume.data, turn @ volume.affine), mask).labels
    np.testing.assert_array_equal(tilted, straight)


def test_threshold_shrinks_what_is_called_brain():
    volume, mask = head()
    shell = np.where(mask & (volume.data < 80), 22.0, volume.data).astype(np.float32)
    dim = volume.like(shell)  # below the stub's limit for cortex
    assert (segment(dim, mask).labels > 0).sum() < mask.sum()


def test_image_is_cut_to_the_mask_and_scaled():
    volume, mask = head()
    noisy = volume.like(volume.data + np.where(mask, 0, 50).astype(np.float32))
    got = prepare(noisy, mask)
    assert got.image.shape[2:] == got.grid.shape and not any(n % 16 for n in got.grid.shape)
    assert float(got.image.max()) == pytest.approx(1.0, abs=0.02)
    assert float(got.image[0, 0][~torch.from_numpy(got.inside)].abs().max()) == 0
    # the middle of the mask is the origin of the coordinates
    middle = -got.origin[0].numpy() @ got.grid.affine[:3, :3].T + got.grid.affine[:3, 3]
    np.testing.assert_allclose(middle, [0.5, -5.0, 17.0], atol=0.6)


def test_bad_input_is_one_sentence():
    volume, mask = head()
    with pytest.raises(ValueError, match="mask is empty"):
        prepare(volume, np.zeros_like(mask))
    with pytest.raises(ValueError, match="constant inside the brain mask"):
        prepare(volume.like(np.full(volume.shape, 7.0, np.float32)), mask)


def test_nan_voxels_count_as_zero():
    volume, mask = head()
    data = volume.data.copy()
    data[11, 15, 12] = np.nan
    assert np.isfinite(prepare(volume.like(data), mask).image.numpy()).all()


def test_a_file_of_another_network_is_refused(tmp_path, monkeypatch):
    import json

    from safetensors.torch import save_file

    monkeypatch.undo()
    net = SegmentationNet(Architecture(coarse=(4, 4, 4, 4), fine=4))
    state = {k: v.contiguous() for k, v in net.state_dict().items() if v.is_floating_point()}
    meta = {"architecture": json.dumps(net.architecture.to_dict())}
    path = tmp_path / "w.safetensors"
    save_file(state, path, meta)
    assert isinstance(inference.load_network(path), SegmentationNet)
    state["lift.weights"] = state.pop("lift.weight")
    save_file(state, path, meta)
    with pytest.raises(ValueError, match="not of this network"):
        inference.load_network(path)


def test_tissues_are_of_the_posterior_before_the_image_was_asked():
    volume, _ = head()
    grid = volume.grid
    posterior = np.zeros((len(CLASSES), *grid.shape), np.float16)
    grey, white = CLASSES.index(3), CLASSES.index(2)
    posterior[grey, 4:12, 4:20, 4:20], posterior[white, 12:20, 4:20, 4:20] = 1, 1
    before = {3: np.roll(posterior[grey], 1, 0), 2: posterior[white].copy()}
    before[2][12] = 0
    found = inference.back_to_head(posterior, grid, grid, 0.5, "x", before=before)
    assert found.labels[11, 10, 10] == 3 and found.labels[12, 10, 10] == 2
    assert found.grey[12, 10, 10] == 1 and found.white[12, 10, 10] == 0
    assert found.white[13, 10, 10] == 1 and found.grey[4, 10, 10] == 0
