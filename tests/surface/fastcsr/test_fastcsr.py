"""FastCSR's network and checkpoints: official names and sizes, safe and strict loading."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from deepprep.errors import InputError, MissingResourceError
from deepprep.image.volume import Volume
from deepprep.surface.fastcsr.checkpoint import LoadedNet, load_checkpoint
from deepprep.surface.fastcsr.inference import (
    _predict,
    fastcsr_levels,
    filled_volume,
    normalised,
    window_corners,
    window_weight,
)
from deepprep.surface.fastcsr.network import Architecture, LevelSetNet
from deepprep.surface.level_set import choose_level_engine
from tests.surface.test_filled import box_head

SMALL = Architecture(pools=((2, 2, 2),) * 2, kernels=((3, 3, 3),) * 3, base_features=4)
KEYS = Path(__file__).parents[4] / "shared" / "reference" / "fastcsr_keys.txt"


def plans(architecture: Architecture, patch: tuple[int, int, int] = (32, 32, 32)) -> dict:
    """As nnU-Net writes them: numpy objects among plain ones."""
    return {
        "base_num_features": np.int64(architecture.base_features),
        "conv_per_stage": architecture.convolutions,
        "num_modalities": architecture.inputs,
        "transpose_forward": [0, 1, 2],
        "use_mask_for_norm": {0: np.bool_(False), 1: False},
        "normalization_schemes": {0: "nonCT", 1: "nonCT"},
        "plans_per_stage": {
            0: {
                "patch_size": np.array(patch),
                "current_spacing": np.array([1.0, 1.0, 1.0]),
                "pool_op_kernel_sizes": [list(k) for k in architecture.pools],
                "conv_kernel_sizes": [list(k) for k in architecture.kernels],
            }
        },
    }


def write(path: Path, net: LevelSetNet, **changed: object) -> Path:
    content = {"plans": plans(net.architecture), "state_dict": net.state_dict(), **changed}
    torch.save(content, path)
    return path


def test_default_network_has_the_official_number_of_parameters() -> None:
    net = LevelSetNet()
    assert sum(p.numel() for p in net.parameters()) == 31_194_848
    assert net.multiple == (32, 32, 32)


@pytest.mark.skipif(not KEYS.is_file(), reason="shared/reference is not beside this checkout")
def test_names_and_shapes_are_the_official_ones_in_order() -> None:
    lines = [line.split("\t") for line in KEYS.read_text().splitlines() if line[0] != "#"]
    found = {name: str(tuple(t.shape)) for name, t in LevelSetNet().state_dict().items()}
    assert found == dict(lines)
    assert list(found) == [name for name, _ in lines]


def test_output_is_linear_and_has_the_shape_of_the_input() -> None:
    torch.manual_seed(0)
    net = LevelSetNet(SMALL).eval()
    out = net(torch.randn(1, 2, 16, 24, 8))
    assert out.shape == (1, 1, 16, 24, 8)
    assert out.min() < 0 < out.max()


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = LevelSetNet(SMALL).eval()
    loaded = load_checkpoint(write(tmp_path / "lh_model.pth", net))
    x = torch.randn(1, 2, 16, 16, 16)
    assert torch.equal(loaded.net(x), net(x))
    assert loaded.patch == (32, 32, 32) and loaded.mask_for_norm == (False, False)


class Attack:
    def __reduce__(self):
        return os.system, ("touch " + os.environ["DEEPPREP_TEST_ATTACK"],)


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "attacked"
    monkeypatch.setenv("DEEPPREP_TEST_ATTACK", str(trace))
    net = LevelSetNet(SMALL)
    path = write(tmp_path / "lh_model.pth", net, extra=Attack())
    load_checkpoint(path)
    assert not trace.exists()
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(InputError, match=r"bare\.pth"):
        load_checkpoint(tmp_path / "bare.pth")
    assert not trace.exists()


def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    net = LevelSetNet(SMALL)
    short = {k: v for k, v in net.state_dict().items() if k != "tu.0.weight"}
    with pytest.raises(InputError, match=r"does not fit.*tu\.0\.weight"):
        load_checkpoint(write(tmp_path / "a.pth", net, state_dict=short))
    with pytest.raises(InputError, match="plans that cannot be understood"):
        load_checkpoint(write(tmp_path / "b.pth", net, plans={"base_num_features": 3}))
    with pytest.raises(InputError, match="not an official FastCSR checkpoint"):
        load_checkpoint(_saved(tmp_path / "c.pth", {"model_state": {}}))
    bad = {k: v * torch.nan for k, v in net.state_dict().items()}
    with pytest.raises(InputError, match="not finite"):
        load_checkpoint(write(tmp_path / "d.pth", net, state_dict=bad))
    (tmp_path / "e.pth").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(tmp_path / "e.pth")
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(tmp_path / "absent.pth")


def _saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_windows_overlap_by_half_and_reach_both_ends() -> None:
    corners = list(window_corners((200, 128, 130), (128, 128, 128)))
    assert sorted({c[0] for c in corners}) == [0, 36, 72]
    assert {c[1] for c in corners} == {0}
    assert sorted({c[2] for c in corners}) == [0, 2]
    weight = window_weight((16, 16, 16))
    assert weight.max() == weight[8, 8, 8] == 1 and weight.min() > 0


def test_normalisation_within_the_mask_leaves_zero_outside() -> None:
    data = np.arange(2 * 27, dtype=np.float32).reshape(2, 3, 3, 3)
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1] = True
    found = normalised(data, mask, (True, False))
    assert found[0][mask].mean() == pytest.approx(0, abs=1e-6)
    assert found[0][mask].std() == pytest.approx(1, abs=1e-5)
    assert (found[0][~mask] == 0).all()
    assert found[1].mean() == pytest.approx(0, abs=1e-6)


class Second(torch.nn.Module):
    """Gives the second channel, half of it: shows where a voxel goes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x[:, 1:2]


