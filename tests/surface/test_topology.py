"""Homotopic correction: whatever goes in, a ball comes out, and little is changed."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.surface.simple_points import is_simple
from deepprep.surface.topology import correct_topology

FULL = (1 << 27) - 1


def bits(*voxels: tuple[int, int, int]) -> int:
    return sum(1 << (9 * (x + 1) + 3 * (y + 1) + z + 1) for x, y, z in voxels)


def euler_number_6(inside: np.ndarray) -> int:
    """Euler number of an object joined through faces in a background joined through edges."""
    f = np.pad(inside, 1)
    x, y, z = f[1:] & f[:-1], f[:, 1:] & f[:, :-1], f[:, :, 1:] & f[:, :, :-1]
    xy, yz, xz = x[:, 1:] & x[:, :-1], y[:, :, 1:] & y[:, :, :-1], x[:, :, 1:] & x[:, :, :-1]
    cubes = xy[:, :, 1:] & xy[:, :, :-1]
    # the ring of six voxels around two opposite corners of a cube is no hole: the background
    # does not pass through the corner
    eight = np.stack([
        f[i : i - 1 or None, j : j - 1 or None, k : k - 1 or None]
        for i in (0, 1) for j in (0, 1) for k in (0, 1)
    ])  # fmt: skip
    rings = sum((~eight[c] & ~eight[7 - c] & (eight.sum(axis=0) == 6)).sum() for c in range(4))
    faces = xy.sum() + yz.sum() + xz.sum()
    return int(f.sum() - x.sum() - y.sum() - z.sum() + faces + rings - cubes.sum())


def is_ball(level: np.ndarray) -> bool:
    """One piece (6), no cavity (18), Euler number 1."""
    inside = np.pad(level < 0, 1)
    outside = ndimage.label(~inside, ndimage.generate_binary_structure(3, 2))[1]
    return ndimage.label(inside)[1] == 1 and outside == 1 and euler_number_6(inside) == 1


def blob(shape: tuple[int, int, int], *boxes: tuple[slice, slice, slice]) -> np.ndarray:
    """Signed distance, in voxels, to a union of boxes."""
    inside = np.zeros(shape, dtype=bool)
    for box in boxes:
        inside[box] = True
    return _distance(inside)


def _distance(inside: np.ndarray) -> np.ndarray:
    outer = ndimage.distance_transform_edt(~inside)
    inner = ndimage.distance_transform_edt(inside)
    return np.where(inside, 0.5 - inner, outer - 0.5)


@pytest.mark.parametrize(
    ("neighbourhood", "simple"),
    [
        (bits((1, 0, 0)), True),  # grows a tip
        (0, False),  # a new piece
        (FULL, False),  # fills a cavity
        (FULL & ~bits((1, 0, 0)), True),  # fills a dent
        (FULL & ~bits((1, 1, 1)), False),  # a corner of background does not touch the centre
        (bits((1, 0, 0), (-1, 0, 0)), False),  # bridges two pieces
        (bits((1, 0, 0), (1, 1, 0), (0, 1, 0)), True),  # fills the corner of a bend
        (bits((1, 0, 0), (0, 1, 0)), False),  # joins two that touch by an edge only
        (FULL & ~bits((0, 0, 1), (0, 0, -1)), False),  # closes a tunnel
        # two of the six neighbours joined only by a detour that encloses a third
        (
            bits((0, 0, 1), (1, 0, 1), (1, 1, 1), (1, 1, 0), (1, 1, -1), (1, 0, -1), (0, 0, -1)),
            False,
        ),
    ],
)
def test_simple_points(neighbourhood: int, simple: bool) -> None:
    assert is_simple(neighbourhood) is simple


def test_simple_points_keep_euler_number_and_pieces_and_others_do_not() -> None:
    random = np.random.default_rng(0)
    for _ in range(300):
        block = np.zeros((7, 7, 7), dtype=bool)
        block[2:5, 2:5, 2:5] = random.random((3, 3, 3)) < random.uniform(0.2, 0.9)
        word = int((block[2:5, 2:5, 2:5].ravel() * (1 << np.arange(27))).sum())
        states = []
        for value in (True, False):
            block[3, 3, 3] = value
            outside = ndimage.label(~block, ndimage.generate_binary_structure(3, 2))[1]
            states.append((euler_number_6(block), ndimage.label(block)[1], outside))
        # an isolated block has no detours outside: local and global topology are the same
        if is_simple(word):
            assert states[0] == states[1]
        elif states[0] == states[1]:
            # may only happen when a handle or tunnel moves rather than appears
            assert states[0][0] != 1


def test_a_sound_level_set_is_left_alone() -> None:
    level = blob((12, 14, 16), (slice(3, 9), slice(4, 9), slice(2, 12)))
    corrected, report = correct_topology(level)
    np.testing.assert_array_equal(corrected, level.astype(np.float32))
    assert report.repairs == () and report.islands == report.cavities == 0
    assert report.inside_voxels == 6 * 5 * 10


def test_a_thin_bridge_between_two_banks_is_cut_where_it_is_thinnest() -> None:
    u_shape = [
        (slice(2, 22), slice(2, 8), slice(2, 8)),
        (slice(2, 8), slice(2, 8), slice(2, 30)),
        (slice(16, 22), slice(2, 8), slice(2, 30)),
        (slice(8, 16), slice(4, 6), slice(24, 26)),
    ]
    level = blob((24, 10, 32), *u_shape)
    level[12, 4:6, 24:26] = -0.1
    corrected, report = correct_topology(level)
    assert is_ball(corrected)
    assert report.count("cut") == 1 and report.count("fill") == 0
    changed = np.argwhere((corrected < 0) != (level < 0))
    assert (changed[:, 0] == 12).all() and len(changed) == 4


def test_a_small_hole_through_a_blade_is_filled_and_the_blade_not_slit() -> None:
    level = blob((30, 30, 12), (slice(2, 28), slice(2, 28), slice(4, 7)))
    level[14:16, 14, :] = np.abs(level[14:16, 14, :])
    corrected, report = correct_topology(level)
    assert is_ball(corrected)
    assert report.count("fill") == 1 and report.count("cut") == 0
    changed = np.argwhere((corrected < 0) != (level < 0))
    assert set(changed[:, 0]) <= {14, 15} and set(changed[:, 1]) == {14}


def test_islands_are_dropped_and_cavities_filled() -> None:
    level = blob(
        (20, 20, 30),
        (slice(2, 14), slice(2, 14), slice(2, 14)),
        (slice(2, 5), slice(2, 5), slice(20, 25)),
    )
    level[7:9, 7:9, 7:9] = 0.5
    corrected, report = correct_topology(level)
    assert is_ball(corrected)
    assert (report.islands, report.island_voxels) == (1, 45)
    assert (report.cavities, report.cavity_voxels) == (1, 8)
    assert report.inside_voxels == 12**3


@pytest.mark.parametrize("seed", range(6))
def test_noise_becomes_a_ball(seed: int) -> None:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(24, 20, 22))
    level = ndimage.gaussian_filter(noise, [0, 0.5, 1, 1.5, 2, 0.3][seed])
    level = level / level.std() - [0.5, 0, 0.5, 0, 1.5, -0.5][seed]
    assert not is_ball(level)
    corrected, report = correct_topology(level)
    assert is_ball(corrected)
    assert report.inside_voxels == (corrected < 0).sum()
    changed = (corrected < 0) != (level < 0)
    # less where a fill joins an island again, or a cut opens a cavity
    assert (
        0
        < changed.sum()
        <= (
            report.voxels("cut")
            + report.voxels("fill")
            + report.island_voxels
            + report.cavity_voxels
        )
    )


def test_an_object_at_the_border_of_the_lattice_is_one_too() -> None:
    corrected, _ = correct_topology(np.full((4, 5, 6), -1.0))
    assert (corrected < 0).all()


def test_the_same_input_gives_the_same_output() -> None:
    level = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(20, 20, 20)), 1.0)
    np.testing.assert_array_equal(correct_topology(level)[0], correct_topology(level.copy())[0])


def test_no_inside_and_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="no inside"):
        correct_topology(np.ones((3, 3, 3)))
    with pytest.raises(ValueError, match="not finite"):
        correct_topology(np.full((3, 3, 3), np.nan))
