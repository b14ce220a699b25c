"""Engines of the level set: what each is given, and that it lands where the head is."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.surface_phantom import SHAPES, FoldedHemisphere, render
from deepprep.errors import MissingResourceError
from deepprep.image.volume import Volume
from deepprep.surface import level_set
from deepprep.surface.fastcsr import compact
from deepprep.surface.initial_white import surface_of_level
from deepprep.surface.reconstruct import reconstruct_hemisphere

ROUND = FoldedHemisphere(
    "round", lambda d: np.zeros(len(d)), lambda d: np.full(len(d), 2.5), radius_mm=14.0
)


class FromFilled(torch.nn.Module):
    """In place of a trained network: inside where the labels are filled."""

    multiple = (8, 8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, 2, X, Y, Z) to (1, 1, X, Y, Z)."""
        return torch.nn.functional.avg_pool3d(1 - 2 * x[:, 1:], 3, 1, 1)


def oriented(volume: Volume, axes: str) -> Volume:
    """The same volume with its voxels stored along other axes."""
    change = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(axes)
    )
    affine = volume.affine @ nib.orientations.inv_ornt_aff(change, volume.shape)
    return Volume(np.ascontiguousarray(nib.apply_orientation(volume.data, change)), affine)


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LIA", "PSR"])
def test_the_compact_engine_finds_the_head_in_any_orientation(
    monkeypatch: pytest.MonkeyPatch, axes: str
) -> None:
    monkeypatch.setattr(compact, "load_compact", lambda path: FromFilled())
    phantom = render([ROUND])
    labels, image = oriented(phantom.labels, axes), oriented(phantom.image, axes)
    level = level_set.engine_level("compact", "weights", "left", labels, image)
    mesh = surface_of_level(level).mesh
    assert np.abs(ROUND.white_distance(mesh.vertices)).mean() < 0.5
    assert mesh.enclosed_volume_mm3 > 0


@pytest.mark.parametrize("axes", ["RAS", "LIA"])
def test_a_level_set_of_another_lattice_gives_the_same_surfaces(axes: str) -> None:
    phantom = render([ROUND], noise=0.02)
    mask = phantom.labels.like((phantom.labels.data > 0).astype(np.uint8))
    level = level_set.engine_level("segmentation", None, "left", phantom.labels, phantom.image)
    found = reconstruct_hemisphere(
        "left", phantom.image, phantom.labels, mask, level=oriented(level, axes)
    )
    assert np.abs(ROUND.white_distance(found.white.vertices)).mean() < 0.1
    assert np.abs(ROUND.pial_distance(found.pial.vertices)).mean() < 0.1
    assert found.white.enclosed_volume_mm3 > 0


def test_compact_is_there_when_its_weights_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(level_set, "COMPACT_FILE", tmp_path / "level_set.safetensors")
    with pytest.raises(MissingResourceError, match=r"level_set\.safetensors"):
        level_set.choose_level_engine("compact")
    (tmp_path / "level_set.safetensors").touch()
    choice = level_set.choose_level_engine("compact")
    assert choice.files == dict.fromkeys(("left", "right"), tmp_path / "level_set.safetensors")
    assert choice.reason == "compact (--csr-engine compact): level set by our own network."


def test_auto_is_our_network_or_else_the_segmentation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert level_set.choose_level_engine().name == "compact"
    monkeypatch.setattr(level_set, "COMPACT_FILE", tmp_path / "level_set.safetensors")
    choice = level_set.choose_level_engine()
    assert choice.name == "segmentation" and not choice.files and "not installed" in choice.reason


def test_far_from_the_labels_border_the_labels_decide() -> None:
    filled = np.zeros((20, 20, 20), dtype=bool)
    filled[4:16, 4:16, 4:16] = True
    level = np.full(filled.shape, 1.0)
    level[0, 0, 0] = -1.0
    level[3, 10, 10] = -0.5
    found = compact.within_reach(level, filled, 3.0)
    assert found[0, 0, 0] == 3.0
    assert found[3, 10, 10] == -0.5
    assert found[10, 10, 10] == -3.0 and found[7, 10, 10] == -3.0
    assert found[5, 10, 10] == 1.0
    assert found.dtype == np.float32


def test_far_levels_are_distances_grown_on_from_near_ones() -> None:
    x = np.arange(-12.0, 13.0)
    whole = np.broadcast_to(x[:, None, None], (25, 5, 5))
    wavering = np.clip(whole, -3, 3)
    wavering[2, 2, 2] = -2.2
    found = compact.regrown(wavering, 2.0)
    assert np.abs(found - whole).max() <= 1.0
    assert (np.diff(found[:, 2, 2]) > 0).all()
    assert np.array_equal(found[10:15], whole[10:15])


def test_our_network_keeps_the_middle_of_a_shape_it_does_not_know() -> None:
    phantom = render([SHAPES["network"]], noise=0.03)
    level = level_set.engine_level(
        "compact", level_set.COMPACT_FILE, "left", phantom.labels, phantom.image
    )
    mesh = surface_of_level(level).mesh
    assert mesh.euler_number == 2
    error = np.abs(SHAPES["network"].white_distance(mesh.vertices, 5.0))
    assert np.isfinite(error).all() and error.mean() < 0.3


def test_the_installed_network_is_listed_with_its_checksum() -> None:
    digest = hashlib.sha256(level_set.COMPACT_FILE.read_bytes()).hexdigest()
    page = Path(__file__).parents[2] / "training/surface/README.md"
    assert digest in page.read_text(encoding="utf-8")
    compact.load_compact(level_set.COMPACT_FILE)


def test_an_engine_without_weights_is_refused() -> None:
    phantom = render([ROUND], zoom_mm=2.0)
    with pytest.raises(ValueError, match="no engine fastcsr"):
        level_set.engine_level("fastcsr", None, "left", phantom.labels, phantom.image)
