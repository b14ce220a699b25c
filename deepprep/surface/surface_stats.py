"""What each parcel measures, and ``?h.aparc.stats`` in FreeSurfer's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from deepprep.surface.measures import vertex_volumes
from deepprep.surface.mesh import Mesh

COLUMNS = (
    ("StructName", "Structure Name", "NA"),
    ("NumVert", "Number of Vertices", "unitless"),
    ("SurfArea", "Surface Area", "mm^2"),
    ("GrayVol", "Gray Matter Volume", "mm^3"),
    ("ThickAvg", "Average Thickness", "mm"),
    ("ThickStd", "Thickness StdDev", "mm"),
    ("MeanCurv", "Integrated Rectified Mean Curvature", "mm^-1"),
    ("GausCurv", "Integrated Rectified Gaussian Curvature", "mm^-2"),
    ("FoldInd", "Folding Index", "unitless"),
    ("CurvInd", "Intrinsic Curvature Index", "unitless"),
)
"""Header, field name and unit of each column, as mris_anatomical_stats spells them."""


NO_TIME = "1970/01/01-00:00:00-GMT"
"""Written as the time of creation: readers of FreeSurfer's format parse it as a time."""

SIDES = {"lh": "L", "rh": "R"}


@dataclass(frozen=True)
class ParcelStats:
    """One row of the table; attributes are named as the columns.

    Parameters
    ----------
    name : str
    n_vertices : int
    area_mm2 : float
        On the white surface.
    volume_mm3 : float
        Between white and pial surface.
    thickness_mm, thickness_sd_mm : float
    mean_curvature : float
        Mean over the vertices of the size of the mean curvature, 1/mm.
    gaussian_curvature : float
        Mean over the vertices of the size of the Gaussian curvature, 1/mm^2.
    folding_index : float
        Integral of abs(k1) (abs(k1) - abs(k2)) over 4 pi.
    curvature_index : float
        Integral of the positive part of k1 k2 over 4 pi.
    """

    name: str
    n_vertices: int
    area_mm2: float
    volume_mm3: float
    thickness_mm: float
    thickness_sd_mm: float
    mean_curvature: float
    gaussian_curvature: float
    folding_index: float
    curvature_index: float


@dataclass(frozen=True)
class HemisphereStats:
    """All parcels of one hemisphere and the whole of its cortex."""

    hemi: str
    parcels: tuple[ParcelStats, ...]
    n_vertices: int
    white_area_mm2: float
    mean_thickness_mm: float


def measure_parcels(
    hemi: str,
    white: Mesh,
    pial: Mesh,
    thickness: np.ndarray,
    k1: np.ndarray,
    k2: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    cortex: np.ndarray | None = None,
) -> HemisphereStats:
    """Measure every parcel of one hemisphere on that hemisphere's own surfaces.

    Parameters
    ----------
    hemi : {'lh', 'rh'}
        Whose surfaces these are.
    white, pial : Mesh
        With the same triangles, RAS+ mm.
    thickness : (V,) array
        mm.
    k1, k2 : (V,) arrays
        Principal curvatures of the white surface, 1/mm.
    labels : (V,) int array
        Rows of ``names``.
    names : sequence of str
    cortex : (V,) bool array, optional
        Default: where the label is neither -1 nor 0.

    Returns
    -------
    HemisphereStats
        Parcels with vertices in the order of ``names``, without row 0 (``unknown``).

    Raises
    ------
    ValueError
        Where ``hemi`` is neither lh nor rh, the arrays do not fit the surfaces, or the surface lies
        on the other side of the head.
    """
    if hemi not in ("lh", "rh"):
        raise ValueError(f"a hemisphere is lh or rh, not {hemi}")
    n = white.n_vertices
    for what, values in (
        ("thickness", thickness),
        ("curvatures", k1),
        ("curvatures", k2),
        ("labels", labels),
    ):
        if len(values) != n:
            raise ValueError(f"{len(values)} {what} for a surface of {n} vertices")
    if not np.array_equal(white.faces, pial.faces):
        raise ValueError("white and pial surface must have the same triangles")
    labels = np.asarray(labels)
    inside = labels > 0 if cortex is None else np.asarray(cortex, dtype=bool)
    area, volume = white.vertex_areas, vertex_volumes(white, pial)
    mean_curvature, gaussian = np.abs(0.5 * (k1 + k2)), k1 * k2
    folding = np.abs(k1) * (np.abs(k1) - np.abs(k2)) * area / (4 * np.pi)
    intrinsic = np.maximum(gaussian, 0) * area / (4 * np.pi)
    rows = []
    for index, name in enumerate(names):
        at = (labels == index) & inside
        if index == 0 or not at.any():
            continue
        rows.append(
            ParcelStats(
                name,
                int(at.sum()),
                float(area[at].sum()),
                float(volume[at].sum()),
                float(thickness[at].mean()),
                float(thickness[at].std()),
                float(mean_curvature[at].mean()),
                float(np.abs(gaussian[at]).mean()),
                float(folding[at].sum()),
                float(intrinsic[at].sum()),
            )
        )
    return HemisphereStats(
        hemi,
        tuple(rows),
        int(inside.sum()),
        float(area[inside].sum()),
        float(np.average(thickness[inside], weights=area[inside])) if inside.any() else 0.0,
    )


