"""Whether reconstructed surfaces look like those of a brain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from deepprep.surface.reconstruct import Hemisphere

THICKNESS_MM = (1.8, 3.2)
"""Mean thickness of a hemisphere outside this range is worth a look."""

AREA_CM2 = (550.0, 1300.0)
"""White surface of the cortex of a hemisphere, cm^2."""

FOLDING_CORRELATION = 0.7
"""Of registered sulcal depth with the average; real heads reach 0.8 to 0.9."""

SYMMETRY = 0.9
"""Ratio of the smaller to the larger side, of mean thickness or area, below which to look."""


def surface_metrics(
    sides: Mapping[str, Hemisphere], info: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """Mean thickness (mm), area (cm^2) and repairs of each hemisphere, as a flat table.

    Parameters
    ----------
    sides : mapping of 'L' and 'R' to Hemisphere
    info : mapping of 'L' and 'R' to the measures of the reconstruction
    """
    out: dict[str, float] = {}
    for side, hemisphere in sides.items():
        inside = hemisphere.cortex
        out[f"thickness_{side}_mm"] = float(hemisphere.overlays["thickness"][inside].mean())
        out[f"white_area_{side}_cm2"] = float(hemisphere.overlays["area"][inside].sum()) / 100.0
        out[f"vertices_{side}"] = float(hemisphere.white.n_vertices)
        for name, value in info[side].items():
            if isinstance(value, int | float):
                out[f"{name}_{side}"] = float(value)
    return out


def surface_warnings(
    sides: Mapping[str, Hemisphere], info: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """One sentence for each measure out of its usual range."""
    metrics = surface_metrics(sides, info)
    out = []
    for side, name in (("L", "left"), ("R", "right")):
        low, high = THICKNESS_MM
        thickness = metrics[f"thickness_{side}_mm"]
        if not low <= thickness <= high:
            out.append(
                f"The mean cortical thickness of the {name} hemisphere is {thickness:.2f} mm, usual "
                f"are {low:g} to {high:g}: look at the figure of the surfaces."
            )
        low, high = AREA_CM2
        area = metrics[f"white_area_{side}_cm2"]
        if not low <= area <= high:
            out.append(
                f"The white surface of the {name} cortex measures {area:.0f} cm2, usual are "
                f"{low:.0f} to {high:.0f}: look at the figure of the surfaces."
            )
    for key, name in (("thickness_{}_mm", "thickness"), ("white_area_{}_cm2", "area")):
        pair = np.array([metrics[key.format(s)] for s in ("L", "R")])
        if pair.min() < SYMMETRY * pair.max():
            out.append(
                f"Left and right cortical {name} differ by more than {100 * (1 - SYMMETRY):.0f} %: "
                "look at the figure of the surfaces."
            )
    return out


_SHOWN = {
    "thickness": ("thickness_{}_mm", "Mean thickness, mm", "{:.2f}"),
    "area": ("white_area_{}_cm2", "White surface of the cortex, cm2", "{:.0f}"),
    "vertices": ("vertices_{}", "Vertices", "{:.0f}"),
    "handles": ("handles_cut_{}", "Handles cut", "{:.0f}"),
    "holes": ("holes_filled_{}", "Holes filled", "{:.0f}"),
    "euler_white": ("euler_white_{}", "Euler number of the white surface (sphere: 2)", "{:.0f}"),
    "crossings_white": ("self_intersections_white_{}", "White: triangles that cross", "{:.0f}"),
    "crossings_between": (
        "crossings_white_pial_{}",
        "Triangles where white and pial cross",
        "{:.0f}",
    ),
    "crossings_pial": ("self_intersections_pial_{}", "Pial: triangles that cross", "{:.0f}"),
}
"""Measure -> its name in the table of metrics, its title in the report, its format."""


_SHOWN_SPHERES = {
    "rigid": (
        "rigid_correlation_{}",
        "Folding with the average, rotated only: correlation",
        "{:.3f}",
    ),
    "registered": ("folding_correlation_{}", "Registered: correlation", "{:.3f}"),
    "areal": (
        "registration_areal_p95_{}",
        "Registration: change of area, 95th percentile, log2",
        "{:.2f}",
    ),
    "sphere": ("sphere_areal_distortion_{}", "Sphere: mean change of area, log2", "{:.2f}"),
    "angle": (
        "sphere_angular_distortion_deg_{}",
        "Sphere: mean change of angles, degrees",
        "{:.1f}",
    ),
    "folds": ("folded_triangles_{}", "Folded triangles", "{:.0f}"),
}


def sphere_metrics(info: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Distortion and agreement of the spheres of both hemispheres, as a flat table.

    Parameters
    ----------
    info : mapping of 'L' and 'R' to the measures of the registration
    """
    return {
        f"{name}_{side}": float(value)
        for side, measures in info.items()
        for name, value in measures.items()
    }


def sphere_warnings(info: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each measure out of its usual range."""
    out = []
    for side, name in (("L", "left"), ("R", "right")):
        found = float(info[side]["folding_correlation"])
        if found < FOLDING_CORRELATION:
            out.append(
                f"The folding of the {name} hemisphere agrees little with the average "
                f"(correlation {found:.2f}, usual is {FOLDING_CORRELATION:g} or more): look at its "
                "parcels, and do not trust group maps of it before."
            )
    return out


def shown_sphere_measures(metrics: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """Rows of the report about the spheres: title -> (left, right)."""
    return _rows(_SHOWN_SPHERES, metrics)


def shown_measures(metrics: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """Rows of the report: title -> (left, right)."""
    return _rows(_SHOWN, metrics)


def _rows(
    shown: Mapping[str, tuple[str, str, str]], metrics: Mapping[str, float]
) -> dict[str, tuple[str, str]]:
    out = {}
    for key, title, form in shown.values():
        if key.format("L") in metrics and key.format("R") in metrics:
            pair = [form.format(metrics[key.format(side)]) for side in ("L", "R")]
            out[title] = (pair[0], pair[1])
    return out
