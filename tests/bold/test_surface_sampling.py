"""BOLD series on surfaces."""

import numpy as np
import pytest

from deepprep.bold.surface_sampling import DEPTHS, sample_on_surface
from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine
from tests.surface.shapes import ball

SLOPE = np.array([1.0, -2.0, 3.0])


def _series(affine, shape=(24, 22, 20), shift=((0, 0, 0),) * 3):
    """Frames that hold a linear function of place, the head moved by ``shift[t]`` mm."""
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    frames = [100.0 + (t + 1) * ((ras - s) @ SLOPE) for t, s in enumerate(shift)]
    return Volume(np.stack(frames, axis=-1).astype(np.float32), affine)


def _surfaces(centre=(2.0, -3.0, 4.0)):
    sphere = ball(3, 12.0)
    return (sphere.moved(sphere.vertices * k + centre) for k in (1.0, 1.25))


@pytest.mark.parametrize(
    "affine",
    [
        np.diag([3.0, 3.0, 3.0, 1.0]) + np.pad(np.array([[-34, -35, -26]]).T, ((0, 1), (3, 0))),
        # oblique, left-handed, anisotropic
        np.array(
            [[-2.8, 0.4, 0.0, 36.0], [0.5, 2.9, 0.6, -44.0], [0.1, -0.5, 3.3, -24.0], [0, 0, 0, 1]]
        ),
    ],
)
def test_a_linear_image_is_read_in_the_middle_of_the_cortex(affine):
    white, pial = _surfaces()
    found = sample_on_surface(_series(affine), None, white, pial)
    middle = (white.vertices + pial.vertices) / 2
    expected = np.stack([100 + (t + 1) * (middle @ SLOPE) for t in range(3)], axis=1)
    assert np.isclose(np.mean(DEPTHS), 0.5)
    assert found.shape == (white.n_vertices, 3)
    # near the last slice the spline feels the border
    assert np.abs(found - expected).max() < 0.06


def test_motion_and_coregistration_move_the_points():
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -34, -32, -28
    shift = np.array([[0.0, 0, 0], [1.5, 0, -1], [0, 2, 0.5]])
    motion = np.broadcast_to(np.eye(4), (3, 4, 4)).copy()
    motion[:, :3, 3] = shift
    to_bold = np.eye(4)
    to_bold[:3, 3] = -2, 1, 0.5
    white, pial = _surfaces()
    found = sample_on_surface(_series(affine, shift=shift), motion, white, pial, Affine(to_bold))
    middle = (white.vertices + pial.vertices) / 2 + to_bold[:3, 3]
    expected = np.stack([100 + (t + 1) * (middle @ SLOPE) for t in range(3)], axis=1)
    # near the last slice the spline feels the border
    assert np.abs(found - expected).max() < 0.06


def test_what_lies_outside_is_zero_and_half_outside_is_the_mean_of_the_rest():
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    affine[:3, 3] = -34, -32, -28
    series = _series(affine)
    series = series.like(np.full_like(series.data, 7.0))
    white, pial = _surfaces(centre=(36.0, 0.0, 0.0))
    found = sample_on_surface(series, None, white, pial)
    x = np.stack([white.vertices[:, 0], pial.vertices[:, 0]])
    edge = affine[0, 3] + 3 * 23 + 1.5
    assert np.all(found[x.min(axis=0) > edge + 0.1] == 0)
    assert np.allclose(found[x.min(axis=0) < edge - 0.1], 7.0, atol=1e-3)
    assert (x.min(axis=0) > edge + 0.1).any()


def test_wrong_number_of_motion_matrices_is_refused():
    white, pial = _surfaces()
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    with pytest.raises(ValueError, match="motion affines"):
        sample_on_surface(_series(affine), np.zeros((2, 4, 4)), white, pial)
