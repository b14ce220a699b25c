"""A whole head through stub networks: every orientation, resolution and mask."""

import numpy as np
import pytest
import torch

from deepprep.image.volume import Volume
from deepprep.segmentation.fastsurfer import segment
from deepprep.segmentation.fastsurfer.engine import FastSurferV1, FastSurferVINN
from deepprep.segmentation.fastsurfer.network import FastSurferCNN
from deepprep.segmentation.fastsurfer.segment import search_region, segment_with
from tests.segmentation.fastsurfer.stubs import LEVELS, by_intensity
from tests.segmentation.fastsurfer.test_conform import ORIENTATIONS, oriented

OBLIQUE = np.array([[1.0, 0, 0, -9], [0, 1, 0, -12], [0, 0, 1, -8], [0, 0, 0, 1]])


def head(zoom: float = 1.0) -> tuple[Volume, np.ndarray]:
    """A small asymmetric head whose intensities name the structures, and its labels."""
    labels = np.zeros((24, 30, 26), dtype=np.uint8)
    labels[3:21, 3:27, 3:23] = 24
    labels[4:11, 4:26, 4:22] = 3  # left: low x in a file whose x runs to the right
    labels[13:20, 4:26, 4:20] = 42
    labels[5:10, 6:24, 6:20] = 2
    labels[14:19, 6:24, 6:18] = 41
    labels[6:9, 8:12, 8:10] = 17
    labels[10:14, 10:14, 4:9] = 16
    values = np.zeros(labels.shape, dtype=np.uint8)
    for level, label in LEVELS.items():
        values[labels == label] = level
    affine = OBLIQUE @ np.diag([zoom, zoom, zoom, 1.0])
    return Volume(values, affine), labels


def run(volume: Volume, mask: np.ndarray, rule="1mm", **options):
    return segment_with(
        by_intensity(), volume, mask, engine="stub", rule=rule, precision="fp32", **options
    )


def test_labels_of_a_head_return_to_its_lattice(small):
    volume, labels = head()
    found = run(volume, labels > 0)
    assert found.labels.dtype == np.uint8
    assert np.array_equal(found.labels, labels)
    assert found.engine == "stub"
    assert np.allclose((found.grey + found.white + found.fluid)[labels > 0], 1, atol=1e-3)
    assert (found.grey[np.isin(labels, (3, 42, 17))] > 0.99).all()
    assert (found.white[np.isin(labels, (2, 41, 16))] > 0.99).all()
    assert (found.fluid[labels == 24] > 0.99).all()
    assert found.uncertainty.max() < 0.01
    for label in (2, 3, 16, 17, 24, 41, 42):
        count = np.count_nonzero(labels == label)
        assert found.volumes_mm3[label] == pytest.approx(count, rel=0.02, abs=1)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_all_48_orientations_give_the_same_labels(small, codes):
    volume, labels = head()
    turned = oriented(volume, codes)
    expected = oriented(volume.like(labels), codes)
    found = run(turned, turned.data > 0)
    assert np.array_equal(found.labels, expected.data)


@pytest.mark.parametrize("codes", ["RAS", "LIA", "PSL", "AIR"])
@pytest.mark.parametrize(("rule", "zoom"), [("min", 0.7), ("1mm", 0.7), ("min", 1.6)])
def test_other_voxel_sizes_are_labelled_on_their_own_lattice(small, codes, rule, zoom):
    volume, labels = head(zoom)
    turned, expected = oriented(volume, codes), oriented(volume.like(labels), codes)
    found = run(turned, turned.data > 0, rule)
    straight = run(volume, volume.data > 0, rule)
    assert np.array_equal(found.labels, oriented(volume.like(straight.labels), codes).data)
    for label in (2, 41):
        there, here = expected.data == label, found.labels == label
        assert 2 * np.count_nonzero(there & here) / (there.sum() + here.sum()) > 0.8


