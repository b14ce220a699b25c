"""Mosaics: where things land in the picture, and that nothing outside the file is needed."""

import re
import xml.etree.ElementTree as ET

import nibabel as nib
import numpy as np
import pytest

from deepprep.image.volume import Volume
from deepprep.reports import figures, mosaic
from deepprep.reports.mosaic import (
    Contour,
    Layer,
    _legend_places,
    crop,
    grey_window,
    layout_around,
    sample_tiles,
    write_mosaic,
)

SVG = "{http://www.w3.org/2000/svg}"


def ball(affine, shape, centre_mm=(0.0, 0.0, 0.0), radius_mm=20.0):
    ijk = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    points = nib.affines.apply_affine(affine, ijk)
    inside = np.linalg.norm(points - centre_mm, axis=-1) <= radius_mm
    return Volume(inside.astype(np.float32), affine)


def centred(directions, zooms, shape):
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, float) @ np.diag(zooms)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def oblique():
    a, b = np.deg2rad(20), np.deg2rad(-13)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return x @ z


GRIDS = {
    "RAS": centred(np.eye(3), (2, 2, 2), (60, 60, 60)),
    "LAS": centred(np.diag([-1, 1, 1]), (2, 2, 2), (60, 60, 60)),
    "PSR": centred([[0, 0, 1], [-1, 0, 0], [0, 1, 0]], (2, 2, 2), (60, 60, 60)),
    "oblique": centred(oblique(), (2, 2, 2), (60, 60, 60)),
    "anisotropic": centred(np.eye(3), (1.5, 2, 4), (80, 60, 30)),
}


def grid_shape(name):
    return (80, 60, 30) if name == "anisotropic" else (60, 60, 60)


@pytest.mark.parametrize("name", GRIDS)
def test_left_is_left_front_is_up_whatever_the_grid(name):
    affine, shape = GRIDS[name], grid_shape(name)
    head = ball(affine, shape, radius_mm=40)
    # To the right (+x), to the front (+y), above (+z).
    spot = ball(affine, shape, centre_mm=(20, 15, 10), radius_mm=9)
    layout = layout_around(head, n_cuts=9)
    where = {}
    for view, expected in (("axial", 10), ("sagittal", 20), ("coronal", 15)):
        tiles = np.stack(sample_tiles(spot, layout, view))
        cut = tiles.sum(axis=(1, 2)).argmax()
        assert abs(layout.cuts[view][cut] - expected) <= 5
        rows, columns = np.nonzero(tiles[cut] > 0.5)
        where[view] = (
            layout.high[{"axial": 1, "sagittal": 2, "coronal": 2}[view]]
            - (rows.mean() + 0.5) * layout.step_mm,
            layout.low[{"axial": 0, "sagittal": 1, "coronal": 0}[view]]
            + (columns.mean() + 0.5) * layout.step_mm,
        )
    assert np.allclose(where["axial"], (15, 20), atol=1.5)
    assert np.allclose(where["sagittal"], (10, 15), atol=1.5)
    assert np.allclose(where["coronal"], (10, 20), atol=1.5)


def test_layout_follows_the_region_and_not_the_field_of_view():
    affine = GRIDS["RAS"]
    layout = layout_around(ball(affine, (60, 60, 60), centre_mm=(10, 0, -5), radius_mm=20))
    middle = (layout.low + layout.high) / 2
    assert np.allclose(middle, (10, 0, -5), atol=1.5)
    assert np.all(layout.high - layout.low < 2 * (20 + 9) + 5)


def test_empty_mask_shows_the_whole_field_of_view(tmp_path):
    affine = GRIDS["RAS"]
    empty = Volume(np.zeros((60, 60, 60), np.uint8), affine)
    layout = layout_around(empty)
    assert np.all(layout.low < -59) and np.all(layout.high > 59)
    figures.plot_dseg(ball(affine, (60, 60, 60)), empty, empty, tmp_path / "a.svg")
    ET.parse(tmp_path / "a.svg")


def test_contour_of_a_ball_has_its_radius(tmp_path):
    region = ball(GRIDS["RAS"], (60, 60, 60), radius_mm=30)
    layout = layout_around(region, n_cuts=1)
    layer = Layer(region, "x", (0, 1))
    write_mosaic(tmp_path / "a.svg", [layer], [Contour(region, "#f00", "ball")], layout, "t")
    path = next(ET.parse(tmp_path / "a.svg").iter(f"{SVG}path"))
    assert path.get("transform") == "scale(.1)"
    outlines = path.get("d").split("M")[1:]
    assert len(outlines) == 3  # one a view
    for outline in outlines:
        start, steps = outline.split("l")
        points = np.cumsum(np.array((start + " " + steps).split(), float).reshape(-1, 2), axis=0)
        diameter_mm = np.ptp(points, axis=0) / 10 * layout.step_mm
        assert np.allclose(diameter_mm, 60, atol=2.5)


def test_crop_keeps_world_positions():
    volume = ball(GRIDS["oblique"], (60, 60, 60), centre_mm=(12, -8, 6), radius_mm=10)
    layout = layout_around(volume)
    small = crop(volume, layout)
    assert small.data.size < volume.data.size
    for view in ("axial", "coronal", "sagittal"):
        for a, b in zip(sample_tiles(volume, layout, view), sample_tiles(small, layout, view)):
            assert np.allclose(a, b, atol=1e-5)


