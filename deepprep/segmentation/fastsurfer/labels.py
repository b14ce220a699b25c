"""FastSurfer's classes: FreeSurfer numbers, sagittal classes, tissues.

Axial and coronal networks tell 79 classes: structures of aseg without cortex, the 31 cortical
parcels of the Desikan-Killiany-Tourville (DKT) atlas, and 14 of them again for the right side:
those whose left and right parts touch. The other 17 parcels stand for both sides. The sagittal
network has no sides at all: 51 classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deepprep.segmentation.labels import FLUID, GREY, LEFT_RIGHT, WHITE

LEFT_WHITE, RIGHT_WHITE = 2, 41
LEFT_CORTEX, RIGHT_CORTEX = 3, 42
LEFT_PARCELS = 1000
"""Cortical parcels of the left side are this and their number in the atlas."""

RIGHT_PARCELS = 2000

SUBCORTICAL = (
    2, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 31,
    41, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60, 63, 77,
)  # fmt: skip
PARCELS = tuple(LEFT_PARCELS + n for n in range(2, 36) if n not in (4, 32, 33))
SIDED_PARCELS = tuple(
    RIGHT_PARCELS + n for n in (2, 5, 10, 12, 13, 14, 16, 17, 21, 22, 23, 24, 25, 28)
)

CLASSES = np.array((0, *SUBCORTICAL, *PARCELS, *SIDED_PARCELS), dtype=np.int16)
"""(79,) FreeSurfer number of each channel of the axial and coronal networks."""

SAGITTAL_CLASSES = np.array(
    (0, *(n for n in SUBCORTICAL if n not in LEFT_RIGHT), *PARCELS), dtype=np.int16
)
"""(51,) FreeSurfer number of each sagittal channel; one of two sides stands for both."""

PARCEL_NAMES: Mapping[int, str] = {
    2: "caudalanteriorcingulate", 3: "caudalmiddlefrontal", 5: "cuneus", 6: "entorhinal",
    7: "fusiform", 8: "inferiorparietal", 9: "inferiortemporal", 10: "isthmuscingulate",
    11: "lateraloccipital", 12: "lateralorbitofrontal", 13: "lingual",
    14: "medialorbitofrontal", 15: "middletemporal", 16: "parahippocampal", 17: "paracentral",
    18: "parsopercularis", 19: "parsorbitalis", 20: "parstriangularis", 21: "pericalcarine",
    22: "postcentral", 23: "posteriorcingulate", 24: "precentral", 25: "precuneus",
    26: "rostralanteriorcingulate", 27: "rostralmiddlefrontal", 28: "superiorfrontal",
    29: "superiorparietal", 30: "superiortemporal", 31: "supramarginal",
    34: "transversetemporal", 35: "insula",
}  # fmt: skip
"""DKT parcel (number in the atlas) -> name."""


def _sagittal_channel(label: int) -> int:
    """Channel of the sagittal network that stands for a FreeSurfer number."""
    if label >= RIGHT_PARCELS:
        label -= RIGHT_PARCELS - LEFT_PARCELS
    label = LEFT_RIGHT.get(label, label)
    return int(np.flatnonzero(label == SAGITTAL_CLASSES)[0])


SAGITTAL_TO_FULL = np.array([_sagittal_channel(int(n)) for n in CLASSES], dtype=np.int64)
"""(79,) sagittal channel that each of the 79 classes takes its logits from."""

ASEG_OF_CLASS = np.where(
    CLASSES >= RIGHT_PARCELS, RIGHT_CORTEX, np.where(CLASSES >= LEFT_PARCELS, LEFT_CORTEX, CLASSES)
)
"""(79,) structure of aseg; parcels of both sides count as left here."""

BOTH_SIDES = np.array(
    [LEFT_PARCELS <= n < RIGHT_PARCELS and n + 1000 not in SIDED_PARCELS for n in CLASSES]
)
"""(79,) whether the class stands for both hemispheres."""


def tissue_matrix() -> np.ndarray:
    """(79, 3) float32: 1 where a class is grey matter, white matter, fluid."""
    out = np.zeros((len(CLASSES), 3), dtype=np.float32)
    for column, members in enumerate((GREY, WHITE, FLUID)):
        out[np.isin(ASEG_OF_CLASS, members), column] = 1.0
    return out