@pytest.mark.parametrize(("rule", "zoom"), [("min", 0.7), ("1mm", 0.7), ("min", 1.3)])
def test_structures_stay_where_they_are(small, rule, zoom):
    shape = (36, 34, 35)
    centre = np.array([16.3, 17.8, 15.1])
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - centre, axis=-1)
    # Half of the level of the fluid, its border to air, at ten voxels from the centre.
    values = np.clip(20 + 20 * (10 - distance), 0, 40).astype(np.uint8)
    affine = OBLIQUE @ np.diag([zoom, zoom, zoom, 1.0])
    found = run(Volume(values, affine), values > 0, rule).labels > 0
    off_vox = np.argwhere(found).mean(axis=0) - centre
    assert np.abs(off_vox).max() < 0.06
    assert np.count_nonzero(found) == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.04)


def test_scale_told_to_the_networks_is_one_over_the_voxel_size(small):
    scales = []

    class Listening(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x, scale):
            scales.append(scale)
            return self.net(x, scale)

    volume, _ = head(0.8)
    nets = {name: Listening(net) for name, net in by_intensity().items()}
    segment_with(nets, volume, volume.data > 0, engine="stub", rule="min", precision="fp32")
    assert set(scales) == {(1.25, 1.25)}


def test_without_a_mask_the_whole_head_is_searched(small):
    volume, labels = head()
    found = run(volume, np.zeros(volume.shape, dtype=bool))
    assert np.array_equal(found.labels, labels)


def test_region_is_near_the_mask():
    data = np.zeros((64, 64, 64), dtype=np.uint8)
    data[5:60, 5:60, 5:60] = 100
    mask = np.zeros(data.shape, dtype=bool)
    mask[30:34, 30:34, 30:34] = True
    region = search_region(Volume(data, OBLIQUE), Volume(mask, OBLIQUE))
    assert region[20:44, 32, 32].all()
    assert not region[19, 32, 32] and not region[44, 32, 32]


def test_small_brains_and_small_masks_are_told(small):
    volume, labels = head()
    found = run(volume, labels > 0)
    assert any("less than 0.7 l" in note for note in found.notes)
    mask = np.zeros(volume.shape, dtype=bool)
    mask[:3] = True
    found = run(volume, mask)
    assert any("may be too small" in note for note in found.notes)


def test_empty_air_gives_an_empty_segmentation(small):
    rng = np.random.default_rng(0)
    noise = Volume(rng.integers(0, 8, (24, 24, 24), dtype=np.uint8), OBLIQUE)
    found = run(noise, np.ones(noise.shape, dtype=bool))
    assert not found.labels.any()
    assert any("less than 0.7 l" in note for note in found.notes)


def test_gpu_without_memory_is_left_for_the_cpu():
    asked = []

    def failing(device, batch):
        asked.append((device, batch))
        if device != "cpu":
            raise torch.OutOfMemoryError("out of memory")
        return torch.zeros(1, 79)

    notes: list[str] = []
    segment._within_memory(failing, "cuda", notes)
    assert asked == [("cuda", None), ("cuda", 1), ("cpu", None)]
    assert "memory of cuda is too small" in notes[0]


def test_engine_finds_official_files_and_segments(small, tmp_path, monkeypatch):
    volume, labels = head()
    engine = FastSurferV1(precision="fp32")
    assert engine.weight_files(tmp_path) is None
    for view, classes in (("Axial", 79), ("Coronal", 79), ("Sagittal", 51)):
        folder = tmp_path / f"checkpoints/{view}_Weights_FastSurferCNN/ckpts"
        folder.mkdir(parents=True)
        state = {f"module.{k}": v for k, v in FastSurferCNN(classes).state_dict().items()}
        torch.save({"model_state_dict": state}, folder / "Epoch_30_training_state.pkl")
    files = engine.weight_files(tmp_path)
    assert [f.parts[-3].split("_")[0] for f in files] == ["Coronal", "Axial", "Sagittal"]
    found = engine.segment(volume, labels > 0, files, device="cpu", threshold=0.5)
    assert found.labels.shape == volume.shape
    assert found.engine == "fastsurfer-v1"
    assert FastSurferVINN().weight_files(tmp_path) is None
