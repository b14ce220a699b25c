"""Conform tasks on the bundled head: one image, two images, both kinds of reference."""

import json
from pathlib import Path

import numpy as np
import pytest
from fileformats.generic import File
from scipy.spatial.transform import Rotation

from deepprep.image.brain_mask import is_skull_stripped
from deepprep.image.conform import to_ras
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.anatomy import ConformT1w
from deepprep.interfaces.nifti import load_volume, save_volume
from deepprep.registration.transforms import Affine

DEMO = Path(__file__).parents[2] / "deepprep" / "data" / "demo" / "colin27_T1w.nii.gz"


def rigid() -> np.ndarray:
    """Points of the second scan -> points of the first: 6 degrees and a few mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [4, -3, 6], degrees=True).as_matrix()
    matrix[:3, 3] = [5.0, -3.0, 2.0]
    return matrix


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The head at 3 mm, and the same head as if it had moved before a second scan."""
    folder = tmp_path_factory.mktemp("scans")
    head = to_ras(load_volume(DEMO))
    grid = Grid(
        (61, 73, 61), np.array([[3, 0, 0, -90], [0, 3, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1.0]])
    )
    first = resample(head, grid, None, "linear")
    second = resample(head, grid, Affine(rigid()), "linear")
    flipped = Volume(
        second.data[::-1],
        second.affine @ np.array([[-1, 0, 0, 60], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )
    return [
        File(save_volume(v, folder / f"sub-01_run-{n}_T1w.nii.gz"))
        for n, v in ((1, first), (2, flipped))
    ]


def conform(files, reference, tmp_path):
    task = ConformT1w(t1w=files, reference=reference, device="cpu", label="sub-01")
    outputs = task(cache_root=tmp_path)
    return load_volume(str(outputs.t1w)), json.loads(Path(str(outputs.info)).read_text())


def test_one_image_is_reordered_and_not_interpolated(scans, tmp_path):
    average, info = conform(scans[1:], "unbiased", tmp_path)
    original = load_volume(str(scans[1]))
    assert average.grid.axcodes == ("R", "A", "S")
    np.testing.assert_array_equal(average.data, original.data[::-1])
    assert info["rows"][0]["orientation"] == "LAS"
    assert info["rows"][0]["note"] == "axes reordered to RAS"


def test_two_images_are_averaged_in_the_space_of_the_first(scans, tmp_path):
    average, info = conform(scans, "first-lex", tmp_path)
    assert info["n_averaged"] == 2
    maps = {k: np.array(v) for k, v in info["t1w_to_orig"].items()}
    np.testing.assert_allclose(maps["sub-01_run-1_T1w.nii.gz"], np.eye(4), atol=1e-6)
    # First-scan points -> second-scan points is the inverse of how the second was made.
    point = np.array([20.0, -40.0, 10.0, 1.0])
    found = maps["sub-01_run-2_T1w.nii.gz"] @ point
    assert np.linalg.norm(found - np.linalg.inv(rigid()) @ point) < 0.5
    first = load_volume(str(scans[0]))
    assert np.corrcoef(average.data.ravel(), first.data.ravel())[0, 1] > 0.98


def test_an_average_of_stripped_images_is_seen_as_stripped(scans, tmp_path):
    # splines echo into an empty background, which then is not empty any more
    stripped = []
    for file in scans:
        scan = load_volume(str(file))
        centre = scan.grid.ras2vox[:3] @ np.array([0.0, -20.0, 15.0, 1.0])
        far = sum(
            (3.0 * (axis - middle)) ** 2
            for axis, middle in zip(np.ogrid[tuple(slice(n) for n in scan.shape)], centre)
        )
        brain = scan.like(np.where(far < 68.0**2, scan.data + 20, 0).astype(np.float32))
        assert is_skull_stripped(to_ras(brain))
        stripped.append(File(save_volume(brain, tmp_path / Path(str(file)).name)))
    for reference in ("unbiased", "first-lex"):
        average, _ = conform(stripped, reference, tmp_path / reference)
        assert is_skull_stripped(average), reference
        assert average.data.min() >= 0


def test_an_unbiased_average_lies_half_way(scans, tmp_path):
    _, info = conform(scans, "unbiased", tmp_path)
    one, two = (np.array(info["t1w_to_orig"][f"sub-01_run-{n}_T1w.nii.gz"]) for n in (1, 2))
    angles = [np.degrees(Rotation.from_matrix(m[:3, :3]).magnitude()) for m in (one, two)]
    whole = np.degrees(Rotation.from_matrix(rigid()[:3, :3]).magnitude())
    assert angles[0] == pytest.approx(whole / 2, abs=0.4)
    assert angles[1] == pytest.approx(whole / 2, abs=0.4)
