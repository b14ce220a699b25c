"""Pictures of surfaces from the side: sulcal depth in grey, parcels in colour."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.reports.mosaic import jpeg_uri, write_text
from deepprep.surface.mesh import Mesh

if TYPE_CHECKING:
    from deepprep.surface.reconstruct import Hemisphere

WIDTH_PX, HEIGHT_PX = 520, 400
"""Of one view."""
FINER = 2
"""Rendered pixels per shown pixel, along each side."""
MARGIN = 0.04
LIGHT_GREY, DARK_GREY = 0.78, 0.42
"""Crowns and sulci."""
TITLE_PX = 26

VIEWS = ("lateral", "medial")


class View(NamedTuple):
    """Directions of a picture: unit vectors to its right, to its top, and to the viewer."""

    right: tuple[float, float, float]
    up: tuple[float, float, float]
    near: tuple[float, float, float]


def view_of(side: str, view: str) -> View:
    """Look at a hemisphere (``left`` or ``right``) from outside or from the mid-line."""
    outward = (-1.0 if side == "left" else 1.0) * (1.0 if view == "lateral" else -1.0)
    # From the left of the head (x negative) the front is on the left of the picture.
    return View((0.0, outward, 0.0), (0.0, 0.0, 1.0), (outward, 0.0, 0.0))


def render(mesh: Mesh, colours: np.ndarray, view: View) -> np.ndarray:
    """Picture of a surface on black, in parallel projection, lit from the viewer.

    Parameters
    ----------
    mesh : Mesh
        mm.
    colours : (V, 3) array
        Red, green, blue from 0 to 1; each point shows that of its nearest corner.
    view : View

    Returns
    -------
    (HEIGHT_PX, WIDTH_PX, 3) uint8 array
    """
    axes = np.array([view.right, view.up, view.near])
    points = mesh.vertices @ axes.T
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    size = np.array([WIDTH_PX, HEIGHT_PX]) * FINER
    scale = (1 - 2 * MARGIN) * (size / np.maximum(high - low, 1e-6)).min()
    centred = (points[:, :2] - (low + high) / 2) * scale
    x, y = centred[:, 0] + size[0] / 2, size[1] / 2 - centred[:, 1]
    light = 0.35 + 0.65 * np.clip(mesh.vertex_normals @ axes[2], 0, 1)
    picture = np.zeros((size[1], size[0], 3), dtype=np.float32)
    depth = np.full((size[1], size[0]), -np.inf, dtype=np.float32)
    _rasterise(
        np.stack([x, y, points[:, 2]], axis=1),
        mesh.faces,
        np.asarray(colours, dtype=np.float32),
        light.astype(np.float32),
        picture,
        depth,
    )
    small = picture.reshape(HEIGHT_PX, FINER, WIDTH_PX, FINER, 3).mean(axis=(1, 3))
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)


def folding_grey(sulc: np.ndarray) -> np.ndarray:
    """(V, 3) light where a vertex lies on a crown, dark where it lies in a sulcus."""
    scaled = (np.asarray(sulc, dtype=np.float64) - np.median(sulc)) / (np.std(sulc) + 1e-9)
    grey = LIGHT_GREY + (DARK_GREY - LIGHT_GREY) / (1 + np.exp(-3 * scaled))
    return np.repeat(grey[:, None], 3, axis=1)


def parcel_colours(labels: np.ndarray, table: np.ndarray, sulc: np.ndarray) -> np.ndarray:
    """(V, 3) colours of parcels, darker in sulci; grey where there is no parcel.

    Parameters
    ----------
    labels : (V,) int array
        Rows of ``table``; 0 and below are none.
    table : (L, 3 or 4) uint8 array
    sulc : (V,) array
    """
    grey = folding_grey(sulc)
    named = np.asarray(table, dtype=np.float64)[np.maximum(labels, 0), :3] / 255.0
    shade = 0.55 + 0.45 * (grey[:, :1] - DARK_GREY) / (LIGHT_GREY - DARK_GREY)
    return np.where(np.asarray(labels)[:, None] > 0, named * shade, grey)


def plot_parcels(
    hemispheres: Sequence[Hemisphere],
    labels: Sequence[np.ndarray],
    tables: Sequence[np.ndarray],
    out_svg: str | os.PathLike,
) -> Path:
    """Inflated hemispheres with their parcels, seen from outside and from the mid-line.

    Parameters
    ----------
    hemispheres : sequence of Hemisphere
        Left and right.
    labels : sequence of (V,) int arrays
    tables : sequence of (L, 4) uint8 arrays
        Colours of the labels.
    out_svg : path-like
        File to write, atomically.
    """
    titles, rows = [], []
    for view in VIEWS:
        pictures = []
        for hemisphere, names, table in zip(hemispheres, labels, tables):
            colours = parcel_colours(names, table, hemisphere.overlays["sulc"])
            pictures.append(render(hemisphere.inflated, colours, view_of(hemisphere.side, view)))
            titles.append(f"{hemisphere.side}, {view}")
        rows.append(np.concatenate(pictures, axis=1))
    return write_pictures(out_svg, np.concatenate(rows), titles, "Cortical parcels")


def write_pictures(
    out_svg: str | os.PathLike, picture: np.ndarray, titles: Sequence[str], title: str
) -> Path:
    """Write a grid of views, two in a row, as one SVG with names."""
    height, width = picture.shape[:2]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'preserveAspectRatio="xMidYMid meet" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<image width="{width}" height="{height}" href="{jpeg_uri(picture)}"/>',
    ]
    for number, name in enumerate(titles):
        x, y = (number % 2) * WIDTH_PX + 10, (number // 2) * HEIGHT_PX + TITLE_PX
        parts.append(
            f'<text x="{x}" y="{y}" fill="#fff" font-family="sans-serif" font-size="18">'
            f"{html.escape(name)}</text>"
        )
    return write_text(out_svg, "\n".join([*parts, "</svg>"]))


@compiled()
def _rasterise(
    points: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    light: np.ndarray,
    picture: np.ndarray,
    depth: np.ndarray,
) -> None:
    rows, columns = depth.shape
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, bx, by, cx, cy = (
            points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1],
        )  # fmt: skip
        whole = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        # y runs down in the picture, so triangles that face the viewer turn the other way
        if whole >= 0:
            continue
        first_row = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        last_row = min(int(np.floor(max(ay, by, cy) - 0.5)), rows - 1)
        first_column = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        last_column = min(int(np.floor(max(ax, bx, cx) - 0.5)), columns - 1)
        for i in range(first_row, last_row + 1):
            for j in range(first_column, last_column + 1):
                x, y = j + 0.5, i + 0.5
                wa = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / whole
                wb = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / whole
                wc = 1.0 - wa - wb
                if wa < -1e-9 or wb < -1e-9 or wc < -1e-9:
                    continue
                z = wa * points[a, 2] + wb * points[b, 2] + wc * points[c, 2]
                if z <= depth[i, j]:
                    continue
                depth[i, j] = z
                nearest = a
                if wb > wa and wb >= wc:
                    nearest = b
                elif wc > wa and wc > wb:
                    nearest = c
                shade = wa * light[a] + wb * light[b] + wc * light[c]
                for k in range(3):
                    picture[i, j, k] = shade * colours[nearest, k]
