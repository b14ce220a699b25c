"""The table of rows equals the official big buffer; posteriors, threshold, precision."""

import numpy as np
import pytest
import torch

from deepprep.segmentation.fastsurfer import inference
from deepprep.segmentation.fastsurfer.inference import Region, most_likely, posteriors, sum_views
from deepprep.segmentation.fastsurfer.labels import CLASSES, SAGITTAL_TO_FULL
from deepprep.segmentation.fastsurfer.precision import agreement, choose_precision
from tests.segmentation.fastsurfer.stubs import by_intensity, random_nets


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(0, 256, (20, 24, 28), dtype=torch.uint8, generator=_seed(1))


def _seed(n: int) -> torch.Generator:
    return torch.Generator().manual_seed(n)


@torch.inference_mode()
def official_buffer(nets, image: torch.Tensor) -> torch.Tensor:
    """The published procedure, with its permutations written out: (X, Y, Z, 79)."""
    volume = image.numpy()
    planes = {
        "coronal": (volume, (2, 3, 0, 1), 0.4),
        "axial": (np.moveaxis(volume, [0, 1, 2], [1, 2, 0]), (3, 0, 2, 1), 0.4),
        "sagittal": (np.moveaxis(volume, [0, 1, 2], [2, 1, 0]), (0, 3, 2, 1), 0.2),
    }
    buffer = torch.zeros((*volume.shape, 79))
    for name, (plane, order, weight) in planes.items():
        wide = np.pad(plane, ((0, 0), (0, 0), (3, 3)), mode="edge")
        stacks = np.stack([wide[:, :, k : k + 7] for k in range(plane.shape[2])])
        stacks = torch.from_numpy(stacks.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        logits = nets[name](stacks, (1.0, 1.0))
        if name == "sagittal":
            logits = logits[:, SAGITTAL_TO_FULL]
        buffer += weight * logits.permute(order)
    return buffer


@pytest.mark.parametrize("batch", [1, 5])
def test_table_equals_the_big_buffer(image, batch):
    nets = random_nets()
    mask = torch.rand(image.shape, generator=_seed(2)) > 0.6
    mask[:, :3] = False
    region = Region.of(mask.numpy())
    table = sum_views(nets, image, region, batch=batch)
    expected = official_buffer(nets, image)
    assert table.shape == (int(mask.sum()), 79)
    assert torch.allclose(table, expected[mask], atol=1e-5)
    assert np.array_equal(most_likely(table), CLASSES[expected[mask].argmax(1).numpy()])


def test_large_tables_are_kept_in_16_bits(image, monkeypatch):
    region = Region.of(np.ones(image.shape, dtype=bool))
    full = sum_views(random_nets(), image, region)
    monkeypatch.setattr(inference, "MAX_FULL_BUFFER_BYTES", 1000)
    half = sum_views(random_nets(), image, region)
    assert (full.dtype, half.dtype) == (torch.float32, torch.float16)
    assert torch.allclose(half.float(), full, atol=2e-2)


def test_region_numbers_voxels_in_the_order_of_the_array():
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    region = Region.of(mask)
    values = np.arange(1, len(region) + 1)
    assert np.array_equal(region.volume(values)[mask], values)
    assert not region.volume(values)[~mask].any()


def test_empty_region_gives_an_empty_table(image):
    region = Region.of(np.zeros(image.shape, dtype=bool))
    assert len(sum_views(random_nets(), image, region)) == 0


def test_progress_is_told(image):
    told = []
    region = Region.of(np.ones(image.shape, dtype=bool))
    sum_views(random_nets(), image, region, batch=8, progress=lambda *a: told.append(a))
    assert told[:3] == [("coronal", 8, 28), ("coronal", 16, 28), ("coronal", 24, 28)]
    assert told[-1] == ("sagittal", 20, 20)


def row(**logits: float) -> torch.Tensor:
    """A row of summed logits; all other classes are impossible."""
    out = torch.full((1, 79), -100.0)
    for label, value in logits.items():
        out[0, int(np.flatnonzero(int(label[1:]) == CLASSES)[0])] = value
    return out


def test_threshold_holds_a_structure_against_background():
    table = row(_0=0.0, _17=np.log(3.0))  # posterior 0.75
    assert [most_likely(table, t)[0] for t in (0.2, 0.5, 0.74, 0.76)] == [17, 17, 17, 0]
    table = row(_0=np.log(0.4), _17=np.log(0.35), _18=np.log(0.25))
    assert [most_likely(table, t)[0] for t in (0.4, 0.5)] == [17, 0]


def test_posteriors_become_tissues_certainty_and_volumes():
    table = torch.cat(
        [
            row(_0=np.log(0.25), _17=np.log(0.75)),
            row(_2=np.log(0.5), _1003=np.log(0.3), _2002=np.log(0.2)),
            row(_1003=0.0),
            row(_24=np.log(0.9), _77=np.log(0.1)),
        ]
    )
    aseg = np.array([17, 3, 42, 24], dtype=np.uint8)
    right = np.array([False, False, True, True])
    found = posteriors(table, aseg, right, np.array([True, True, True, False]))
    # Cortex: 0.3 (either side, here left) and 0.2 (right).
    expected = [[0.75, 0, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 0]]
    assert np.allclose(found.tissues, expected, atol=1e-6)
    assert np.allclose(found.certainty, [0.75, 0.5, 1.0, 0.9], atol=1e-6)
    volumes = {k: round(v, 5) for k, v in found.volumes_vox.items() if v > 1e-9}
    assert volumes == {2: 0.5, 3: 0.3, 17: 0.75, 42: 1.2}


def test_precision_of_the_stub_networks_agrees(image):
    region = Region.of(np.ones(image.shape, dtype=bool))
    nets = by_intensity()
    dtypes, why = choose_precision("fp32", nets, image, region, scale=1.0, device="cpu")
    assert set(dtypes.values()) == {torch.float32}
    assert "as asked" in why
    dtypes, _ = choose_precision("bf16", nets, image, region, scale=1.0, device="cpu")
    assert set(dtypes.values()) == {torch.bfloat16}


def test_auto_precision_needs_units_and_agreement(image, monkeypatch):
    from deepprep.segmentation.fastsurfer import precision

    region = Region.of(np.ones(image.shape, dtype=bool))
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: False)
    dtypes, why = choose_precision("auto", by_intensity(), image, region, scale=1.0, device="cpu")
    assert set(dtypes.values()) == {torch.float32}
    assert "no bfloat16 units" in why
    monkeypatch.setattr(precision, "has_bf16_units", lambda device: True)

    class Fragile(torch.nn.Module):
        """Two classes that differ by less than bfloat16 can tell."""

        def forward(self, x, scale):
            out = torch.full((len(x), 79, *x.shape[2:]), -9.0, dtype=x.dtype)
            out[:, 1], out[:, 2] = 1 + x[:, 3] / 1000, 1.0004
            return out

    nets = {**by_intensity(), "coronal": Fragile()}
    dtypes, why = choose_precision("auto", nets, image, region, scale=1.0, device="cpu")
    assert dtypes["coronal"] == torch.float32
    assert "coronal 32-bit floats" in why


def test_agreement_ignores_pixels_outside_and_background():
    class Same(torch.nn.Module):
        def forward(self, x, scale):
            return torch.cat([x[:, 3:4], 0.5 * torch.ones_like(x[:, 3:4])], 1)

    stack = torch.rand(2, 7, 8, 8, generator=_seed(3))
    everywhere = torch.ones(2, 8, 8, dtype=torch.bool)
    assert agreement(Same(), stack, 1.0, "cpu", everywhere) > 0.9
    assert agreement(Same(), stack, 1.0, "cpu", ~everywhere) == 1.0
