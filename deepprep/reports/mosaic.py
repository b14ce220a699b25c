"""Mosaics of slices as SVG: grey images below, contours on top, one layer that flickers.

Everything is placed in the world (RAS+ mm), so the images and masks of one figure may have
different grids, resolutions and orientations. Only the slices shown are sampled, which keeps a
figure under a second. The raster is embedded as JPEG: no reference leaves the file.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh
from deepprep.surface.plane_cut import cut_by_plane

CUTS_PER_ROW = 7
"""Slices shown along each of the three directions."""
STEP_MM = 0.8
"""Pixel edge of the sampled slices, mm."""
MARGIN_MM = 9.0
"""Field shown around the bounding box of the region of interest, mm."""
JPEG_QUALITY = 85
LEGEND_LINE_PX = 24
"""Height of a line of the legend."""
ROWS = ("axial", "sagittal", "coronal")
_AXES = {"axial": (2, 0, 1), "sagittal": (0, 1, 2), "coronal": (1, 0, 2)}
"""View -> world axis (normal, left-to-right in the picture, bottom-to-top in the picture)."""
_LETTER = {"axial": "z", "sagittal": "x", "coronal": "y"}
_GAP_PX = 2


@dataclass(frozen=True)
class Layout:
    """Which slices are shown.

    Parameters
    ----------
    low, high : (3,) arrays
        Corners of the box shown, RAS mm.
    cuts : mapping of view to (n,) array
        Position of each slice along its normal, RAS mm.
    step_mm : float
        Pixel edge.
    """

    low: np.ndarray
    high: np.ndarray
    cuts: Mapping[str, np.ndarray]
    step_mm: float = STEP_MM

    def tile_shape(self, view: str) -> tuple[int, int]:
        """(rows, columns) of one slice of a view, pixels."""
        _, across, up = _AXES[view]
        size = np.ceil((self.high - self.low) / self.step_mm).astype(int)
        return int(size[up]), int(size[across])

    @property
    def cell_width(self) -> int:
        """Width of a cell, the same in every row, pixels."""
        return max(self.tile_shape(view)[1] for view in ROWS) + _GAP_PX

    @property
    def width(self) -> int:
        """Width of the mosaic, pixels."""
        return self.cell_width * max(len(c) for c in self.cuts.values())


@dataclass(frozen=True)
class Contour:
    """The border of a region.

    Parameters
    ----------
    region : Volume
        Mask or probability map (0 to 1); its 0.5 level is drawn.
    colour : str
        CSS colour.
    name : str
        Text in the legend.
    """

    region: Volume
    colour: str
    name: str


@dataclass(frozen=True)
class MeshContour:
    """Where the slices cut a surface.

    Parameters
    ----------
    mesh : Mesh
        RAS mm.
    colour, name : str
        CSS colour; text in the legend.
    """

    mesh: Mesh
    colour: str
    name: str


@dataclass(frozen=True)
class Layer:
    """A grey image with the text shown while it is visible.

    Parameters
    ----------
    image : Volume
        3D image.
    name : str
        Label.
    window : (low, high)
        Values shown black and white.
    """

    image: Volume
    name: str
    window: tuple[float, float]


def layout_around(region: Volume, n_cuts: int = CUTS_PER_ROW, step_mm: float = STEP_MM) -> Layout:
    """Slices evenly spread over a region.

    Parameters
    ----------
    region : Volume
        Mask; when it is empty, the whole field of view is taken.
    n_cuts : int
        Slices a row.
    step_mm : float
        Pixel edge.
    """
    stride = _stride(region.data.size, 2_000_000)
    index = np.argwhere(region.data[::stride, ::stride, ::stride] > 0.5) * stride
    if len(index) == 0:  # empty, or so thin that the stride missed it
        index = np.argwhere(region.data > 0.5)
    if len(index) == 0:
        index = np.array(np.meshgrid(*[(0, n - 1) for n in region.shape[:3]])).reshape(3, -1).T
    points = index @ region.affine[:3, :3].T + region.affine[:3, 3]
    # Stray voxels should not zoom the figure out.
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    half = np.abs(region.affine[:3, :3]).sum(axis=1) / 2
    low, high = low - half, high + half
    fractions = np.linspace(0.12, 0.88, n_cuts) if n_cuts > 1 else np.array([0.5])
    cuts = {view: low[_AXES[view][0]] + fractions * (high - low)[_AXES[view][0]] for view in ROWS}
    return Layout(low - MARGIN_MM, high + MARGIN_MM, cuts, step_mm)


def grey_window(image: Volume, mask: Volume | None = None) -> tuple[float, float]:
    """Robust display limits: percentiles of finite values, inside a mask on the same grid if any."""
    stride = _stride(image.data.size, 2_000_000)
    every = (slice(None, None, stride),) * 3
    values = np.asarray(image.data[every], dtype=np.float32)
    inside = np.isfinite(values)
    chosen = values[inside & (values > 0)]
    if mask is not None and mask.grid.same_as(image.grid):
        in_mask = values[inside & (mask.data[every] > 0.5)]
        chosen = in_mask if in_mask.size else chosen
    if chosen.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(chosen, [0.5, 98])
    low = min(float(low), 0.0) if low < 0 else 0.0
    high = float(high) * 1.15
    return (low, high) if high > low else (low, low + 1.0)


def sample_tiles(volume: Volume, layout: Layout, view: str, order: int = 1) -> list[np.ndarray]:
    """Slices of a volume, upright as displayed (row 0 on top).

    Parameters
    ----------
    volume : Volume
        3D; any grid.
    layout : Layout
        Slices wanted.
    view : {'axial', 'sagittal', 'coronal'}
        Direction. The left of the picture is the left of the person (axial, coronal) or the back
        of the head (sagittal).
    order : int
        Spline order of the interpolation.
    """
    normal, across, up = _AXES[view]
    rows, columns = layout.tile_shape(view)
    x = layout.low[across] + (np.arange(columns) + 0.5) * layout.step_mm
    y = layout.high[up] - (np.arange(rows) + 0.5) * layout.step_mm
    points = np.empty((rows, columns, 3))
    points[..., across] = x[None, :]
    points[..., up] = y[:, None]
    ras2vox = volume.grid.ras2vox
    tiles = []
    for cut in layout.cuts[view]:
        points[..., normal] = cut
        vox = points.reshape(-1, 3) @ ras2vox[:3, :3].T + ras2vox[:3, 3]
        # The array is read as it is: copying a 0.7 mm head for each figure costs seconds.
        values = ndimage.map_coordinates(
            volume.data, vox.T, output=np.float32, order=order, mode="constant", prefilter=False
        )
        tiles.append(np.nan_to_num(values).reshape(rows, columns))
    return tiles


def crop(volume: Volume, layout: Layout) -> Volume:
    """The part of a volume that a layout can show (a view, not a copy)."""
    corners = np.array(np.meshgrid(*zip(layout.low, layout.high))).reshape(3, -1)
    vox = volume.grid.ras2vox[:3, :3] @ corners + volume.grid.ras2vox[:3, 3:]
    top = np.array(volume.shape[:3])
    start = np.clip(np.floor(vox.min(axis=1)).astype(int) - 1, 0, top - 1)
    stop = np.clip(np.ceil(vox.max(axis=1)).astype(int) + 2, start + 1, top)
    return volume.part([slice(a, b) for a, b in zip(start, stop)])


def write_mosaic(
    out_svg: str | os.PathLike,
    layers: Sequence[Layer],
    contours: Sequence[Contour | MeshContour],
    layout: Layout,
    title: str,
) -> Path:
    """Write a mosaic.

    Parameters
    ----------
    out_svg : path-like
        File to write (replaced atomically).
    layers : one or two Layer
        With two, the second lies over the first and fades in and out while the mouse is over the
        figure (paused otherwise, the second shown).
    contours : sequence of Contour or MeshContour
        Drawn over the images.
    layout : Layout
        Slices shown.
    title : str
        Accessible title.
    """
    heights = [layout.tile_shape(view)[0] for view in ROWS]
    tops = np.concatenate([[0], np.cumsum([h + _GAP_PX for h in heights])])
    legend_top = int(tops[-1])
    lines = 1 + max((line for _, line in _legend_places(contours, layout.width)), default=0)
    height = legend_top + 10 + LEGEND_LINE_PX * lines
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {layout.width} {height}" '
        'preserveAspectRatio="xMidYMid meet" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{layout.width}" height="{legend_top}" fill="#000"/>',
    ]
    for number, layer in enumerate(layers):
        parts.append(f'<g class="{"under" if number == 0 else "over"}">')
        for view, top in zip(ROWS, tops):
            parts.append(_row_image(layer, layout, view, int(top)))
        parts.append(f'<text class="name" x="8" y="22">{html.escape(layer.name)}</text></g>')
    for contour in contours:
        if isinstance(contour, MeshContour):
            outline, width = _mesh_path(contour, layout, tops), 8
        else:
            outline, width = _contour_path(contour, layout, tops), 11
        parts.append(
            f'<path fill="none" stroke="{html.escape(contour.colour)}" stroke-width="{width}" '
            f'stroke-linejoin="round" transform="scale(.1)" d="{outline}"/>'
        )
    parts.append(_annotations(layout, tops, heights))
    parts.append(_legend(contours, layers, layout, legend_top))
    parts.append("</svg>")
    return write_text(out_svg, "\n".join(parts))


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write UTF-8 text atomically (temporary name in the same folder, then rename)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


_STYLE = """
text{font-family:-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#fff;font-size:16px;
paint-order:stroke;stroke:#000;stroke-width:3px}
.name{font-size:20px;font-weight:600}
.legend text{fill:#1d2733;font-size:18px;stroke:none}
@keyframes flicker{0%,20%{opacity:1}80%,100%{opacity:0}}
.over{animation:flicker 1s ease-in-out infinite alternate paused}
svg:hover .over{animation-play-state:running}
"""


def _row_image(layer: Layer, layout: Layout, view: str, top: int) -> str:
    tiles = sample_tiles(layer.image, layout, view)
    rows, columns = layout.tile_shape(view)
    strip = np.zeros((rows, layout.width), dtype=np.float32)
    for number, tile in enumerate(tiles):
        left = _left(layout, view, number)
        strip[:, left : left + columns] = tile
    low, high = layer.window
    grey = np.clip((strip - low) / (high - low), 0, 1) * 255
    return (
        f'<image x="0" y="{top}" width="{layout.width}" height="{rows}" '
        f'href="{jpeg_uri(np.rint(grey).astype(np.uint8))}"/>'
    )


def _stride(size: int, wanted: int) -> int:
    return max(1, int((size / wanted) ** (1 / 3)))


def jpeg_uri(picture: np.ndarray) -> str:
    """``data:`` URI of a uint8 image, (rows, columns) grey or (rows, columns, 3) colour."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _left(layout: Layout, view: str, number: int) -> int:
    columns = layout.tile_shape(view)[1]
    return number * layout.cell_width + (layout.cell_width - columns) // 2


def _contour_path(contour: Contour, layout: Layout, tops: np.ndarray) -> str:
    from skimage import measure

    pieces = []
    for view, top in zip(ROWS, tops):
        for number, tile in enumerate(sample_tiles(contour.region, layout, view)):
            left = _left(layout, view, number)
            # A border of zeros closes regions that touch the edge of the tile.
            for line in measure.find_contours(np.pad(tile, 1), 0.5):
                if len(line) < 6:
                    continue
                # Tenths of a pixel, relative: half the size of absolute decimals.
                points = _thin(line[:, ::-1]) - 0.5 + (left, top)
                points = np.rint(points * 10).astype(int)
                steps = " ".join(map(str, np.diff(points, axis=0).ravel().tolist()))
                pieces.append(f"M{points[0, 0]} {points[0, 1]}l{steps}")
    return "".join(pieces)


def _mesh_path(contour: MeshContour, layout: Layout, tops: np.ndarray) -> str:
    pieces = []
    for view, top in zip(ROWS, tops):
        normal, across, up = _AXES[view]
        rows, columns = layout.tile_shape(view)
        for number, cut in enumerate(layout.cuts[view]):
            left = _left(layout, view, number)
            lines = cut_by_plane(contour.mesh, normal, float(cut))
            x = (lines[..., across] - layout.low[across]) / layout.step_mm
            y = (layout.high[up] - lines[..., up]) / layout.step_mm
            inside = ((x >= 0) & (x <= columns) & (y >= 0) & (y <= rows)).all(axis=1)
            ends = np.rint(np.stack([x + left, y + top], axis=-1)[inside] * 10).astype(int)
            moves = ends[:, 1] - ends[:, 0]
            pieces += [
                f"M{a} {b}l{c} {d}"
                for (a, b), (c, d) in zip(ends[:, 0].tolist(), moves.tolist())
                if c or d
            ]
    return "".join(pieces)


def _thin(line: np.ndarray) -> np.ndarray:
    """Drop every second vertex, and those closer than 0.1 pixel to the line of the others."""
    line = np.concatenate([line[:-1:2], line[-1:]])
    before, here, after = line[:-2], line[1:-1], line[2:]
    chord = after - before
    offset = here - before
    area = np.abs(chord[:, 0] * offset[:, 1] - chord[:, 1] * offset[:, 0])
    keep = area > 0.1 * np.linalg.norm(chord, axis=1)
    # Of a run of flat vertices keep every other one: a slow bend has no sharp vertex.
    keep |= np.arange(len(keep)) % 2 == 0
    return np.concatenate([line[:1], here[keep], line[-1:]])


def _annotations(layout: Layout, tops: np.ndarray, heights: Sequence[int]) -> str:
    out = ["<g>"]
    for view, top, rows in zip(ROWS, tops, heights):
        for number, cut in enumerate(layout.cuts[view]):
            x = number * layout.cell_width
            out.append(
                f'<text x="{x + 4}" y="{top + rows - 5}">{_LETTER[view]} = {cut:.0f} mm</text>'
            )
        if view != "sagittal":
            middle = top + rows // 2
            out.append(f'<text x="4" y="{middle}">L</text>')
            out.append(f'<text x="{layout.cell_width - 16}" y="{middle}">R</text>')
    return "".join(out) + "</g>"


def _legend_places(contours: Sequence[Contour | MeshContour], width: int) -> list[tuple[int, int]]:
    """Left edge and line of each entry; a new line where the width is used up."""
    places = []
    x, line = 4, 0
    for contour in contours:
        entry = 62 + 9 * len(contour.name)
        if x > 4 and x + entry > width:
            x, line = 4, line + 1
        places.append((x, line))
        x += entry
    return places


def _legend(
    contours: Sequence[Contour | MeshContour],
    layers: Sequence[Layer],
    layout: Layout,
    top: int,
) -> str:
    out = ['<g class="legend">']
    for contour, (x, line) in zip(contours, _legend_places(contours, layout.width)):
        y = top + LEGEND_LINE_PX * line
        out.append(
            f'<line x1="{x}" x2="{x + 22}" y1="{y + 17}" y2="{y + 17}" '
            f'stroke="{html.escape(contour.colour)}" stroke-width="3"/>'
            f'<text x="{x + 28}" y="{y + 22}">{html.escape(contour.name)}</text>'
        )
    if len(layers) > 1:
        text = f"Hover: {layers[1].name} fades into {layers[0].name}"
        out.append(
            f'<text x="{layout.width - 4}" y="{top + 22}" text-anchor="end">'
            f"{html.escape(text)}</text>"
        )
    return "".join(out) + "</g>"
