"""Damaged files that the data-set tests do not cover."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from deepprep.bids.image_integrity import check_image, check_images
from tests.bids.datasets import write_image


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_good_images(tmp_path, extension, dtype):
    data = np.random.default_rng(1).integers(0, 100, (5, 6, 7, 3)).astype(dtype)
    assert check_image(write_image(tmp_path / f"x{extension}", data.shape, data=data)) is None


def code_of(path):
    finding = check_image(path)
    return finding.code if finding else None


def test_missing_and_empty(tmp_path):
    assert code_of(tmp_path / "none.nii.gz") == "FILE_MISSING"
    (tmp_path / "empty.nii.gz").touch()
    assert code_of(tmp_path / "empty.nii.gz") == "EMPTY_FILE"
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere")
    assert code_of(tmp_path / "link.nii.gz") == "FILE_MISSING"


@pytest.mark.parametrize("keep", [10, 200, 352, 400, -1, -9])
def test_truncated_anywhere(tmp_path, keep):
    whole = write_image(tmp_path / "x.nii", (6, 6, 6)).read_bytes()
    plain = tmp_path / "y.nii"
    plain.write_bytes(whole[:keep])
    assert code_of(plain) in ("TRUNCATED", "BAD_HEADER")
    packed = tmp_path / "z.nii.gz"
    packed.write_bytes(gzip.compress(whole)[:keep])
    assert code_of(packed) in ("TRUNCATED", "BAD_HEADER")


def test_voxels_missing_in_an_intact_gzip(tmp_path):
    whole = write_image(tmp_path / "x.nii", (6, 6, 6)).read_bytes()
    path = tmp_path / "z.nii.gz"
    path.write_bytes(gzip.compress(whole[:-2]))
    assert code_of(path) == "TRUNCATED"


def test_damaged_checksum(tmp_path):
    content = bytearray(write_image(tmp_path / "x.nii.gz", (6, 6, 6)).read_bytes())
    content[-6] ^= 255
    (tmp_path / "y.nii.gz").write_bytes(content)
    assert code_of(tmp_path / "y.nii.gz") == "TRUNCATED"


def test_gzip_named_nii(tmp_path):
    path = write_image(tmp_path / "x.nii.gz", (6, 6, 6))
    finding = check_image(path.rename(tmp_path / "x.nii"))
    assert finding is not None
    assert finding.what == "the file is gzip-compressed but its name does not end with .gz"


def test_last_voxel_is_read(tmp_path):
    data = np.zeros((200, 200, 60), np.float32)
    data[0, 0, 0] = 2
    data[-1, -1, -1] = 1
    assert check_image(write_image(tmp_path / "a.nii.gz", data.shape, data=data)) is None
    data[-1, -1, -1] = np.nan
    data[1, 0, 0] = 1
    assert code_of(write_image(tmp_path / "b.nii.gz", data.shape, data=data)) == "NAN_VALUES"


def test_big_endian(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">f4")
    header.set_data_shape((4, 4, 4))
    image = nib.Nifti1Image(np.arange(64.0).reshape(4, 4, 4), np.diag([2, 2, 2, 1.0]), header)
    nib.save(image, tmp_path / "x.nii.gz")
    assert check_image(tmp_path / "x.nii.gz") is None


def test_colour_picture(tmp_path):
    data = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(data, np.diag([2, 2, 2, 1.0])), tmp_path / "x.nii.gz")
    assert code_of(tmp_path / "x.nii.gz") == "BAD_TYPE"


def test_singular_affine(tmp_path):
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    path = write_image(tmp_path / "x.nii.gz", (4, 4, 4), affine=affine)
    image = nib.load(path)
    image.header["srow_z"] = 0
    raw = image.header.binaryblock + b"\0" * 4 + np.asarray(image.dataobj).tobytes(order="F")
    path.write_bytes(gzip.compress(raw))
    assert code_of(path) == "BAD_ORIENTATION"


def test_many_at_once_keep_their_results(tmp_path):
    good = str(write_image(tmp_path / "a.nii.gz", (4, 4, 4)))
    bad = str(tmp_path / "b.nii.gz")
    open(bad, "w").close()
    result = check_images([bad, good], threads=4)
    assert result[good] is None
    assert result[bad] is not None
    assert result[bad].code == "EMPTY_FILE"
