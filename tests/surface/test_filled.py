"""What lies inside the white surface: a head of boxes with everything in it."""

import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.surface.filled import fill_hemisphere


def box_head() -> np.ndarray:
    """Left is at low x: cortex around white matter, deep grey, callosum, stem, cerebellum."""
    head = np.zeros((60, 40, 40), dtype=np.uint8)
    head[3:29, 5:35, 5:35] = 3
    head[6:29, 8:32, 8:32] = 2
    head[31:57, 5:35, 5:35] = 42
    head[31:54, 8:32, 8:32] = 41
    head[22:29, 10:30, 12:22] = 10
    head[20:29, 10:30, 23:25] = 4
    head[26:29, 10:30, 8:12] = 28
    head[31:34, 10:30, 8:12] = 60
    head[29:31, 10:30, 12:22] = 14
    head[29:31, 10:30, 26:30] = 251
    head[10:20, 12:28, 8:12] = 17
    head[10:20, 12:28, 12:13] = 5
    head[24:36, 14:26, 1:8] = 16
    return head


def filled(data: np.ndarray, side: str) -> np.ndarray:
    result = fill_hemisphere(Volume(data, np.eye(4)), side)
    out = np.zeros(data.shape, dtype=bool)
    out[result.box] = result.inside
    return out


def test_inside_are_white_matter_deep_grey_ventricle_and_half_the_callosum() -> None:
    head = box_head()
    left = filled(head, "left")
    for label in (2, 4, 10, 28):
        assert left[head == label].all()
    assert left[29, 10:30, 26:30].all() and not left[30, 10:30, 26:30].any()


def test_outside_are_cortex_hippocampus_inferior_horn_third_ventricle_and_stem() -> None:
    head = box_head()
    left = filled(head, "left")
    for label in (0, 3, 5, 14, 16, 17, 41, 42, 60):
        assert not left[head == label].any()


def test_sides_share_no_voxel_and_mirror_each_other() -> None:
    head = box_head()
    left, right = filled(head, "left"), filled(head, "right")
    assert not (left & right).any()
    assert right[30, 10:30, 26:30].all()
    swap = np.zeros(256, dtype=np.uint8)
    swap[[0, 2, 3, 41, 42, 4, 10, 28, 60, 14, 251, 16]] = [
        0,
        41,
        42,
        2,
        3,
        43,
        49,
        60,
        28,
        14,
        251,
        16,
    ]
    swap[[17, 5]] = [53, 44]
    np.testing.assert_array_equal(filled(swap[head][::-1], "right"), left[::-1])


def test_a_gap_between_deep_structures_is_closed_and_a_sulcus_is_not() -> None:
    head = box_head()
    head[24:26, 12:20, 22:23] = 0
    head[24:26, 12:20, 21:22] = 24
    head[6:12, 17:25, 5:35] = 3
    head[6:12, 20:22, 5:35] = 0
    left = filled(head, "left")
    assert left[24:26, 12:20, 21:23].all()
    assert not left[6:12, 20:22, 15:30].any()


def test_hypointensities_go_to_the_nearer_side() -> None:
    head = box_head()
    head[15:17, 15:17, 25:27] = 77
    head[45:47, 15:17, 25:27] = 77
    assert filled(head, "left")[15:17, 15:17, 25:27].all()
    assert not filled(head, "left")[45:47].any()
    assert filled(head, "right")[45:47, 15:17, 25:27].all()


def test_intensities_mislead_in_nuclei_and_across_the_mid_line() -> None:
    result = fill_hemisphere(Volume(box_head(), np.eye(4)), "left")
    inner = box_head()[result.box]
    for label in (2, 3, 0):
        assert result.plain[inner == label].all()
    for label in (4, 10, 17, 16, 41, 42, 251):
        assert not result.plain[inner == label].any()


@pytest.mark.parametrize(("label", "name"), [(2, "white matter"), (3, "cortex")])
def test_a_side_without_white_matter_or_cortex_is_named(label: int, name: str) -> None:
    head = box_head()
    head[head == label] = 0
    with pytest.raises(ValueError, match=f"left cerebral {name}"):
        filled(head, "left")