def test_window_ignores_nan_and_background():
    data = np.full((20, 20, 20), np.nan, np.float32)
    data[5:15, 5:15, 5:15] = 100
    low, high = grey_window(Volume(data, np.eye(4)))
    assert low == 0 and 100 <= high <= 120
    assert grey_window(Volume(np.zeros((5, 5, 5)), np.eye(4))) == (0.0, 1.0)


@pytest.fixture(scope="module")
def head():
    rng = np.random.default_rng(0)
    mask = ball(GRIDS["RAS"], (60, 60, 60), radius_mm=45)
    image = mask.like(mask.data * 80 + rng.random(mask.shape).astype(np.float32) * 30)
    dseg = np.zeros(mask.shape, np.uint8)
    dseg[mask.data > 0] = 1
    dseg[ball(mask.affine, mask.shape, radius_mm=30).data > 0] = 2
    dseg[ball(mask.affine, mask.shape, radius_mm=8).data > 0] = 3
    return image, mask, mask.like(dseg)


def draw_all(folder, image, mask, dseg):
    folder.mkdir(exist_ok=True)
    white = dseg.like((dseg.data == 2).astype(np.float32))
    return {
        "dseg": figures.plot_dseg(image, mask, dseg, folder / "dseg.svg"),
        "template": figures.plot_template_flicker(
            image, image, folder / "t.svg", "MNI<script>", mask=mask
        ),
        "coreg": figures.plot_coregistration(image, image, white, folder / "c.svg"),
        "rois": figures.plot_rois(image, {"brain": mask, "CSF & WM": white}, folder / "r.svg"),
        "tsnr": figures.plot_tsnr(image, mask, folder / "s.svg"),
    }


def test_figures_are_self_contained_and_small(head, tmp_path):
    for name, path in draw_all(tmp_path, *head).items():
        text = path.read_text()
        root = ET.fromstring(text)
        assert root.get("viewBox") and root.get("width") is None
        assert path.stat().st_size < 1_500_000
        hrefs = [e.get("href") for e in root.iter() if e.get("href")]
        assert hrefs and all(h.startswith("data:image/jpeg;base64,") for h in hrefs)
        assert not re.search(r"@import|url\(|<script", text), name


def test_only_pairs_of_images_flicker(head, tmp_path):
    drawn = draw_all(tmp_path, *head)
    for name, path in drawn.items():
        assert ('class="over"' in path.read_text()) == (name in ("template", "coreg"))
    style = drawn["template"].read_text()
    assert "svg:hover .over{animation-play-state:running}" in style


def test_figures_have_the_same_bytes_twice(head, tmp_path):
    first = {k: p.read_bytes() for k, p in draw_all(tmp_path / "a", *head).items()}
    second = {k: p.read_bytes() for k, p in draw_all(tmp_path / "b", *head).items()}
    assert first == second


def test_dseg_draws_mask_pial_and_white_borders(head, tmp_path):
    image, mask, dseg = head
    path = figures.plot_dseg(image, mask, dseg, tmp_path / "d.svg")
    colours = [e.get("stroke") for e in ET.parse(path).iter(f"{SVG}path")]
    assert colours == [figures.MASK_COLOUR, figures.PIAL_COLOUR, figures.WHITE_COLOUR]
    only_white = dseg.like((dseg.data == 2).astype(np.uint8) * 2)
    figures.plot_dseg(image, mask, only_white, tmp_path / "w.svg")
    _, pial, white = (e.get("d") for e in ET.parse(tmp_path / "w.svg").iter(f"{SVG}path"))
    assert pial == white != ""


def test_a_long_legend_goes_on_in_the_next_line():
    region = Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    contours = [Contour(region, "#fff", "a" * 20) for _ in range(5)]
    places = _legend_places(contours, 600)
    assert [line for _, line in places] == [0, 0, 1, 1, 2]
    assert all(x + 62 + 9 * 20 <= 600 for x, _ in places)


def test_a_mesh_is_drawn_where_the_same_region_is():
    from skimage.measure import marching_cubes

    from deepprep.reports.mosaic import MeshContour
    from deepprep.surface.mesh import Mesh

    affine = np.array([[0, -1.5, 0, 20.0], [1.2, 0, 0, -31.0], [0, 0, 1.0, -12.5], [0, 0, 0, 1]])
    ijk = np.indices((40, 44, 48)).astype(float)
    distance = np.sqrt(((ijk - np.array([22, 18, 20]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    soft = Volume(np.clip(12.5 - distance, 0, 1).astype(np.float32), affine)
    vertices, faces, *_ = marching_cubes(soft.data, 0.5)
    mesh = Mesh(vertices @ affine[:3, :3].T + affine[:3, 3], faces)
    layout = layout_around(soft, n_cuts=3)
    tops = np.array([0, 200, 400])

    def extent(path: str) -> np.ndarray:
        points = []
        for piece in path.split("M")[1:]:
            first, steps = piece.split("l")
            moves = np.array(steps.split(), int).reshape(-1, 2)
            points.append(np.array(first.split(), int) + np.cumsum([[0, 0], *moves.tolist()], 0))
        return np.array([*np.concatenate(points).min(0), *np.concatenate(points).max(0)])

    by_region = extent(mosaic._contour_path(mosaic.Contour(soft, "red", ""), layout, tops))
    by_mesh = extent(mosaic._mesh_path(MeshContour(mesh, "red", ""), layout, tops))
    assert np.abs(by_region - by_mesh).max() < 3, "tenths of a pixel"
