"""talairach.xfm: MINC's linear transform, in RAS."""

import numpy as np
import pytest

from deepprep.registration.talairach import format_xfm, parse_xfm
from deepprep.registration.transforms import Affine


def test_text_is_that_of_minc():
    matrix = np.eye(4)
    matrix[:3, 3] = [1.5, -2, 3]
    lines = format_xfm(Affine(matrix)).splitlines()
    assert lines[0] == "MNI Transform File"
    assert lines[-4:-1] == [
        "Linear_Transform =",
        "1.000000000 0.000000000 0.000000000 1.500000000",
        "0.000000000 1.000000000 0.000000000 -2.000000000",
    ]
    assert lines[-1].endswith("3.000000000;")


def test_round_trip():
    matrix = np.eye(4)
    matrix[:3] += np.random.default_rng(0).normal(size=(3, 4))
    read = parse_xfm(format_xfm(Affine(matrix)))
    np.testing.assert_allclose(read.matrix, matrix, atol=1e-8)


def test_another_file_is_refused():
    with pytest.raises(ValueError, match="12 numbers"):
        parse_xfm("MNI Transform File\nTransform_Type = Grid_Transform;\n")
