"""Placement on a folded hemisphere whose surfaces are known (benchmarks/surface_phantom.py)."""

import numpy as np
import pytest

from benchmarks.surface_phantom import FoldedHemisphere, render
from deepprep.surface.reconstruct import Hemisphere, reconstruct_hemisphere
from deepprep.surface.self_intersection import count_self_intersections


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
