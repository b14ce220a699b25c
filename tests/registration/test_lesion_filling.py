"""A lesion filled with the other side's tissue or with white matter."""

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.registration.lesion_filling import fill_lesion
from tests.registration.heads import T1W, grid, motion, paint, tissue

LEFT = (-22.0, 12.0, 8.0)
RADIUS_MM = 14.0


def symmetric_head(where, transform=None):
    """The egg and its mirror image in one: the same on both sides of x = 0."""
    fine = grid(1.5)
    head = paint(fine, T1W)
    half = fine.shape[0] // 2
    data = head.data.copy()
    data[:half] = data[::-1][:half]
    return resample(head.like(data), where, transform, "linear")


def ball(volume, centre, radius=RADIUS_MM):
    away = np.linalg.norm(volume.grid.points_ras() - np.asarray(centre), axis=-1)
    return volume.like((away < radius).astype(np.float32))


def sicken(head, lesion):
    return head.like(np.where(lesion.data > 0.5, 12, head.data).astype(np.float32))


@pytest.mark.parametrize(
    "where",
    [grid(3.0), grid(3.0, flip=(-1, 1, 1)), grid(3.0, zooms=(1, 1, 1.3), turn_deg=10)],
    ids=["RAS", "LAS", "oblique, anisotropic"],
)
def test_the_other_side_of_a_symmetric_head_restores_what_the_lesion_took(where):
    head = symmetric_head(where)
    mask = head.data > 10
    lesion = ball(head, LEFT)
    inside = (lesion.data > 0.5) & mask
    sick = sicken(head, lesion)
    broken = sick.data.copy()
    broken[tuple(np.argwhere(mask & ~inside)[0])] = np.nan
    found = fill_lesion(sick.like(broken), mask, lesion, "mirror")
    assert np.isfinite(found.t1w.data).all()
    assert found.mirrored_share > 0.95
    before = np.abs(sick.data - head.data)[inside].mean()
    after = np.abs(found.t1w.data - head.data)[inside].mean()
    assert after < 0.15 * before
    assert np.corrcoef(found.t1w.data[inside], head.data[inside])[0, 1] > 0.8
    # and not what is on the same side in the mirror image of an untouched place
    far = ~(ball(head, LEFT, RADIUS_MM + 3.5).data > 0.5) & np.isfinite(broken)
    np.testing.assert_array_equal(found.t1w.data[far], sick.data[far])


def test_a_side_that_is_darker_is_filled_as_bright_as_its_surroundings():
    head = symmetric_head(grid(3.0))
    mask = head.data > 10
    x = head.grid.points_ras()[..., 0]
    head = head.like((head.data * np.where(x < 0, 0.8, 1.0)).astype(np.float32))
    lesion = ball(head, LEFT)
    inside = lesion.data > 0.5
    found = fill_lesion(sicken(head, lesion), mask, lesion, "mirror")
    assert found.t1w.data[inside].mean() == pytest.approx(head.data[inside].mean(), rel=0.04)


def test_a_lesion_of_both_sides_is_filled_with_white_matter():
    head = symmetric_head(grid(3.0))
    mask = head.data > 10
    right = (-LEFT[0], *LEFT[1:])
    lesion = head.like(np.maximum(ball(head, LEFT).data, ball(head, right).data))
    found = fill_lesion(sicken(head, lesion), mask, lesion, "mirror")
    assert found.mirrored_share < 0.1
    assert found.t1w.data[(lesion.data > 0.5) & mask].mean() == pytest.approx(T1W[2], rel=0.05)


def test_a_lesion_that_brain_extraction_cut_off_is_brain_again():
    head = symmetric_head(grid(3.0))
    lesion = ball(head, (-38.0, 12.0, 8.0))
    brain = head.data > 10
    cut = brain & ~(lesion.data > 0.5)
    found = fill_lesion(sicken(head, lesion), cut, lesion, "mirror")
    lost = brain & ~cut
    assert found.mask[lost].mean() > 0.9
    assert not (found.mask & ~brain).sum() > 0.02 * lost.sum()


def test_white_matter_is_as_bright_and_noisy_as_it_is_around_the_lesion():
    head = paint(grid(2.0), T1W, noise=2.0)
    shading = 1.0 + 0.004 * head.grid.points_ras()[..., 1]
    head = head.like((head.data * shading).astype(np.float32))
    mask = tissue(head.grid).data > 0
    lesion = ball(head, (-15, 20, 0), 8.0)
    inside = lesion.data > 0.5
    sick = sicken(head, lesion)
    found = fill_lesion(sick, mask, lesion, "white", seed=1)
    filled = found.t1w.data[inside]
    assert filled.mean() == pytest.approx((T1W[2] * shading[inside]).mean(), rel=0.02)
    assert 1.0 < (filled - T1W[2] * shading[inside]).std() < 4.0
    assert found.mirrored_share == 0
    np.testing.assert_array_equal(found.t1w.data[~inside], sick.data[~inside])
    again = fill_lesion(sick, mask, lesion, "white", seed=1)
    np.testing.assert_array_equal(again.t1w.data, found.t1w.data)


def test_the_map_to_the_mirror_image_is_found_for_a_turned_head():
    turned = motion((0, 0, 25))
    where = grid(3.0)
    head = symmetric_head(where, turned)
    mask = head.data > 10
    centre = turned.inverse().map_points(np.array([LEFT]))[0]
    lesion = ball(head, centre)
    inside = (lesion.data > 0.5) & mask
    found = fill_lesion(sicken(head, lesion), mask, lesion, "mirror")
    assert np.corrcoef(found.t1w.data[inside], head.data[inside])[0, 1] > 0.8


@pytest.mark.parametrize(
    ("mask_of", "message"),
    [
        (lambda head: np.zeros(head.shape, np.float32), "lesion mask is empty"),
        (lambda head: np.full(head.shape, np.nan, np.float32), "lesion mask is empty"),
        (lambda head: np.ones(head.shape, np.float32), "not inverted"),
        (lambda head: ball(head, (70, 70, 70), 6.0).data, "nothing to fill"),
    ],
    ids=["empty", "NaN", "everything", "outside"],
)
@pytest.mark.parametrize("how", ["mirror", "white"])
def test_a_mask_that_cannot_be_filled_is_refused(how, mask_of, message):
    head = symmetric_head(grid(3.0))
    lesion = Volume(mask_of(head), head.affine)
    with pytest.raises(InputError, match=message):
        fill_lesion(head, head.data > 10, lesion, how)
