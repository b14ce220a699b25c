"""Charts of the report: carpet with its traces, confound correlations, CompCor variance."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deepprep.image.volume import Volume
from deepprep.reports.mosaic import write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CARPET_LABELS = {"GM": 1, "WM": 2, "CSF": 3, "Edge": 4}
"""Values of the label array given to :func:`plot_carpet`; those absent are left out."""
CARPET_ROWS = 600
"""Voxels shown, at most: as many as there are pixels."""
CARPET_COLUMNS = 1000
"""Frames shown, at most; longer series are averaged in neighbouring frames."""
CARPET_GREYS = 16
"""Grey levels, four bits a pixel: noise in all 256 makes the picture much larger for nothing."""
CLIP_Z = 2.0
"""Standard deviations shown black and white."""
SEGMENT_COLOURS = {"GM": "#2f6db3", "WM": "#e0912f", "CSF": "#3a9d5d", "Edge": "#b03a5b"}
TRACES = (
    ("global_signal", "GS", "#222222"),
    ("csf", "CSF", "#3a9d5d"),
    ("white_matter", "WM", "#e0912f"),
    ("std_dvars", "DVARS (std.)", "#7a4fb5"),
    ("framewise_displacement", "FD (mm)", "#b03a3a"),
)
MAX_CONFOUNDS = 20
"""Regressors in the correlation matrix: those most correlated with the global signal."""


def plot_carpet(
    bold: Volume,
    segmentation: np.ndarray,
    confounds: pd.DataFrame,
    tr_s: float,
    out_svg: str | os.PathLike,
    *,
    labels: Mapping[str, int] = CARPET_LABELS,
    n_dummy: int = 0,
    fd_threshold_mm: float | None = 0.5,
    dvars_threshold: float | None = 1.5,
) -> Path:
    """Carpet plot (Power 2017) under the traces of the nuisance signals.

    Voxels are detrended and standardised; within a tissue they are ordered by their correlation
    with the mean of the tissue (Aquino 2020), so that widespread deflections stand out.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) series, any unit.
    segmentation : (X, Y, Z) integer array
        Tissue of each voxel on the grid of ``bold``, 0 outside.
    confounds : DataFrame
        T rows; the columns of :data:`TRACES` that exist are drawn.
    tr_s : float
        Repetition time, s.
    out_svg : path-like
        File to write.
    labels : mapping of name to int
        Tissues, in the order shown.
    n_dummy : int
        Non-steady-state frames at the start: shaded, not used for the standardisation.
    fd_threshold_mm, dvars_threshold : float or None
        Dashed lines; frames above either are marked.

    Notes
    -----
    Power JD (2017), NeuroImage 154:150-158; Aquino KM et al. (2020), NeuroImage 212:116614.
    """
    if bold.data.ndim != 4:
        raise ValueError("a carpet needs a 4D series")
    if tuple(segmentation.shape) != tuple(bold.shape[:3]):
        raise ValueError(
            f"the segmentation has shape {segmentation.shape}, the series {bold.shape[:3]}"
        )
    blocks = _carpet_blocks(bold.data, segmentation, labels, n_dummy)
    traces = [t for t in TRACES if t[0] in confounds and confounds[t[0]].notna().any()]
    heights = [0.5] * len(traces) + [4.2]
    fig, axes = _figure(11, 1.0 + 0.55 * len(traces) + 4.2, heights)
    flagged = _flagged(confounds, n_dummy, fd_threshold_mm, dvars_threshold)
    n_frames = bold.n_frames
    for axis, (column, name, colour) in zip(axes, traces):
        limit = {"framewise_displacement": fd_threshold_mm, "std_dvars": dvars_threshold}
        _draw_trace(axis, confounds[column].to_numpy(float), name, colour, limit.get(column))
        _shade(axis, flagged, n_dummy)
        axis.set_xlim(-0.5, n_frames - 0.5)
        axis.tick_params(labelbottom=False, bottom=False)
    _draw_carpet(axes[-1], blocks, n_frames, tr_s)
    return _save(fig, out_svg)


def _carpet_blocks(
    data: np.ndarray, segmentation: np.ndarray, labels: Mapping[str, int], n_dummy: int
) -> list[tuple[str, np.ndarray]]:
    found = {name: np.flatnonzero(segmentation.ravel() == value) for name, value in labels.items()}
    total = sum(len(v) for v in found.values())
    stride = max(1, int(np.ceil(total / (CARPET_ROWS * 4))))
    flat = data.reshape(-1, data.shape[3])
    blocks = []
    for name, index in found.items():
        if len(index) == 0:
            continue
        rows = _standardise(np.asarray(flat[index[::stride]], dtype=np.float32), n_dummy)
        rows = rows[rows.any(axis=1)]
        if len(rows) == 0:
            continue
        mean = rows[:, n_dummy:].mean(axis=0)
        order = np.argsort(-(rows[:, n_dummy:] @ mean), kind="stable")
        share = max(8, round(CARPET_ROWS * len(index) / total))
        rows = _shrink(_shrink(rows[order], share).T, CARPET_COLUMNS).T
        # Averaging shrinks the spread: bring every tissue back to one. By the median, which
        # neither bright first frames nor a few spikes can pull.
        blocks.append((name, rows / max(1.4826 * float(np.median(np.abs(rows))), 1e-6)))
    return blocks


def _standardise(rows: np.ndarray, n_dummy: int) -> np.ndarray:
    """Remove mean and linear trend, divide by the standard deviation, of the steady frames."""
    rows = np.nan_to_num(rows)
    n_frames = rows.shape[1]
    if n_frames - n_dummy < 3:
        n_dummy = 0
    design = np.stack([np.ones(n_frames), np.linspace(-1, 1, n_frames)], axis=1)
    design = design.astype(np.float32)
    beta, *_ = np.linalg.lstsq(design[n_dummy:], rows[:, n_dummy:].T, rcond=None)
    residual = rows - (design @ beta).T
    scale = residual[:, n_dummy:].std(axis=1, keepdims=True)
    # A constant voxel has only rounding noise: leave it flat.
    flat = scale <= 1e-6 * (np.abs(rows).mean(axis=1, keepdims=True) + 1e-12)
    return np.where(flat, 0, residual / np.where(flat, 1, scale))


def _shrink(rows: np.ndarray, n_rows: int) -> np.ndarray:
    """Average neighbouring rows so that at most ``n_rows`` remain."""
    if len(rows) <= n_rows:
        return rows
    edges = np.linspace(0, len(rows), n_rows + 1).astype(int)
    sums = np.add.reduceat(rows, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


def _draw_carpet(
    axis: Axes, blocks: Sequence[tuple[str, np.ndarray]], n_frames: int, tr_s: float
) -> None:
    from matplotlib import colormaps

    if not blocks:
        axis.text(0.5, 0.5, "No voxel to show", ha="center", transform=axis.transAxes)
        return
    image = np.concatenate([block for _, block in blocks])
    axis.imshow(
        image, aspect="auto", cmap=colormaps["gray"].resampled(CARPET_GREYS), vmin=-CLIP_Z, vmax=CLIP_Z,
        extent=(-0.5, n_frames - 0.5, len(image), 0), interpolation="nearest",
    )  # fmt: skip
    start = 0
    for name, block in blocks:
        stop = start + len(block)
        colour = SEGMENT_COLOURS.get(name, "#777777")
        axis.axhspan(
            start, stop, xmin=-0.012, xmax=-0.003, color=colour, clip_on=False, linewidth=0
        )
        axis.text(
            -0.018, 1 - (start + stop) / 2 / len(image), name, color=colour, ha="right",
            va="center", transform=axis.transAxes, fontsize=9, fontweight="bold",
        )  # fmt: skip
        if start:
            axis.axhline(start, color="#ffffff", linewidth=1.2)
        start = stop
    axis.set_yticks([])
    ticks = np.unique(np.linspace(0, n_frames - 1, 7).astype(int))
    axis.set_xticks(ticks, [f"{t}\n{t * tr_s:.0f} s" for t in ticks], fontsize=8)
    axis.set_xlabel("Frame, time", fontsize=9)


def _draw_trace(
    axis: Axes, values: np.ndarray, name: str, colour: str, threshold: float | None
) -> None:
    axis.plot(values, color=colour, linewidth=0.9)
    finite = values[np.isfinite(values)]
    top = float(np.percentile(finite, 99.5)) if name.startswith(("FD", "DVARS")) else None
    if threshold is not None:
        axis.axhline(threshold, color="#888888", linewidth=0.7, linestyle="--")
    if top is not None:
        axis.set_ylim(0, max(top * 1.15, (threshold or 0) * 1.3, 1e-6))
    axis.text(-0.018, 0.5, name, color=colour, ha="right", va="center", fontsize=9,
              transform=axis.transAxes, fontweight="bold")  # fmt: skip
    above = f", {np.mean(finite > threshold):.0%} above {threshold:g}" if threshold else ""
    axis.text(
        1.006, 0.5, f"mean {_number(finite.mean())}\nmax {_number(finite.max())}{above}", fontsize=7,
        color="#444444", va="center", transform=axis.transAxes,
    )  # fmt: skip
    axis.set_yticks([])
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)
    axis.margins(y=0.1)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _flagged(
    confounds: pd.DataFrame, n_dummy: int, fd_mm: float | None, dvars: float | None
) -> np.ndarray:
    flagged = np.zeros(len(confounds), dtype=bool)
    for column, limit in (("framewise_displacement", fd_mm), ("std_dvars", dvars)):
        if limit is not None and column in confounds:
            flagged |= np.nan_to_num(confounds[column].to_numpy(float)) > limit
    flagged[:n_dummy] = False
    return np.flatnonzero(flagged)


def _shade(axis: Axes, frames: np.ndarray, n_dummy: int) -> None:
    if n_dummy:
        axis.axvspan(-0.5, n_dummy - 0.5, color="#c9d4e5", alpha=0.8, linewidth=0)
    if len(frames):
        # One path with gaps: thousands of separate lines would outweigh the carpet.
        x = np.stack([frames, frames, np.full(len(frames), np.nan)], axis=1).ravel()
        y = np.tile([0.0, 1.0, np.nan], len(frames))
        axis.plot(x, y, color="#f2b8b8", linewidth=1.2, zorder=0, scalex=False, scaley=False,
                  transform=axis.get_xaxis_transform())  # fmt: skip


def plot_confound_correlation(
    confounds_tsv: str | os.PathLike,
    out_svg: str | os.PathLike,
    *,
    reference: str = "global_signal",
    n_dummy: int = 0,
    max_confounds: int = MAX_CONFOUNDS,
) -> Path:
    """Correlation matrix of the confounds and their correlation with the global signal.

    Parameters
    ----------
    confounds_tsv : path-like
        fMRIPrep-style table.
    out_svg : path-like
        File to write.
    reference : str
        Column the others are compared with; the first varying one when it is absent.
    n_dummy : int
        Frames left out at the start.
    max_confounds : int
        Columns shown: those with the largest absolute correlation.
    """
    table = pd.read_csv(confounds_tsv, sep="\t", na_values="n/a").iloc[n_dummy:]
    table = table.select_dtypes("number")
    # Indicator columns of single frames correlate with nothing and would fill the figure.
    varying = [c for c in table if table[c].std(skipna=True) > 1e-12 and "outlier" not in c]
    table = table[varying]
    fig, axes = _figure(12, 5.2, [1], columns=2)
    if len(varying) < 2:
        axes[0].text(0.5, 0.5, "Fewer than two varying confounds", ha="center")
        return _save(fig, out_svg)
    reference = reference if reference in table else varying[0]
    correlation = table.corr().fillna(0)
    strength = correlation[reference].abs().drop(reference)
    strength = strength.sort_values(ascending=False, kind="stable")[: max_confounds - 1]
    shown = [c for c in varying if c == reference or c in strength.index]
    matrix = correlation.loc[shown, shown].to_numpy(copy=True)
    np.fill_diagonal(matrix, 0)
    image = axes[0].imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axes[0].set_xticks(range(len(shown)), shown, rotation=90, fontsize=7)
    axes[0].set_yticks(range(len(shown)), shown, fontsize=7)
    bar = fig.colorbar(image, ax=axes[0], fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7)
    axes[0].set_title("Correlation", fontsize=10)
    positions = np.arange(len(strength))
    signed = correlation.loc[strength.index, reference]
    colours = ["#b03a3a" if v > 0 else "#2f6db3" for v in signed]
    axes[1].barh(positions, strength, color=colours)
    axes[1].set_yticks(positions, strength.index, fontsize=7)
    axes[1].invert_yaxis()
    axes[1].set_xlim(0, 1)
    axes[1].tick_params(axis="x", labelsize=7)
    axes[1].set_title(f"|r| with {reference} (red: positive, blue: negative)", fontsize=10)
    _bare(axes[1])
    return _save(fig, out_svg)


def plot_compcor_variance(
    metadata_json: str | os.PathLike | Sequence[str | os.PathLike],
    out_svg: str | os.PathLike,
    threshold: float = 0.5,
) -> Path:
    """Cumulative variance explained by the components of each CompCor mask.

    Parameters
    ----------
    metadata_json : path-like or several
        Sidecar of the confounds table: entries with ``Method``, ``Mask``, ``VarianceExplained``,
        ``CumulativeVarianceExplained`` and ``Retained``, as fMRIPrep writes them.
    out_svg : path-like
        File to write.
    threshold : float
        Share of variance that decided how many components are kept.
    """
    paths = [metadata_json] if isinstance(metadata_json, str | os.PathLike) else metadata_json
    curves: dict[str, list[float]] = {}
    for path in paths:
        for name, curve in _cumulative_variance(json.loads(Path(path).read_text())).items():
            curves.setdefault(name, curve)
    fig, axes = _figure(3.4 * max(len(curves), 1) + 0.6, 3.0, [1], columns=max(len(curves), 1))
    if not curves:
        axes[0].text(0.5, 0.5, "No CompCor components", ha="center")
        axes[0].set_axis_off()
    for axis, (name, curve) in zip(axes, curves.items()):
        axis.plot(np.arange(1, len(curve) + 1), np.array(curve) * 100, ".-", color="#2f6db3",
                  linewidth=1, markersize=3)  # fmt: skip
        reached = np.flatnonzero(np.array(curve) >= threshold - 1e-9)
        if len(reached):
            count = int(reached[0]) + 1
            axis.axvline(count, color="#b03a3a", linewidth=0.9, linestyle="--")
            axis.text(
                count, 3, f" {count} components: {threshold:.0%}", fontsize=8, color="#b03a3a"
            )
        axis.set_ylim(0, 102)
        axis.set_xlim(left=0)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("Components", fontsize=8)
        axis.tick_params(labelsize=7)
        _bare(axis)
    axes[0].set_ylabel("Cumulative variance (%)", fontsize=8)
    return _save(fig, out_svg)


def _cumulative_variance(metadata: Mapping) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for entry in metadata.values():
        if not isinstance(entry, Mapping) or "CumulativeVarianceExplained" not in entry:
            continue
        method = str(entry.get("Method", "CompCor"))
        mask = entry.get("Mask")
        name = f"{method} ({mask})" if mask and mask != method else method
        groups.setdefault(name, []).append(float(entry["CumulativeVarianceExplained"]))
    # The order of the sidecar is not that of the components ("dropped_" ones stand apart);
    # the cumulative share itself is.
    order = ("tCompCor", "aCompCor (CSF)", "aCompCor (WM)", "aCompCor (combined)")
    names = [n for n in order if n in groups] + sorted(set(groups) - set(order))
    return {name: sorted(groups[name]) for name in names}


def _figure(
    width_in: float, height_in: float, heights: Sequence[float], columns: int = 1
) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    # No pyplot: no global state, safe in any process or thread.
    fig = Figure(figsize=(width_in, height_in))
    grid = fig.add_gridspec(len(heights), columns, height_ratios=heights, hspace=0.12, wspace=0.45)
    cells = [grid[row, column] for row in range(len(heights)) for column in range(columns)]
    return fig, [fig.add_subplot(cell) for cell in cells]


def _bare(axis: Axes) -> None:
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _save(fig: Figure, out_svg: str | os.PathLike) -> Path:
    """Write an SVG with the same bytes each time: no date, no random identifiers."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.hashsalt": "deepprep", "svg.fonttype": "none", "font.family": "sans-serif",
                "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"]}  # fmt: skip
    with mpl.rc_context(settings):
        FigureCanvasSVG(fig).print_figure(
            buffer, format="svg", dpi=150, bbox_inches="tight", pad_inches=0.08,
            metadata={"Date": None},
        )  # fmt: skip
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r"data:image/png;base64,([^\"]+)", _as_grey, text[text.index("<svg") :])
    opening = text[: text.index(">")]
    bare = re.sub(r'\s(width|height)="[^"]*"', "", opening)
    return write_text(out_svg, bare.replace("\n", " ") + text[len(opening) :].rstrip())


def _as_grey(match: re.Match) -> str:
    """Matplotlib embeds every raster as RGBA; a grey one becomes a palette image."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(match[1])))
    colour = np.asarray(image.convert("RGB"))
    if colour.size == 0 or np.any(colour != colour[..., :1]):
        return match[0]
    levels, index = np.unique(colour[..., 0], return_inverse=True)
    small = Image.fromarray(index.reshape(colour.shape[:2]).astype(np.uint8), mode="P")
    small.putpalette(np.repeat(levels, 3).tolist())
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
