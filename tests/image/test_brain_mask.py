"""Stripped-image detection and the clean-up around deepbet."""

import numpy as np
import pytest

from deepprep.image.brain_mask import extract_brain, is_skull_stripped
from deepprep.image.volume import Volume


def ball(radius_mm: float, n: int = 64, zoom: float = 3.0) -> np.ndarray:
    axis = (np.arange(n) - n / 2) * zoom
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return x**2 + y**2 + z**2 < radius_mm**2


AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def test_a_lone_brain_sized_blob_is_a_stripped_image():
    brain = ball(68.0)
    assert is_skull_stripped(Volume(brain.astype("f4") * 100, AFFINE))


def test_noise_in_the_background_means_not_stripped():
    image = ball(68.0) * 100 + np.random.default_rng(0).random((64, 64, 64))
    assert not is_skull_stripped(Volume(image.astype("f4"), AFFINE))


def test_a_head_on_zero_background_is_too_large_to_be_a_brain():
    assert not is_skull_stripped(Volume(ball(90.0).astype("f4"), AFFINE))


def test_the_own_mask_of_a_stripped_image_is_used_with_holes_filled():
    data = ball(68.0).astype("f4") * 100
    data[31:33, 31:33, 31:33] = 0
    found = extract_brain(Volume(data, AFFINE), "auto")
    assert found.method == "input"
    assert "stripped already" in found.reason
    assert found.mask[31:33, 31:33, 31:33].all()
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 68**3 / 1000, rel=0.03)
    assert found.plausible


def test_an_empty_image_has_no_brain():
    with pytest.raises(ValueError, match="no brain was found"):
        extract_brain(Volume(np.zeros((32, 32, 32), "f4"), AFFINE), "skip")


def test_deepbet_finds_the_brain_of_a_real_head_in_any_orientation(shared_data):
    import nibabel as nib

    from deepprep.image.conform import to_ras
    from deepprep.interfaces.nifti import load_volume

    head = load_volume(shared_data / "bids-ci/sub-001/anat/sub-001_T1w.nii.gz")
    plain = extract_brain(to_ras(head))
    assert plain.method == "deepbet"
    assert 1200 < plain.volume_ml < 1800
    ornt = nib.orientations.axcodes2ornt("PIL")
    turned = to_ras(head)
    data = nib.apply_orientation(turned.data, ornt)
    affine = turned.affine @ nib.orientations.inv_ornt_aff(ornt, turned.shape)
    other = extract_brain(Volume(data, affine))
    back = to_ras(Volume(other.mask.astype("u1"), affine)).data > 0
    assert 2 * (back & plain.mask).sum() / (back.sum() + plain.mask.sum()) > 0.999