@pytest.mark.parametrize("mirror", [False, True])
def test_windows_and_transposition_put_every_voxel_back(mirror: bool) -> None:
    random = np.random.default_rng(0)
    channels = np.zeros((2, 30, 26, 22), dtype=np.float32)
    channels[:, 3:27, 4:20, 5:20] = random.uniform(1, 2, (2, 24, 16, 15))
    loaded = LoadedNet(Second(), (16, 16, 16), (2, 0, 1), (False, False))  # type: ignore[arg-type]
    found = _predict(loaded, channels, "cpu", mirror)
    inner = channels[1, 3:27, 4:20, 5:20]
    expected = 0.5 * (inner - inner.mean()) / inner.std()
    np.testing.assert_allclose(found[3:27, 4:20, 5:20], expected, atol=1e-4)
    assert (found[:3] == 0).all()


def test_level_is_in_millimetres_on_the_conformed_lattice_and_outside_far_away() -> None:
    head = box_head()
    affine = np.diag([-1.0, 1, 1, 1])
    labels = Volume(head, affine)
    filled = filled_volume(labels)
    assert set(np.unique(filled.data)) == {0, 127, 255}
    assert filled.data[8, 20, 20] == 255 and filled.data[50, 20, 20] == 127
    loaded = LoadedNet(Second(), (64, 64, 64), (0, 1, 2), (False, False))  # type: ignore[arg-type]
    image = Volume(head.astype(np.float32) + 1, affine)
    levels = fastcsr_levels({"left": loaded}, image, labels)
    level = levels["left"]
    assert level.shape == (256, 256, 256) and level.data.min() >= -3 and level.data.max() == 3
    assert level.data[0, 0, 0] == 3
    # the second channel is large in the left hemisphere, at the place it has in the world
    at = np.rint(level.grid.ras2vox @ affine @ [8, 20, 20, 1])[:3].astype(int)
    right = np.rint(level.grid.ras2vox @ affine @ [34, 20, 20, 1])[:3].astype(int)
    assert level.data[tuple(at)] > level.data[tuple(right)]


def test_the_ladder_says_why_and_what_is_missing(tmp_path: Path) -> None:
    assert choose_level_engine("auto", tmp_path).name == "compact"
    with pytest.raises(InputError, match="choose one of"):
        choose_level_engine("freesurfer", tmp_path)
    with pytest.raises(MissingResourceError, match=r"lh_model\.pth and rh_model\.pth"):
        choose_level_engine("fastcsr", tmp_path)
    (tmp_path / "FastCSR").mkdir()
    for file in ("lh_model.pth", "rh_model.pth"):
        (tmp_path / "FastCSR" / file).touch()
    choice = choose_level_engine("fastcsr", tmp_path)
    assert choice.files["left"] == tmp_path / "FastCSR" / "lh_model.pth"
