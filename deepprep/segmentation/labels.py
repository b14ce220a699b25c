"""Brain structures in FreeSurfer's numbering: names, sides, tissues."""

from __future__ import annotations

from collections.abc import Mapping

STRUCTURES: Mapping[int, str] = {
    2: "Left-Cerebral-White-Matter",
    3: "Left-Cerebral-Cortex",
    4: "Left-Lateral-Ventricle",
    5: "Left-Inf-Lat-Vent",
    7: "Left-Cerebellum-White-Matter",
    8: "Left-Cerebellum-Cortex",
    10: "Left-Thalamus",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    14: "3rd-Ventricle",
    15: "4th-Ventricle",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    18: "Left-Amygdala",
    24: "CSF",
    26: "Left-Accumbens-area",
    28: "Left-VentralDC",
    31: "Left-choroid-plexus",
    41: "Right-Cerebral-White-Matter",
    42: "Right-Cerebral-Cortex",
    43: "Right-Lateral-Ventricle",
    44: "Right-Inf-Lat-Vent",
    46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex",
    49: "Right-Thalamus",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
    54: "Right-Amygdala",
    58: "Right-Accumbens-area",
    60: "Right-VentralDC",
    63: "Right-choroid-plexus",
    77: "WM-hypointensities",
    85: "Optic-Chiasm",
}
"""FreeSurfer number -> name, as in FreeSurferColorLUT.txt."""

LEFT_RIGHT: Mapping[int, int] = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54,
    26: 58, 28: 60, 31: 63,
}  # fmt: skip
"""Left structure -> its right twin."""

GREY = (3, 8, 10, 11, 12, 13, 17, 18, 26, 28, 42, 47, 49, 50, 51, 52, 53, 54, 58, 60)
WHITE = (2, 7, 16, 41, 46, 77, 85)
FLUID = (4, 5, 14, 15, 24, 31, 43, 44, 63)
"""Tissue of each structure. The brain stem, mostly tracts, counts as white matter; the ventral
diencephalon as grey, as in FreeSurfer's SubCortGrayVol."""

CORTEX = (3, 8, 42, 47)
DEEP_GREY = tuple(label for label in GREY if label not in CORTEX)


def mirrored(label: int) -> int:
    """The structure on the other side; mid-line structures are their own."""
    if label in LEFT_RIGHT:
        return LEFT_RIGHT[label]
    return {right: left for left, right in LEFT_RIGHT.items()}.get(label, label)
