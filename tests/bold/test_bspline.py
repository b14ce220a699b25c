"""B-spline coefficients and their padding."""

import numpy as np
import pytest
from scipy import ndimage

from deepprep.bold.bspline import spline_coefficients, spline_value


def _sample(coefs: np.ndarray, point: tuple[float, float, float]) -> float:
    strides = np.uintp(coefs.shape[1] * coefs.shape[2]), np.uintp(coefs.shape[2])
    return spline_value(coefs.ravel(), *strides, *(float(x) for x in point))


@pytest.mark.parametrize("shape", [(9, 8, 7), (5, 2, 3), (4, 6, 1)])
def test_values_equal_scipy_up_to_the_border(shape):
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    coefs = spline_coefficients(data)
    random = np.random.default_rng(1)
    points = [tuple(random.uniform(0, np.array(shape) - 1)) for _ in range(20)]
    points += [(0, 0, 0), tuple(np.array(shape) - 1)]
    for point in points:
        where = np.array(point, dtype=float)[:, None]
        expected = ndimage.map_coordinates(data.astype(float), where, order=3, mode="mirror")[0]
        assert _sample(coefs, point) == pytest.approx(expected, abs=1e-4)


def test_bad_values_count_as_zero():
    data = np.zeros((5, 5, 5), np.float32)
    data[2, 2, 2] = np.nan
    data[1, 1, 1] = np.inf
    assert (spline_coefficients(data) == 0).all()


def test_input_is_not_changed():
    data = np.full((4, 4, 4), np.nan, np.float32)
    spline_coefficients(data)
    assert np.isnan(data).all()
