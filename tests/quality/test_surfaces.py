"""Measures and warnings of surfaces, and a hemisphere that goes through a file."""

import dataclasses

import numpy as np
import pytest

from deepprep.interfaces.hemisphere_files import keep_hemisphere, load_hemisphere
from deepprep.quality.surfaces import shown_measures, surface_metrics, surface_warnings
from deepprep.surface.mesh import Mesh
from deepprep.surface.reconstruct import Hemisphere

FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def hemisphere(side: str, thickness_mm: float = 2.5, area_mm2: float = 30_000.0) -> Hemisphere:
    mesh = Mesh(np.eye(4, 3) * (-10.0 if side == "left" else 10.0), FACES)
    overlays = {
        "thickness": np.array([thickness_mm, thickness_mm, thickness_mm, 0]),
        "area": np.array([area_mm2, area_mm2, area_mm2, 5e6]),
    }
    cortex = np.array([True, True, True, False])
    return Hemisphere(side, mesh, mesh, mesh, mesh, mesh, cortex, overlays, {"handles_cut": 3.0})


def both(**changes: float) -> tuple[dict, dict]:
    sides = {"L": hemisphere("left"), "R": hemisphere("right", **changes)}
    return sides, {side: h.qc for side, h in sides.items()}


def test_the_medial_wall_does_not_count():
    metrics = surface_metrics(*both())
    assert metrics["thickness_L_mm"] == 2.5
    assert metrics["white_area_R_cm2"] == 900.0
    assert metrics["handles_cut_L"] == 3.0
    assert shown_measures(metrics)["Mean thickness, mm"] == ("2.50", "2.50")
    assert surface_warnings(*both()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"thickness_mm": 1.2}, ["thickness of the right", "thickness differ"]),
        ({"area_mm2": 50_000.0}, ["surface of the right", "area differ"]),
        ({"area_mm2": 26_000.0}, ["area differ"]),
    ],
)
def test_what_is_unusual_is_said(changes, words):
    said = surface_warnings(*both(**changes))
    assert len(said) == len(words)
    for sentence, word in zip(said, words):
        assert word in sentence


def test_a_hemisphere_comes_back_from_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = hemisphere("right")
    made = dataclasses.replace(made, pial=made.white.moved(made.white.vertices * 1.2))
    back = load_hemisphere(str(keep_hemisphere(made, "hemi-R.npz")))
    assert (back.side, back.qc) == ("right", made.qc)
    np.testing.assert_array_equal(back.pial.vertices, made.pial.vertices)
    np.testing.assert_array_equal(back.white.faces, FACES)
    np.testing.assert_array_equal(back.cortex, made.cortex)
    np.testing.assert_array_equal(back.overlays["thickness"], made.overlays["thickness"])
