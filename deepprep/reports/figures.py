"""Image figures of the report: mask and tissues, template, coregistration, regions, tSNR.

Each function takes volumes, writes one self-contained SVG and returns its path. Volumes of one
figure may be on different grids: they are compared in world coordinates.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepprep.image.volume import Volume
from deepprep.reports.charts import (
    plot_carpet,
    plot_compcor_variance,
    plot_confound_correlation,
)
from deepprep.reports.mosaic import (
    Contour,
    Layer,
    MeshContour,
    crop,
    grey_window,
    layout_around,
    write_mosaic,
)
from deepprep.surface.mesh import Mesh, joined

__all__ = [
    "plot_carpet",
    "plot_compcor_variance",
    "plot_confound_correlation",
    "plot_coregistration",
    "plot_dseg",
    "plot_lesion",
    "plot_rois",
    "plot_structures",
    "plot_surfaces",
    "plot_template_flicker",
    "plot_tsnr",
]

DSEG_LABELS = {"GM": 1, "WM": 2, "CSF": 3}
"""Values of the three-tissue ``dseg`` derivative, as fMRIPrep writes it."""
MASK_COLOUR, PIAL_COLOUR, WHITE_COLOUR = "#ff4b4b", "#ffd23f", "#35c9ff"
ROI_COLOURS = ("#ff4b4b", "#ff5fd2", "#35c9ff", "#ffd23f", "#59e36f", "#b18cff")


STRUCTURE_GROUPS: tuple[tuple[str, tuple[int, ...], str], ...] = (
    ("left cerebrum", (2, 3), "#2f7dff"),
    ("right cerebrum", (41, 42), "#9cc4ff"),
    ("ventricles", (4, 5, 14, 15, 43, 44), "#b18cff"),
    ("left thalamus, pallidum", (10, 13), "#0aa66e"),
    ("right thalamus, pallidum", (49, 52), "#8ff0c8"),
    ("left putamen, accumbens", (12, 26), "#e0409a"),
    ("right putamen, accumbens", (51, 58), "#ffb0dc"),
    ("left caudate, ventral DC", (11, 28), "#1fb8e0"),
    ("right caudate, ventral DC", (50, 60), "#a8e9fa"),
    ("left hippocampus", (17,), "#e8b800"),
    ("right hippocampus", (53,), "#fff0a0"),
    ("left amygdala", (18,), "#ff4b4b"),
    ("right amygdala", (54,), "#ffb3b3"),
    ("brain stem", (16,), "#c9d3df"),
    ("left cerebellum", (7, 8), "#f58a1f"),
    ("right cerebellum", (46, 47), "#ffd0a0"),
)
"""What :func:`plot_structures` draws: name, FreeSurfer numbers, colour."""


def plot_dseg(
    t1w: Volume,
    mask: Volume,
    dseg: Volume,
    out_svg: str | os.PathLike,
    labels: Mapping[str, int] = DSEG_LABELS,
) -> Path:
    """T1w with the contours of the brain mask and of the tissues.

    Parameters
    ----------
    t1w : Volume
        Preprocessed T1w.
    mask : Volume
        Brain mask.
    dseg : Volume
        Integer tissue labels.
    out_svg : path-like
        File to write.
    labels : mapping
        Value of ``GM`` and ``WM`` in ``dseg``.
    """
    layout = layout_around(mask)
    dseg = crop(dseg, layout)
    is_white = dseg.data == labels["WM"]
    white = dseg.like(is_white.astype(np.uint8))
    parenchyma = dseg.like((is_white | (dseg.data == labels["GM"])).astype(np.uint8))
    contours = [
        Contour(mask, MASK_COLOUR, "brain mask"),
        Contour(parenchyma, PIAL_COLOUR, "outer border of grey matter (pial, ventricles)"),
        Contour(white, WHITE_COLOUR, "white matter"),
    ]
    layer = Layer(t1w, "T1w", grey_window(t1w, mask))
    return write_mosaic(out_svg, [layer], contours, layout, "Brain mask and tissue segmentation")


def plot_structures(t1w: Volume, mask: Volume, labels: Volume, out_svg: str | os.PathLike) -> Path:
    """T1w with the contours of the deep structures, the ventricles and the cerebellum.

    Left structures are drawn in full colours and right ones in lighter ones, so that swapped
    sides are seen.

    Parameters
    ----------
    t1w, mask, labels : Volume
        Preprocessed T1w, brain mask, FreeSurfer numbers.
    out_svg : path-like
        File to write.
    """
    layout = layout_around(mask)
    labels = crop(labels, layout)
    contours = [
        Contour(labels.like(np.isin(labels.data, numbers).astype(np.uint8)), colour, name)
        for name, numbers, colour in STRUCTURE_GROUPS
        if np.isin(labels.data, numbers).any()
    ]
    layer = Layer(t1w, "T1w", grey_window(t1w, mask))
    return write_mosaic(out_svg, [layer], contours, layout, "Brain structures")


def plot_lesion(t1w: Volume, mask: Volume, lesion: Volume, out_svg: str | os.PathLike) -> Path:
    """T1w with the contours of the lesion mask and of the brain mask; all slices cut the lesion.

    Parameters
    ----------
    t1w, mask, lesion : Volume
        Preprocessed T1w, brain mask (sets the view), lesion mask.
    out_svg : path-like
        File to write.
    """
    layout = dataclasses.replace(layout_around(mask), cuts=layout_around(lesion).cuts)
    contours = [
        Contour(mask, WHITE_COLOUR, "brain mask"),
        Contour(lesion, MASK_COLOUR, "lesion mask"),
    ]
    layer = Layer(t1w, "T1w", grey_window(t1w, mask))
    return write_mosaic(out_svg, [layer], contours, layout, "Lesion mask")


def plot_surfaces(
    t1w: Volume,
    mask: Volume,
    white: Sequence[Mesh],
    pial: Sequence[Mesh],
    out_svg: str | os.PathLike,
) -> Path:
    """T1w with the lines in which the slices cut the white and pial surfaces.

    Parameters
    ----------
    t1w, mask : Volume
        Preprocessed T1w and brain mask (sets the view).
    white, pial : sequences of Mesh
        Surfaces of the hemispheres, RAS mm.
    out_svg : path-like
        File to write.
    """
    contours = [
        MeshContour(joined(pial), PIAL_COLOUR, "pial surface"),
        MeshContour(joined(white), WHITE_COLOUR, "white surface"),
    ]
    layer = Layer(t1w, "T1w", grey_window(t1w, mask))
    return write_mosaic(out_svg, [layer], contours, layout_around(mask), "Cortical surfaces")


def plot_template_flicker(
    fixed: Volume,
    moving: Volume,
    out_svg: str | os.PathLike,
    label: str = "template",
    *,
    mask: Volume | None = None,
    moving_label: str = "participant",
) -> Path:
    """Template and participant in template space, alternating while the mouse is over.

    Parameters
    ----------
    fixed, moving : Volume
        Template; the participant's T1w resampled to it.
    out_svg : path-like
        File to write.
    label, moving_label : str
        Names shown.
    mask : Volume, optional
        Brain mask of the template: sets the view, drawn as contour over both.
    """
    region = mask if mask is not None else fixed.like((fixed.data > 0).astype(np.uint8))
    contours = [Contour(mask, MASK_COLOUR, f"brain mask of {label}")] if mask is not None else []
    layers = [
        Layer(fixed, label, grey_window(fixed, region)),
        Layer(moving, moving_label, grey_window(moving, region)),
    ]
    return write_mosaic(
        out_svg, layers, contours, layout_around(region), f"Spatial normalisation to {label}"
    )


def plot_coregistration(
    boldref: Volume,
    t1w: Volume,
    wm_seg: Volume,
    out_svg: str | os.PathLike,
    *,
    mask: Volume | None = None,
) -> Path:
    """BOLD reference and T1w in the same space, alternating, with the white-matter border.

    Parameters
    ----------
    boldref, t1w : Volume
        BOLD reference resampled to T1w space, and the T1w; any grids of the same world.
    wm_seg : Volume
        White-matter mask or probability in that world.
    out_svg : path-like
        File to write.
    mask : Volume, optional
        Brain mask: sets the view. The white matter does otherwise.
    """
    region = mask if mask is not None else wm_seg
    layers = [
        Layer(t1w, "T1w", grey_window(t1w, region)),
        Layer(boldref, "BOLD reference", grey_window(boldref, region)),
    ]
    contours = [Contour(wm_seg, MASK_COLOUR, "white matter of the T1w")]
    return write_mosaic(
        out_svg, layers, contours, layout_around(region), "Coregistration of BOLD and T1w"
    )


def plot_rois(boldref: Volume, masks: Mapping[str, Volume], out_svg: str | os.PathLike) -> Path:
    """BOLD reference with contours of the brain mask and the CompCor regions.

    Parameters
    ----------
    boldref : Volume
        BOLD reference.
    masks : mapping of name to Volume
        Drawn in this order; the first (brain mask) sets the view.
    out_svg : path-like
        File to write.
    """
    first = next(iter(masks.values()), None)
    region = first if first is not None else boldref.like((boldref.data > 0).astype(np.uint8))
    contours = [
        Contour(mask, ROI_COLOURS[number % len(ROI_COLOURS)], name)
        for number, (name, mask) in enumerate(masks.items())
    ]
    layer = Layer(boldref, "BOLD reference", grey_window(boldref, region))
    return write_mosaic(out_svg, [layer], contours, layout_around(region), "Masks on the BOLD")


def plot_tsnr(
    tsnr: Volume, mask: Volume, out_svg: str | os.PathLike, top: float | None = None
) -> Path:
    """Map of the temporal signal-to-noise ratio.

    Parameters
    ----------
    tsnr : Volume
        Mean over standard deviation in time, no unit.
    mask : Volume
        Brain mask on the same grid.
    out_svg : path-like
        File to write.
    top : float, optional
        Value shown white; the 98th percentile in the mask when absent.
    """
    inside = np.nan_to_num(tsnr.data)[mask.data > 0.5]
    if top is None:
        top = float(np.percentile(inside, 98)) if inside.size else 1.0
    median = float(np.median(inside)) if inside.size else float("nan")
    layer = Layer(tsnr, f"tSNR, black 0, white {top:.0f}; median {median:.1f}", (0.0, max(top, 1)))
    contours = [Contour(mask, MASK_COLOUR, "brain mask")]
    return write_mosaic(out_svg, [layer], contours, layout_around(mask), "Temporal SNR")
