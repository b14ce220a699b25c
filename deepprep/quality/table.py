"""The table of quality measures of a participant: ``sub-X/sub-X_desc-qc_metrics.tsv``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from deepprep.reports.mosaic import write_text

TABLE_SUFFIX = "desc-qc_metrics.tsv"
"""Ending of the file; not a BIDS name, so ``.bidsignore`` must list :data:`BIDSIGNORE_LINE`."""
BIDSIGNORE_LINE = "*_desc-qc_metrics.tsv"


def write_metrics(
    out_dir: str | os.PathLike, subject_label: str, metrics: Mapping[str, Mapping[str, float]]
) -> Path:
    """Write the measures in long form: ``source``, ``metric``, ``value``.

    Parameters
    ----------
    out_dir : path-like
        Root of the derivatives.
    subject_label : str
        With or without ``sub-``.
    metrics : mapping of source to mapping of metric to value
        The source is the name of an image, such as ``sub-01_task-rest_bold``.
    """
    label = subject_label.removeprefix("sub-")
    lines = ["source\tmetric\tvalue"]
    for source, values in metrics.items():
        for metric, value in values.items():
            number = float(value)
            text = f"{number:.6g}" if math.isfinite(number) else "n/a"
            lines.append(f"{_plain(source)}\t{_plain(metric)}\t{text}")
    path = Path(out_dir) / f"sub-{label}" / f"sub-{label}_{TABLE_SUFFIX}"
    return write_text(path, "\n".join(lines) + "\n")


def read_metrics(path: str | os.PathLike) -> dict[str, dict[str, float]]:
    """The inverse of :func:`write_metrics`."""
    table = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"source": str, "metric": str})
    out: dict[str, dict[str, float]] = {}
    for source, metric, value in table.itertuples(index=False):
        out.setdefault(str(source), {})[str(metric)] = float(value)
    return out


def _plain(text: str) -> str:
    return " ".join(str(text).split())
