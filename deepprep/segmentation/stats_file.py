"""``stats/aseg.stats`` in FreeSurfer's format: text from rows and measures, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deepprep.segmentation.brain_measures import FROM_LABELS, Measure
from deepprep.segmentation.volumes import StructureVolume

EXCLUDED = (0, 2, 3, 41, 42)
"""Not in the table: cortex and cerebral white matter are measures of the header."""

_COLUMNS = (
    ("Index ", "Index ", "    NA "),
    ("SegId ", "Segmentation Id", "    NA"),
    ("NVoxels ", "Number of Voxels", "    unitless"),
    ("Volume_mm3", "Volume", "    mm^3"),
    ("StructName", "Structure Name", "    NA"),
    ("normMean ", "Intensity normMean", "    MR"),
    ("normStdDev", "Itensity normStdDev", "    MR"),
    ("normMin", "Intensity normMin", "    MR"),
    ("normMax", "Intensity normMax", "    MR"),
    ("normRange", "Intensity normRange", "    MR"),
)
"""Header, field name and unit of each column, spelt and spaced as mri_segstats does."""


@dataclass(frozen=True)
class AsegStats:
    """Content of an aseg.stats.

    Attributes
    ----------
    header : dict of str to str
        Plain header entries, such as ``subjectname``.
    measures : tuple of Measure
        In the order of the file.
    rows : tuple of StructureVolume
        The table.
    """

    header: dict[str, str]
    measures: tuple[Measure, ...]
    rows: tuple[StructureVolume, ...]


def format_stats(
    subject: str,
    version: str,
    measures: Sequence[Measure],
    rows: Sequence[StructureVolume],
    voxel_volume_mm3: float = 1.0,
) -> str:
    """Text of an aseg.stats.

    Parameters
    ----------
    subject : str
        Name of the subject's folder.
    version : str
        Version of this program.
    measures : sequence of Measure
        From :func:`deepprep.segmentation.brain_measures.brain_measures`.
    rows : sequence of StructureVolume
        Table, without :data:`EXCLUDED`.
    voxel_volume_mm3 : float
        Volume of a voxel of aseg.presurf.mgz.

    Returns
    -------
    str
        No times and no names of machines or users: equal input gives equal text.
    """
    named = " ".join(m.name for m in measures if m.name in FROM_LABELS)
    lines = [
        "# Title Segmentation Statistics ",
        "# ",
        "# generating_program deepprep",
        f"# cvs_version {version}",
        "# cmdline deepprep",
        "# anatomy_type volume",
        "# ",
        f"# subjectname {subject}",
        f"# Note computed from labels, not from surfaces: {named}",
        *(_measure_line(m) for m in measures),
        "# SegVolFile mri/aseg.presurf.mgz ",
        "# InVolFile  mri/norm.mgz ",
        "# InVolFrame 0 ",
        "# Excluding Cortical Gray and White Matter",
        f"# ExcludeSegId {' '.join(str(k) for k in EXCLUDED)} ",
        f"# VoxelVolume_mm3 {voxel_volume_mm3:g} ",
    ]
    for n, (header, field, unit) in enumerate(_COLUMNS, start=1):
        lines.append(f"# TableCol {n:2d} ColHeader {header}")
        lines.append(f"# TableCol {n:2d} FieldName {field}")
        lines.append(f"# TableCol {n:2d} Units {unit}")
    names = " ".join(header.strip() for header, _, _ in _COLUMNS)
    lines += [f"# NRows {len(rows)} ", f"# NTableCols {len(_COLUMNS)} ", f"# ColHeaders  {names}  "]
    lines += [_row_line(n, row) for n, row in enumerate(rows, start=1)]
    return "\n".join(lines) + "\n"


def parse_stats(text: str) -> AsegStats:
    """Read an aseg.stats, FreeSurfer's or ours.

    Raises
    ------
    ValueError
        If a row of the table has not ten columns.
    """
    header: dict[str, str] = {}
    measures, rows = [], []
    for line in text.splitlines():
        if line.startswith("# Measure "):
            name, field, words, value, unit = line.removeprefix("# Measure ").split(", ")
            measures.append(Measure(name, field, words, float(value), unit.strip()))
        elif line.startswith("#"):
            key, _, value = line.lstrip("# ").partition(" ")
            if key and key != "TableCol":
                header[key] = value.strip()
        elif line.strip():
            rows.append(_parse_row(line))
    return AsegStats(header, tuple(measures), tuple(rows))


def _measure_line(measure: Measure) -> str:
    value = f"{measure.value:.6f}"
    return (
        f"# Measure {measure.name}, {measure.field}, {measure.description}, {value}, {measure.unit}"
    )


def _row_line(number: int, row: StructureVolume) -> str:
    values = (row.mean, row.sd, row.minimum, row.maximum, row.value_range)
    return (
        f"{number:3d} {row.label:3d}  {row.n_voxels:8d} {row.volume_mm3:10.1f}  {row.name:<30s} "
        + " ".join(f"{v:10.4f}" for v in values)
        + " "
    )


def _parse_row(line: str) -> StructureVolume:
    parts = line.split()
    if len(parts) != len(_COLUMNS):
        raise ValueError(f"a row of aseg.stats has {len(_COLUMNS)} columns, this one: {line!r}")
    return StructureVolume(
        int(parts[1]), parts[4], int(parts[2]), float(parts[3]), *(float(v) for v in parts[5:9])
    )
