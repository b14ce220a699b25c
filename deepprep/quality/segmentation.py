"""How sure a whole-brain segmentation is, and whether its volumes are those of a brain."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from deepprep.image.volume import Volume
from deepprep.segmentation.labels import LEFT_RIGHT, STRUCTURES
from deepprep.segmentation.result import Segmentation

UNSURE = 0.35
"""Mean uncertainty of a structure from which it is worth a look."""

ASYMMETRY = 2.0
"""One side this many times the other is worth a look (structures above SMALL_MM3)."""

SMALL_MM3 = 1500.0
"""Below this, volumes of a structure may differ much between the sides."""

CEREBRUM_ML = (250.0, 1100.0)
"""Cerebral white or grey matter of both sides outside this range is not that of a whole brain."""

THICK_MM = 2.5
"""Voxels longer than this hide the cortex, itself 2.5 mm thick, in partial volume."""

VENTRICLES = (4, 5, 43, 44)
"""Their sides may differ much in health."""


def segmentation_metrics(
    labels: Volume, found: Segmentation
) -> tuple[list[dict[str, Any]], dict[str, float], list[str]]:
    """Volumes and uncertainty per structure, summary measures, and what is odd.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers, inside the final mask.
    found : Segmentation
        What the engine returned, on the same lattice.

    Returns
    -------
    structures : list of dict
        ``index``, ``name``, ``volume_mm3`` (from posteriors), ``n_voxels``, ``uncertainty`` (mean).
    summary : dict
        ``seg_uncertainty`` (mean in the brain), ``seg_uncertainty_worst`` (largest of a
        structure), ``volume_<structure>_mm3``.
    warnings : list of str
        One sentence for each oddity, for the report.
    """
    present = [int(v) for v in np.unique(labels.data) if v]
    means = ndimage.mean(found.uncertainty, labels.data, present) if present else []
    counts = np.bincount(labels.data.ravel(), minlength=256)
    uncertainty = dict(zip(present, (float(m) for m in means)))
    structures = []
    for index in sorted({*found.volumes_mm3, *present}):
        structures.append({
            "index": index,
            "name": STRUCTURES.get(index, f"label-{index}"),
            "volume_mm3": round(found.volumes_mm3.get(index, 0.0), 1),
            "n_voxels": int(counts[index]),
            "uncertainty": round(uncertainty[index], 4) if index in uncertainty else None,
        })  # fmt: skip
    brain = labels.data > 0
    worst = max(uncertainty, key=lambda k: uncertainty[k]) if uncertainty else 0
    summary = {
        "seg_uncertainty": float(found.uncertainty[brain].mean()) if brain.any() else float("nan"),
        "seg_uncertainty_worst": uncertainty.get(worst, float("nan")),
    }
    for row in structures:
        name = str(row["name"]).lower().replace("-", "_")
        summary[f"volume_{name}_mm3"] = float(str(row["volume_mm3"]))
    warnings = _oddities(found.volumes_mm3, uncertainty)
    longest = float(labels.zooms_mm.max())
    if longest > THICK_MM:
        warnings.insert(
            0,
            f"Voxels of the T1w are {longest:.1f} mm long, thicker than the cortex: labels, volumes "
            f"and surfaces are unreliable; use an image with voxels of at most {THICK_MM:g} mm.",
        )
    return structures, summary, warnings


def _oddities(volumes: dict[int, float], uncertainty: dict[int, float]) -> list[str]:
    out = []
    small_ones: dict[str, list[str]] = {"left": [], "right": []}
    for left, right in LEFT_RIGHT.items():
        if left in VENTRICLES or left not in volumes or right not in volumes:
            continue
        small, large = sorted((volumes[left], volumes[right]))
        if large > SMALL_MM3 and small < large / ASYMMETRY:
            side = "left" if volumes[left] < volumes[right] else "right"
            name = STRUCTURES[left].removeprefix("Left-")
            small_ones[side].append(f"{name} {small:.0f} against {large:.0f} mm3")
    for side, names in small_ones.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            out.append(
                f"Much smaller on the {side} than on the other side: {', '.join(names[:3])}{more}: "
                "a part of the brain may be missing or mislabelled."
            )
    low, high = CEREBRUM_ML
    for pair, name in (((2, 41), "white"), ((3, 42), "grey")):
        ml = sum(volumes.get(label, 0.0) for label in pair) / 1000.0
        if not low <= ml <= high:
            out.append(
                f"The cerebral {name} matter holds {ml:.0f} ml, usual are {low:.0f} to {high:.0f}: "
                "the image may be incomplete or no T1-weighted head."
            )
    unsure = [STRUCTURES.get(k, str(k)) for k, v in uncertainty.items() if v > UNSURE]
    if len(unsure) > 3:
        out.append(
            f"The segmentation is unsure of {len(unsure)} structures ({', '.join(unsure[:4])}...): "
            "look at its figure."
        )
    return out
