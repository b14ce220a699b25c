"""Measures of parcels and aparc.stats."""

import io
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from deepprep.surface.curvature import principal_curvatures
from deepprep.surface.measures import vertex_volumes
from deepprep.surface.surface_stats import (
    COLUMNS,
    format_aparc_stats,
    format_table,
    measure_parcels,
    parse_aparc_stats,
    table_sidecar,
)
from tests.surface.shapes import ball

NAMES = ("unknown", "front", "empty", "back")


def _hemisphere(hemi: str, radius: float, thickness: float):
    sphere = ball(5, radius)
    side = -40.0 if hemi == "lh" else 40.0
    white = sphere.moved(sphere.vertices + [side, 0, 0])
    pial = sphere.moved(sphere.vertices * (1 + thickness / radius) + [side, 0, 0])
    labels = np.where(sphere.vertices[:, 1] > 0, 1, 3)
    labels[sphere.vertices[:, 2] < -0.9 * radius] = 0
    k1, k2 = principal_curvatures(white)
    return measure_parcels(
        hemi, white, pial, np.full(sphere.n_vertices, thickness), k1, k2, labels, NAMES
    )


def test_curvature_of_a_ball_and_a_saddle():
    k1, k2 = principal_curvatures(ball(5, 25.0))
    assert np.allclose(k1, -1 / 25, rtol=0.03) and np.allclose(k2, -1 / 25, rtol=0.03)
    long = ball(5, 25.0)
    k1, k2 = principal_curvatures(long.moved(long.vertices * [1, 1, 3.0]))
    equator = np.abs(long.vertices[:, 2]) < 1
    assert np.allclose(k1[equator], -1 / 25, rtol=0.06)
    assert np.allclose(k2[equator], -25.0 / 75**2, rtol=0.1)
    assert (principal_curvatures(long.moved(long.vertices * [1, 1, 3.0]))[0] < 0).all()


def test_volume_between_two_balls():
    white = ball(5, 30.0)
    volumes = vertex_volumes(white, white.moved(white.vertices * 1.1))
    expected = 4 / 3 * np.pi * (33.0**3 - 30.0**3)
    assert (volumes > 0).all()
    assert np.isclose(volumes.sum(), expected, rtol=0.01)


def test_measures_of_half_balls():
    stats = _hemisphere("lh", 30.0, 3.0)
    assert [p.name for p in stats.parcels] == ["front", "back"]
    front = stats.parcels[0]
    whole = 4 * np.pi * 900
    assert np.isclose(front.area_mm2, 0.475 * whole, rtol=0.02)
    assert np.isclose(front.thickness_mm, 3.0) and np.isclose(front.thickness_sd_mm, 0.0)
    assert np.isclose(front.mean_curvature, 1 / 30, rtol=0.03)
    assert np.isclose(front.gaussian_curvature, 1 / 900, rtol=0.06)
    assert np.isclose(front.curvature_index, 0.475, rtol=0.05)
    assert front.folding_index < 0.03
    assert np.isclose(stats.white_area_mm2, sum(p.area_mm2 for p in stats.parcels))
    assert stats.n_vertices == sum(p.n_vertices for p in stats.parcels)


def test_each_hemisphere_is_measured_on_its_own_surface():
    # DeepPrep 25.1 measured the right hemisphere's parcels on the left surface.
    left, right = _hemisphere("lh", 30.0, 3.0), _hemisphere("rh", 36.0, 2.0)
    text = {
        s.hemi: format_aparc_stats(s, "sub-01", f"{s.hemi}.aparc.annot", "1.0")
        for s in (left, right)
    }
    for stats, thickness, radius in ((left, 3.0, 30.0), (right, 2.0, 36.0)):
        header, rows = parse_aparc_stats(text[stats.hemi])
        assert header["hemi"] == stats.hemi
        assert header["AnnotationFile"] == f"{stats.hemi}.aparc.annot"
        assert np.isclose(float(header["MeanThickness"]), thickness)
        assert np.isclose(rows[0].area_mm2, 0.475 * 4 * np.pi * radius**2, rtol=0.02)
        assert rows[0].thickness_mm == thickness
    with pytest.raises(ValueError, match="not an annotation of rh"):
        format_aparc_stats(right, "sub-01", "lh.aparc.annot", "1.0")


def test_the_file_reads_as_a_table_and_twice_the_same():
    stats = _hemisphere("lh", 30.0, 3.0)
    text = format_aparc_stats(stats, "sub-01", "lh.aparc.annot", "1.0")
    columns = [line for line in text.splitlines() if line.startswith("# ColHeaders")][0].split()[2:]
    assert columns == [c[0] for c in COLUMNS]
    table = pd.read_csv(io.StringIO(text), comment="#", sep=r"\s+", names=columns)
    assert list(table.StructName) == ["front", "back"]
    assert table.NumVert.sum() == stats.n_vertices
    assert text == format_aparc_stats(stats, "sub-01", "lh.aparc.annot", "1.0")
    # readers such as freesurfer-stats refuse a file whose time of creation is none
    created = text.split("# CreationTime ")[1].split()[0]
    assert datetime.strptime(created, "%Y/%m/%d-%H:%M:%S-%Z").year == 1970


def test_table_over_both_hemispheres():
    pair = [_hemisphere("lh", 30.0, 3.0), _hemisphere("rh", 36.0, 2.0)]
    table = pd.read_csv(io.StringIO(format_table(pair)), sep="\t")
    assert list(table.hemisphere) == ["L", "L", "R", "R"]
    assert list(table.name) == ["front", "back", "front", "back"]
    right = pair[1].parcels[0]
    assert np.isclose(table.area_mm2[2], right.area_mm2, rtol=1e-5)
    assert table.n_vertices[2] == right.n_vertices
    assert set(table.columns) == set(table_sidecar())


def test_arrays_that_do_not_fit_are_refused():
    sphere = ball(3)
    values = np.zeros(sphere.n_vertices)
    with pytest.raises(ValueError, match="thickness for a surface"):
        measure_parcels("lh", sphere, sphere, values[:3], values, values, values, NAMES)
    with pytest.raises(ValueError, match="lh or rh"):
        measure_parcels("left", sphere, sphere, values, values, values, values, NAMES)
