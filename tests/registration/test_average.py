"""Averages of several scans of one head."""

from functools import cache

import numpy as np
import pytest

from deepprep.errors import InputError
from deepprep.registration.average import robust_average
from tests.registration.heads import T1W, brain_points, error_mm, grid, motion, paint

MOTIONS = [motion(), motion((5, 0, -3), (4, -2, 3)), motion((-2, 4, 3), (-3, 5, 1))]


@cache
def scans(n=3, gains=(1.0, 1.0, 1.0)):
    return [
        paint(grid(3.0), tuple(g * v for v in T1W), m.inverse(), noise=2.0, noise_seed=k)
        for k, (m, g) in enumerate(zip(MOTIONS[:n], gains))
    ]


def test_single_scan_is_returned_as_it_is():
    scan = scans(1)[0]
    average, maps = robust_average([scan])
    np.testing.assert_array_equal(average.data, scan.data)
    assert len(maps) == 1 and np.array_equal(maps[0].matrix, np.eye(4))


@pytest.mark.parametrize("n", [2, 3])
def test_maps_between_scans_are_right_and_no_scan_is_special(n):
    average, maps = robust_average(scans(n, gains=(1.0, 1.5, 0.8)))
    for k in range(1, n):
        # scan 0 -> average -> scan k
        assert error_mm(maps[k] @ maps[0].inverse(), MOTIONS[k]).mean() < 0.3
    centre = brain_points().mean(axis=0)[None]
    shifts = [m.map_points(centre) - centre for m in maps]
    np.testing.assert_allclose(np.mean(shifts, axis=0), 0, atol=0.3)
    assert all(np.linalg.norm(s) > 0.5 for s in shifts)
    assert average.grid.same_as(scans(1)[0].grid)


def test_in_the_space_of_one_scan_that_scan_is_not_interpolated():
    halfway = robust_average(scans(2))[1]
    average, maps = robust_average(scans(2), in_space_of=1)
    np.testing.assert_array_equal(maps[1].matrix, np.eye(4))
    assert error_mm(maps[0], halfway[0] @ halfway[1].inverse()).max() < 1e-6
    # scaled to a common median, then the mean of two
    one, both = scans(2)[1].data, average.data
    assert np.corrcoef(one.ravel(), both.ravel())[0, 1] > 0.98


def test_order_of_the_scans_does_not_matter():
    there = robust_average(scans(2))[1]
    back = robust_average(scans(2)[::-1])[1]
    assert error_mm(there[0], back[1]).mean() < 0.15


def test_one_spoilt_scan_does_not_spoil_the_median():
    spoilt = [scan.like(scan.data.copy()) for scan in scans()]
    spoilt[2].data[18:22, 18:25, 18:25] = 1000
    average, _ = robust_average(spoilt)
    assert average.data.max() < 250


def test_no_scan_is_refused():
    with pytest.raises(InputError, match="no image"):
        robust_average([])
