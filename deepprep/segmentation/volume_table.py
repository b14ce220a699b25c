"""The BIDS table of structure volumes, and what its columns mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from deepprep.segmentation.brain_measures import Measure
from deepprep.segmentation.volumes import StructureVolume, structure_name

COLUMNS = ("index", "name", "hemisphere", "volume_mm3", "n_voxels", "uncertainty")


def hemisphere(label: int) -> str:
    """``L``, ``R``, or ``n/a`` for structures on the mid-line."""
    name = structure_name(label)
    return "L" if name.startswith("Left-") else "R" if name.startswith("Right-") else "n/a"


def volume_table(
    rows: Sequence[StructureVolume],
    labels: np.ndarray | None = None,
    uncertainty: np.ndarray | None = None,
) -> str:
    """Text of ``desc-aseg_morph.tsv``.

    Parameters
    ----------
    rows : sequence of StructureVolume
        On the lattice of the T1w.
    labels : (X, Y, Z) integer array, optional
        The segmentation, to average the uncertainty over.
    uncertainty : (X, Y, Z) array, optional
        0 (sure) to 1. Without it, or for an empty structure, the column is ``n/a``.

    Returns
    -------
    str
        Tab-separated, one line a structure, with a header.
    """
    means: dict[int, float] = {}
    if labels is not None and uncertainty is not None:
        present = [row.label for row in rows if row.n_voxels]
        found = ndimage.mean(uncertainty, labels, present)
        means = dict(zip(present, np.asarray(found, dtype=float).tolist(), strict=True))
    lines = ["\t".join(COLUMNS)]
    for row in rows:
        mean = f"{means[row.label]:.4f}" if row.label in means else "n/a"
        lines.append(
            f"{row.label}\t{row.name}\t{hemisphere(row.label)}\t{row.volume_mm3:.1f}"
            f"\t{row.n_voxels}\t{mean}"
        )
    return "\n".join(lines) + "\n"


def table_sidecar(
    measures: Sequence[Measure], *, from_posteriors: bool, engine: str
) -> dict[str, Any]:
    """Content of ``desc-aseg_morph.json``: columns with units, engine, whole-brain measures.

    Parameters
    ----------
    measures : sequence of Measure
        Whole-brain measures.
    from_posteriors : bool
        Whether the volumes are sums of posteriors (else counts of voxels).
    engine : str
        Name of the segmentation engine.
    """
    how = (
        "the sum of the structure's posterior probability over the image, times the volume of a "
        "voxel, so that partial volume is kept"
        if from_posteriors
        else "the number of voxels times the volume of a voxel"
    )
    return {
        "SegmentationEngine": engine,
        "index": {"Description": "Number of the structure in FreeSurferColorLUT.txt."},
        "name": {"Description": "FreeSurfer's name of the structure."},
        "hemisphere": {
            "Description": "Side of the body; n/a for structures on the mid-line.",
            "Levels": {"L": "left", "R": "right"},
        },
        "volume_mm3": {"Description": f"Volume: {how}.", "Units": "mm^3"},
        "n_voxels": {"Description": "Voxels of the T1w image with this label.", "Units": "voxel"},
        "uncertainty": {
            "Description": "Mean over the structure of the segmentation's uncertainty, from 0 "
            "(sure) to 1.",
            "Units": "arbitrary",
        },
        "Measures": {
            m.field: {"Description": m.description, "Value": round(m.value, 6), "Units": m.unit}
            for m in measures
        },
    }