def format_aparc_stats(
    stats: HemisphereStats, subject: str, annotation: str, version: str, extra: Sequence[str] = ()
) -> str:
    """Text of ``?h.aparc.stats``.

    Parameters
    ----------
    stats : HemisphereStats
    subject : str
    annotation : str
        Name of the annotation file, e.g. ``lh.aparc.annot``.
    version : str
        Of this program.
    extra : sequence of str
        Further ``Measure`` lines, without ``# Measure``.

    Returns
    -------
    str
        No time (see NO_TIME) and no names of machines or users: equal input gives equal text.

    Raises
    ------
    ValueError
        Where the annotation is that of the other hemisphere.
    """
    if not annotation.startswith(stats.hemi + "."):
        raise ValueError(f"{annotation} is not an annotation of {stats.hemi}")
    lines = [
        "# Table of FreeSurfer cortical parcellation anatomical statistics ",
        "# ",
        f"# CreationTime {NO_TIME}",
        "# generating_program deepprep",
        f"# cvs_version {version}",
        "# sysname none",
        "# hostname none",
        "# machine none",
        "# user none",
        "# ",
        f"# SUBJECTS_DIR {subject}",
        "# anatomy_type surface",
        f"# subjectname {subject}",
        f"# hemi {stats.hemi}",
        f"# AnnotationFile {annotation}",
        f"# Measure Cortex, NumVert, Number of Vertices, {stats.n_vertices}, unitless",
        f"# Measure Cortex, WhiteSurfArea, White Surface Total Area, {stats.white_area_mm2:.0f}, mm^2",
        f"# Measure Cortex, MeanThickness, Mean Thickness, {stats.mean_thickness_mm:.5f}, mm",
        *(f"# Measure {line}" for line in extra),
        f"# NTableCols {len(COLUMNS)}",
    ]
    for number, (header, field, unit) in enumerate(COLUMNS, start=1):
        lines.append(f"# TableCol {number:2d} ColHeader {header}")
        lines.append(f"# TableCol {number:2d} FieldName {field}")
        lines.append(f"# TableCol {number:2d} Units     {unit}")
    lines.append("# ColHeaders " + " ".join(header for header, _, _ in COLUMNS))
    for p in stats.parcels:
        lines.append(
            f"{p.name:<40s} {p.n_vertices:5d} {p.area_mm2:6.0f} {p.volume_mm3:6.0f} "
            f"{p.thickness_mm:6.3f} {p.thickness_sd_mm:5.3f} {p.mean_curvature:8.3f} "
            f"{p.gaussian_curvature:8.3f} {p.folding_index:8.0f} {p.curvature_index:7.1f}"
        )
    return "\n".join(lines) + "\n"


def parse_aparc_stats(text: str) -> tuple[dict[str, str], tuple[ParcelStats, ...]]:
    """Header entries and rows of an aparc.stats."""
    header: dict[str, str] = {}
    rows = []
    for line in text.splitlines():
        if line.startswith("# Measure "):
            parts = [p.strip() for p in line[len("# Measure ") :].split(",")]
            header[parts[1]] = parts[3]
        elif line.startswith("#"):
            key, _, value = line[1:].strip().partition(" ")
            header.setdefault(key, value.strip())
        elif line.strip():
            name, n_vertices, *numbers = line.split()
            rows.append(ParcelStats(name, int(n_vertices), *(float(x) for x in numbers)))
    return header, tuple(rows)


DESCRIPTIONS: Mapping[str, tuple[str, str]] = {
    "n_vertices": ("Vertices of the parcel.", "vertex"),
    "area_mm2": ("Area on the white surface.", "mm^2"),
    "volume_mm3": ("Volume between white and pial surface.", "mm^3"),
    "thickness_mm": ("Mean over the vertices of the cortical thickness.", "mm"),
    "thickness_sd_mm": ("Standard deviation over the vertices of the thickness.", "mm"),
    "mean_curvature": ("Mean over the vertices of the size of the mean curvature.", "1/mm"),
    "gaussian_curvature": (
        "Mean over the vertices of the size of the Gaussian curvature.",
        "1/mm^2",
    ),
    "folding_index": ("Integral of abs(k1) (abs(k1) - abs(k2)) over 4 pi.", "arbitrary"),
    "curvature_index": ("Integral of the positive part of k1 k2 over 4 pi.", "arbitrary"),
}
"""Column of the table -> what it is, its unit."""


def format_table(stats: Sequence[HemisphereStats]) -> str:
    """Text of a TSV over both hemispheres, one row a parcel, columns named with their units."""
    lines = ["\t".join(["hemisphere", "name", *DESCRIPTIONS])]
    for side in stats:
        for parcel in side.parcels:
            values = (getattr(parcel, column) for column in DESCRIPTIONS)
            cells = [str(v) if isinstance(v, int) else f"{v:.6g}" for v in values]
            lines.append("\t".join([SIDES[side.hemi], parcel.name, *cells]))
    return "\n".join(lines) + "\n"


def table_sidecar() -> dict[str, object]:
    """Descriptions of the columns of :func:`format_table`."""
    levels = {"L": "left", "R": "right"}
    return {
        "hemisphere": {"Description": "Side of the body.", "Levels": levels},
        "name": {"Description": "Name of the parcel in its atlas."},
        **{
            column: {"Description": text, "Units": unit}
            for column, (text, unit) in DESCRIPTIONS.items()
        },
    }
