"""Placement on a folded hemisphere whose surfaces are known (benchmarks/surface_phantom.py)."""

import numpy as np
import pytest

from benchmarks.surface_phantom import FoldedHemisphere, render
from deepprep.image.volume import Volume
from deepprep.surface.measures import white_pial_crossings
from deepprep.surface.pial_placement import PialLimits, place_pial
from deepprep.surface.reconstruct import Hemisphere, reconstruct_hemisphere
from deepprep.surface.self_intersection import count_self_intersections
from deepprep.surface.untangle import untangle_pial
from tests.surface.shapes import ball


def _folds(directions: np.ndarray) -> np.ndarray:
    return 2.0 * np.cos(8.0 * np.arccos(np.clip(directions[:, 2], -1, 1)))


SMALL = FoldedHemisphere(
    "small", _folds, lambda directions: np.full(len(directions), 2.5), radius_mm=22.0
)


@pytest.fixture(scope="module")
def small() -> Hemisphere:
    phantom = render([SMALL], noise=0.03)
    mask = phantom.labels.like((phantom.labels.data > 0).astype(np.uint8))
    return reconstruct_hemisphere("left", phantom.image, phantom.labels, mask)


def test_white_and_pial_lie_on_the_truth(small: Hemisphere) -> None:
    for mesh, distance in ((small.white, SMALL.white_distance), (small.pial, SMALL.pial_distance)):
        error_mm = np.abs(distance(mesh.vertices))
        assert error_mm.mean() < 0.10
        assert np.percentile(error_mm, 95) < 0.3


def test_surfaces_are_spheres_without_self_intersections(small: Hemisphere) -> None:
    for mesh in (small.white, small.pial):
        assert mesh.euler_number == 2 and mesh.is_closed
        assert count_self_intersections(mesh) == 0


def test_measures_of_the_phantom(small: Hemisphere) -> None:
    assert small.cortex.all()
    assert abs(small.overlays["thickness"].mean() - 2.5) < 0.1
    between = small.pial.enclosed_volume_mm3 - small.white.enclosed_volume_mm3
    assert abs(small.overlays["volume"].sum() / between - 1) < 0.01


def test_other_lattice_is_refused() -> None:
    phantom = render([SMALL], zoom_mm=3.0)
    moved = phantom.labels.affine.copy()
    moved[0, 3] += 1.0
    labels = type(phantom.labels)(phantom.labels.data, moved)
    with pytest.raises(ValueError, match="labels and the T1w"):
        reconstruct_hemisphere("left", phantom.image, labels, phantom.labels)


def _ball_in_fluid(fluid_mm: float) -> Volume:
    """White to 20 mm, cortex to 22.5 mm, then fluid, then something as bright as cortex."""
    fine = (np.arange(4 * 64) + 0.5) / 4 - 32
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(fine, fine, fine, indexing="ij", sparse=True)))
    tissue = np.select([radius < 20, radius < 22.5, radius < 22.5 + fluid_mm], [110, 80, 30], 80)
    data = tissue.reshape(64, 4, 64, 4, 64, 4).mean(axis=(1, 3, 5)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -31.5
    return Volume(data, affine)


@pytest.mark.parametrize(("fluid_mm", "off_mm"), [(8.0, 0.05), (1.0, 0.25)])
def test_pial_stops_before_fluid_wide_or_thin(fluid_mm: float, off_mm: float) -> None:
    image = _ball_in_fluid(fluid_mm)
    white = ball(5, 20.0)
    limits = PialLimits(
        image.like(np.full(image.shape, 30.0)), image.like(np.full(image.shape, 3.0))
    )
    pial = place_pial(white, image, limits, np.ones(white.n_vertices, bool))
    radius = np.linalg.norm(pial.vertices, axis=1)
    assert abs(radius.mean() - 22.5) < off_mm
    assert radius.max() < 22.5 + off_mm + 0.1


def test_pial_that_runs_through_white_goes_back_to_it() -> None:
    white = ball(4, 20.0)
    up = white.vertices[:, 2] / 20.0
    pial = white.moved(white.vertices * np.where(up > 0.9, 0.98, 1.1)[:, None])
    assert white_pial_crossings(white, pial) > 50
    apart, left = untangle_pial(pial, white)
    assert left == 0 and count_self_intersections(apart) == 0
    assert white_pial_crossings(white, apart) == 0
    far = up < 0.7
    np.testing.assert_array_equal(apart.vertices[far], pial.vertices[far])
