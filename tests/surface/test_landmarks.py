"""Nearness to structures beside the cortex."""

import nibabel as nib
import numpy as np
import pytest

from deepprep.data.surface_atlases import average_landmarks, fsaverage_sphere
from deepprep.image.volume import Volume
from deepprep.surface.landmarks import REACH_MM, nearness

OBLIQUE = nib.affines.from_matvec(
    np.array([[0.0, -1.6, 0.0], [0.9, 0.0, 0.3], [0.3, 0.0, -0.9]]), [20.0, -10.0, 5.0]
)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.0, 1.0, 1.0]), OBLIQUE])
def test_falls_with_the_distance_in_mm(affine: np.ndarray) -> None:
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[3, 4, 5], labels[9, 2, 1] = 17, 18
    hippocampus = nib.affines.apply_affine(affine, (3, 4, 5))
    away = np.array([0.0, 3.0, 4.0])
    points = np.stack([hippocampus, hippocampus + away])
    found = nearness(points, Volume(labels, affine), "left")
    np.testing.assert_allclose(found[:, 0], [1.0, np.exp(-5.0 / REACH_MM)], rtol=1e-9)
    amygdala = nib.affines.apply_affine(affine, (9, 2, 1))
    expected = np.exp(-np.linalg.norm(points - amygdala, axis=1) / REACH_MM)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-9)


def test_each_side_has_its_own() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1, 4, 4], labels[7, 4, 4] = 17, 53
    points = np.array([[1.0, 4.0, 4.0]])
    both = {s: nearness(points, Volume(labels, np.eye(4)), s)[0] for s in ("left", "right")}
    assert both["left"][0] == 1.0 and both["right"][0] == pytest.approx(np.exp(-6.0 / REACH_MM))
    assert np.isnan(both["left"][1]) and np.isnan(both["right"][1])


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_average_is_highest_in_the_medial_temporal_lobe(hemi: str) -> None:
    values = average_landmarks(hemi)
    assert values.shape == (fsaverage_sphere(5).n_vertices, 2)
    # beside both structures, far from both: white surface of fsaverage, as nilearn has it
    from nilearn.datasets import fetch_surf_fsaverage

    side = {"lh": "left", "rh": "right"}[hemi]
    points = nib.load(fetch_surf_fsaverage("fsaverage5")[f"white_{side}"]).darrays[0].data
    outward = -1.0 if hemi == "lh" else 1.0
    for column in values.T:
        x, y, z = points[column > 0.8].mean(axis=0)
        assert 12 < outward * x < 35 and -45 < y < 5 and -35 < z < 0
    assert values[points[:, 2] > 40].max() < 0.02
