"""Head-motion files: round trip, and the same map in SimpleITK and nitransforms."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from deepprep.errors import InputError
from deepprep.registration.itk_series import read_affine_series, write_affine_series


@pytest.fixture
def matrices() -> np.ndarray:
    out = np.tile(np.eye(4), (3, 1, 1))
    out[1, :3, 3] = 1.5, -2.0, 0.25
    out[2, :3, :3] = Rotation.from_euler("xyz", [3, -5, 8], degrees=True).as_matrix()
    return out


def test_series_survives_a_round_trip(tmp_path, matrices):
    path = write_affine_series(tmp_path / "hmc_xfm.txt", matrices)
    np.testing.assert_allclose(read_affine_series(path), matrices, atol=1e-12)


def test_nitransforms_maps_points_the_same_way(tmp_path, matrices):
    from nitransforms.linear import LinearTransformsMapping

    path = write_affine_series(tmp_path / "hmc_xfm.txt", matrices)
    loaded = LinearTransformsMapping.from_filename(path, fmt="itk")
    point = np.array([[10.0, -20.0, 30.0]])
    for matrix, other in zip(matrices, loaded.matrix):
        np.testing.assert_allclose((other @ [*point[0], 1])[:3], (matrix @ [*point[0], 1])[:3])


def test_a_shift_to_the_right_is_negative_in_itk(tmp_path):
    matrix = np.eye(4)
    matrix[0, 3] = 2.0
    text = write_affine_series(tmp_path / "a.txt", matrix[None]).read_text()
    numbers = [float(x) for x in text.split("Parameters: ")[1].split("\n")[0].split()]
    assert numbers[9:] == [-2.0, 0.0, 0.0]


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"bad\.txt is not a series"):
        read_affine_series(path)
