"""Files of transforms, checked by applying them with SimpleITK and nitransforms."""

import numpy as np
import pytest
import SimpleITK as sitk

from deepprep.errors import InputError
from deepprep.registration.itk import read_affine, read_composite, write_affine, write_composite
from deepprep.registration.transforms import Affine, Chain, Displacement

RNG = np.random.default_rng(5)


def some_affine():
    matrix = np.eye(4)
    matrix[:3] += RNG.normal(scale=0.1, size=(3, 4))
    matrix[:3, 3] = [4.0, -9.0, 17.0]
    return Affine(matrix)


def some_field(shape=(7, 8, 9)):
    angle = 0.2
    affine = np.eye(4)
    affine[:3, :3] = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    ) @ np.diag([-1.5, 2.0, 2.5])
    affine[:3, 3] = [10, -20, 30]
    return Displacement(RNG.normal(size=(*shape, 3)), affine)


def points_within(field, n=200):
    """Points on the lattice, between voxels, and a little beyond the border."""
    voxels = RNG.uniform(-1.2, np.array(field.grid.shape) + 0.2, size=(n, 3))
    return voxels @ field.affine[:3, :3].T + field.affine[:3, 3]


def by_simpleitk(path, points):
    transform = sitk.ReadTransform(str(path))
    lps = points * [-1, -1, 1]
    return np.array([transform.TransformPoint(p) for p in lps]) * [-1, -1, 1]


def test_affine_text_is_what_simpleitk_applies(tmp_path):
    affine, points = some_affine(), RNG.normal(size=(20, 3)) * 60
    path = write_affine(tmp_path / "x.txt", affine)
    np.testing.assert_allclose(by_simpleitk(path, points), affine.map_points(points), atol=1e-9)


def test_affine_text_is_what_nitransforms_applies(tmp_path):
    from nitransforms.linear import load

    affine, points = some_affine(), RNG.normal(size=(20, 3)) * 60
    path = write_affine(tmp_path / "x.txt", affine)
    # nitransforms works in single precision
    np.testing.assert_allclose(
        load(path, fmt="itk").map(points), affine.map_points(points), atol=1e-4
    )


def test_affine_text_round_trip(tmp_path):
    affine = some_affine()
    np.testing.assert_allclose(
        read_affine(write_affine(tmp_path / "x.txt", affine.matrix)).matrix, affine.matrix
    )


def test_affine_with_a_centre_is_read(tmp_path):
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((np.eye(3) + RNG.normal(scale=0.1, size=(3, 3))).ravel())
    transform.SetCenter((3.0, -5.0, 7.0))
    transform.SetTranslation((1.0, 2.0, 3.0))
    sitk.WriteTransform(transform, str(tmp_path / "x.txt"))
    points = RNG.normal(size=(20, 3)) * 60
    np.testing.assert_allclose(
        read_affine(tmp_path / "x.txt").map_points(points),
        by_simpleitk(tmp_path / "x.txt", points),
        atol=1e-9,
    )


def test_text_that_is_no_transform_names_the_file(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(InputError, match=r"x\.txt"):
        read_affine(tmp_path / "x.txt")


@pytest.mark.parametrize("order", ["field first", "affine first", "three"])
def test_composite_is_what_simpleitk_applies(tmp_path, order):
    affine, field = some_affine(), some_field()
    steps = {
        "field first": [field, affine],
        "affine first": [affine, field],
        "three": [affine, field, some_affine()],
    }[order]
    points = points_within(field)
    if order != "field first":
        points = affine.inverse().map_points(points)
    path = write_composite(tmp_path / "x.h5", steps)
    np.testing.assert_allclose(
        by_simpleitk(path, points), Chain(steps).map_points(points), atol=2e-5
    )


def test_composite_is_what_nitransforms_applies(tmp_path):
    from nitransforms.manip import load

    affine, field = some_affine(), some_field()
    path = write_composite(tmp_path / "x.h5", [field, affine])
    # nitransforms interpolates by cubic splines: compare on voxel centres
    voxels = RNG.integers(0, field.grid.shape, size=(50, 3))
    points = voxels @ field.affine[:3, :3].T + field.affine[:3, 3]
    np.testing.assert_allclose(
        load(path, fmt="itk").map(points), Chain([field, affine]).map_points(points), atol=1e-3
    )


def test_composite_round_trip_keeps_the_order(tmp_path):
    affine, field = some_affine(), some_field()
    chain = read_composite(write_composite(tmp_path / "x.h5", Chain([field, affine])))
    assert [type(step) for step in chain.steps] == [Displacement, Affine]
    np.testing.assert_allclose(chain.steps[0].field, field.field)
    np.testing.assert_allclose(chain.steps[0].affine, field.affine)
    np.testing.assert_allclose(chain.steps[1].matrix, affine.matrix)


def test_composite_written_by_simpleitk_is_read(tmp_path):
    affine, field = some_affine(), some_field()
    write_composite(tmp_path / "x.h5", [field, affine])
    sitk.WriteTransform(sitk.ReadTransform(str(tmp_path / "x.h5")), str(tmp_path / "y.h5"))
    points = points_within(field)
    np.testing.assert_allclose(
        read_composite(tmp_path / "y.h5").map_points(points),
        Chain([field, affine]).map_points(points),
        atol=2e-5,
    )


def test_more_than_nine_steps_keep_their_order(tmp_path):
    steps = [some_affine() for _ in range(12)]
    point = np.ones((1, 3))
    np.testing.assert_allclose(
        read_composite(write_composite(tmp_path / "x.h5", steps)).map_points(point),
        Chain(steps).map_points(point),
    )


def test_same_maps_give_the_same_bytes(tmp_path):
    field = some_field()
    a = write_composite(tmp_path / "a.h5", [field])
    b = write_composite(tmp_path / "b.h5", [field])
    assert a.read_bytes() == b.read_bytes()


def test_sheared_lattice_is_refused(tmp_path):
    affine = np.eye(4)
    affine[0, 1] = 0.5
    with pytest.raises(ValueError, match="shear"):
        write_composite(tmp_path / "x.h5", [Displacement(np.zeros((2, 2, 2, 3)), affine)])
    assert list(tmp_path.iterdir()) == []


def test_broken_composite_names_the_file(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"x\.h5"):
        read_composite(tmp_path / "x.h5")
