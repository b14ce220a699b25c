"""Images on disk: values, affines, types, reproducible bytes, no half files."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume, save_volume, series_dtype

AFFINE = np.array([[-2, 0.1, 0, 90], [0.1, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1.0]])


@pytest.fixture
def volume() -> Volume:
    return Volume(np.random.default_rng(0).random((5, 6, 7)).astype("f4"), np.diag([-2.0, 2, 3, 1]))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_round_trip(tmp_path, volume, name):
    back = load_volume(save_volume(volume, tmp_path / name))
    np.testing.assert_array_equal(back.data, volume.data)
    np.testing.assert_allclose(back.affine, volume.affine)


def test_both_header_affines_are_set(tmp_path, volume):
    image = nib.load(save_volume(volume, tmp_path / "a.nii.gz", code=4))
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 4
    np.testing.assert_allclose(image.get_qform(), volume.affine, atol=1e-5)


def test_same_values_same_bytes(tmp_path, volume):
    one = save_volume(volume, tmp_path / "a.nii.gz").read_bytes()
    assert save_volume(volume, tmp_path / "b.nii.gz").read_bytes() == one


def test_repetition_time_is_the_fourth_zoom(tmp_path, volume):
    series = volume.like(np.stack([volume.data] * 3, axis=3))
    image = nib.load(save_volume(series, tmp_path / "a.nii", tr_s=1.5))
    assert image.header.get_zooms()[3] == pytest.approx(1.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")


def test_floats_are_rounded_to_integers(tmp_path, volume):
    path = save_volume(volume.like(volume.data * 0 + 2.6), tmp_path / "a.nii", dtype="int16")
    assert (np.asarray(nib.load(path).dataobj) == 3).all()


def test_bool_becomes_uint8(tmp_path, volume):
    path = save_volume(volume.like(volume.data > 0.5), tmp_path / "a.nii")
    assert nib.load(path).get_data_dtype() == np.uint8


def test_a_failed_write_leaves_nothing(tmp_path, volume, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_volume(volume, tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stored", "top", "expected"),
    [("int16", 4000, "int16"), ("int16", 200, "float32"), ("uint16", 60000, "float32"),
     ("float32", 4000, "float32"), ("uint8", 255, "float32")],
)  # fmt: skip
def test_type_of_a_resampled_series(tmp_path, stored, top, expected):
    data = np.linspace(0, top, 60).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(data.astype(stored), np.eye(4)), tmp_path / "a.nii")
    assert series_dtype(tmp_path / "a.nii", data) == np.dtype(expected)
