"""Pictures of surfaces."""

import numpy as np

from deepprep.reports import surface_views as views
from deepprep.surface.mesh import Mesh
from tests.surface.shapes import ball

WHITE = np.ones(3)


def _picture(colours, side="left", view="lateral", stretch=(1.0, 1.0, 1.0)):
    sphere = ball(4, 40.0)
    return views.render(
        sphere.moved(sphere.vertices * stretch), colours(sphere), views.view_of(side, view)
    )


def _front_is_bright(mesh: Mesh) -> np.ndarray:
    return np.where(mesh.vertices[:, 1:2] > 0, WHITE, 0.1)


def test_a_left_hemisphere_looks_to_the_left_and_a_right_one_to_the_right():
    for side, view, bright_left in (
        ("left", "lateral", True),
        ("right", "lateral", False),
        ("left", "medial", False),
        ("right", "medial", True),
    ):
        picture = _picture(_front_is_bright, side, view).mean(axis=(0, 2))
        middle = views.WIDTH_PX // 2
        assert (picture[:middle].sum() > 3 * picture[middle:].sum()) == bright_left


def test_up_is_up_and_the_near_side_hides_the_far_one():
    upper = _picture(lambda m: np.where(m.vertices[:, 2:] > 0, WHITE, 0.1)).mean(axis=(1, 2))
    middle = views.HEIGHT_PX // 2
    assert upper[:middle].sum() > 3 * upper[middle:].sum()
    near = _picture(lambda m: np.where(m.vertices[:, :1] < 0, WHITE, 0.0))
    far = _picture(lambda m: np.where(m.vertices[:, :1] > 0, WHITE, 0.0))
    assert near.mean() > 50 * max(far.mean(), 1e-3)


def test_the_surface_fills_the_picture_and_keeps_its_proportions():
    picture = _picture(lambda m: np.ones((m.n_vertices, 3)), stretch=(1, 1, 0.5)).max(axis=2) > 0
    rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert width > 0.9 * views.WIDTH_PX
    assert np.isclose(width / height, 2.0, rtol=0.03)
    # an ellipse without holes
    assert np.isclose(picture.sum(), np.pi / 4 * width * height, rtol=0.02)


def test_crowns_are_light_and_parcels_have_their_colours():
    sulc = np.linspace(-5, 5, 101)
    grey = views.folding_grey(sulc)
    assert (np.diff(grey[:, 0]) < 0).all()
    colours = views.parcel_colours(
        np.r_[np.zeros(50, int), np.ones(51, int)], [[0, 0, 0, 0], [200, 0, 0, 0]], sulc
    )
    assert np.allclose(colours[:50], grey[:50])
    assert (colours[50:, 0] > 0.3).all() and (colours[50:, 1:] == 0).all()
