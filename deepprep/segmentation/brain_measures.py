"""Whole-brain measures of FreeSurfer's aseg.stats, from the segmentation alone.

FreeSurfer takes cortex and cerebral white matter from surfaces; here they are the volumes of the
labels (from posteriors where there are some). All others are voxel counts, as FreeSurfer's are.
Names, order and words are those of aseg.stats; the brain stem is in none of them, since how much
of it is in the image depends on the field of view.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SUBCORTICAL_GREY = (10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60)
VENTRICLES_CHOROID = (4, 5, 31, 43, 44, 63)
OTHER_FLUID = (14, 15, 24, 72)
CEREBELLUM = (7, 8, 46, 47)
CEREBELLAR_CORTEX = (8, 47)
CALLOSUM = (251, 252, 253, 254, 255)
VESSELS = (30, 62)
BRAIN_STEM = 16
HYPOINTENSITIES = 77

FROM_LABELS = (
    "BrainSegNotVentSurf", "lhCortex", "rhCortex", "Cortex", "lhCerebralWhiteMatter",
    "rhCerebralWhiteMatter", "CerebralWhiteMatter", "TotalGray", "SupraTentorial",
    "SupraTentorialNotVent",
)  # fmt: skip
"""Measures that FreeSurfer takes from surfaces and that are the volumes of labels here."""


@dataclass(frozen=True)
class Measure:
    """One ``# Measure`` line.

    Attributes
    ----------
    name, field, description : str
        Such as ``SubCortGray``, ``SubCortGrayVol``, ``Subcortical gray matter volume``.
    value : float
        In ``unit``.
    unit : str
        ``mm^3`` or ``unitless``.
    """

    name: str
    field: str
    description: str
    value: float
    unit: str = "mm^3"


def brain_measures(
    labels: np.ndarray,
    brain_mask: np.ndarray,
    voxel_volume_mm3: float,
    posterior_mm3: Mapping[int, float] | None = None,
    etiv_mm3: float | None = None,
) -> tuple[Measure, ...]:
    """Measures of a segmentation in FreeSurfer's order.

    Parameters
    ----------
    labels : (X, Y, Z) integer array
        FreeSurfer numbers (aseg), 0 outside.
    brain_mask : (X, Y, Z) bool array
        Brain mask on the same lattice.
    voxel_volume_mm3 : float
        Volume of a voxel.
    posterior_mm3 : mapping of int to float, optional
        Volumes from posteriors, for cortex and white matter.
    etiv_mm3 : float, optional
        Estimated total intracranial volume; without it there are no ratios.

    Returns
    -------
    tuple of Measure
        BrainSeg
            All labels but the brain stem.
        BrainSegNotVent
            BrainSeg without lateral ventricles, choroid plexus, third, fourth and fifth
            ventricle and CSF.
        BrainSegNotVentSurf
            Cortex + CerebralWhiteMatter + SubCortGray + cerebellum + vessels.
        VentricleChoroidVol
            Lateral and inferior lateral ventricles and choroid plexus.
        lhCortex, rhCortex, Cortex
            Cerebral cortex.
        lhCerebralWhiteMatter, rhCerebralWhiteMatter, CerebralWhiteMatter
            Cerebral white matter with its hypointensities (each side's part of label 77) and half
            of the corpus callosum each, where it is a label of its own.
        SubCortGray
            Thalamus, caudate, putamen, pallidum, hippocampus, amygdala, accumbens, ventral DC.
        TotalGray
            Cortex + SubCortGray + cerebellar cortex.
        SupraTentorial
            Cortex + CerebralWhiteMatter + SubCortGray + VentricleChoroidVol + vessels.
        SupraTentorialNotVent
            SupraTentorial less VentricleChoroidVol.
        SupraTentorialNotVentVox
            The same by counting voxels.
        Mask
            The brain mask.
        BrainSegVol-to-eTIV, MaskVol-to-eTIV
            Ratios.
        EstimatedTotalIntraCranialVol
            ``etiv_mm3``.
    """
    count = np.bincount(labels[labels > 0].ravel(), minlength=256) * voxel_volume_mm3

    def total(*group: int) -> float:
        return float(sum(count[k] for k in group))

    def fine(label: int) -> float:
        return float((posterior_mm3 or {}).get(label, count[label]))

    left_share = _left_share(labels, HYPOINTENSITIES)
    half_callosum = total(*CALLOSUM) / 2
    cortex = fine(3), fine(42)
    spots = fine(HYPOINTENSITIES)
    white = (
        fine(2) + fine(78) + left_share * spots + half_callosum,
        fine(41) + fine(79) + (1 - left_share) * spots + half_callosum,
    )
    white_voxels = total(2, 41, 77, 78, 79, *CALLOSUM)
    deep, ventricles, vessels = (total(*g) for g in (SUBCORTICAL_GREY, VENTRICLES_CHOROID, VESSELS))
    brain = float(count.sum()) - total(BRAIN_STEM)
    above = sum(cortex) + sum(white) + deep + vessels
    mask = float(np.count_nonzero(brain_mask)) * voxel_volume_mm3
    without = "Brain Segmentation Volume Without Ventricles"
    grey_words = "hemisphere cortical gray matter volume"
    white_words = "hemisphere cerebral white matter volume"
    measures = [
        _volume("BrainSeg", "Brain Segmentation Volume", brain),
        _volume("BrainSegNotVent", without, brain - ventricles - total(*OTHER_FLUID)),
        _volume("BrainSegNotVentSurf", f"{without} from Surf", above + total(*CEREBELLUM)),
        Measure(
            "VentricleChoroidVol", "VentricleChoroidVol", "Volume of ventricles and choroid plexus",
            ventricles,
        ),
        _volume("lhCortex", f"Left {grey_words}", cortex[0]),
        _volume("rhCortex", f"Right {grey_words}", cortex[1]),
        _volume("Cortex", "Total cortical gray matter volume", sum(cortex)),
        _volume("lhCerebralWhiteMatter", f"Left {white_words}", white[0]),
        _volume("rhCerebralWhiteMatter", f"Right {white_words}", white[1]),
        _volume("CerebralWhiteMatter", "Total cerebral white matter volume", sum(white)),
        _volume("SubCortGray", "Subcortical gray matter volume", deep),
        _volume(
            "TotalGray", "Total gray matter volume", sum(cortex) + deep + total(*CEREBELLAR_CORTEX)
        ),
        _volume("SupraTentorial", "Supratentorial volume", above + ventricles),
        _volume("SupraTentorialNotVent", "Supratentorial volume", above),
        _volume(
            "SupraTentorialNotVentVox", "Supratentorial volume voxel count",
            total(3, 42) + white_voxels + deep + vessels,
        ),
        _volume("Mask", "Mask Volume", mask),
    ]  # fmt: skip
    if etiv_mm3 is not None:
        for field, value in (("BrainSegVol", brain), ("MaskVol", mask)):
            name = f"{field}-to-eTIV"
            words = f"Ratio of {field} to eTIV"
            measures.append(Measure(name, name, words, value / etiv_mm3, "unitless"))
        measures.append(
            Measure(
                "EstimatedTotalIntraCranialVol", "eTIV", "Estimated Total Intracranial Volume",
                etiv_mm3,
            )
        )  # fmt: skip
    return tuple(measures)


def _volume(name: str, words: str, value: float) -> Measure:
    field = f"{name}Vol"
    for ending in ("NotVentSurf", "NotVentVox", "NotVent"):
        if name.endswith(ending):
            field = name.removesuffix(ending) + "Vol" + ending
            break
    return Measure(name, field, words, value)


def _left_share(labels: np.ndarray, label: int) -> float:
    """Part of an unlateralised label that lies nearer to the left cerebral white matter."""
    spots = np.argwhere(labels == label)
    left, right = np.argwhere(labels == 2), np.argwhere(labels == 41)
    if not len(spots) or not len(left) or not len(right):
        return 0.5
    a, b = left.mean(axis=0), right.mean(axis=0)
    return float(((spots - (a + b) / 2) @ (a - b) > 0).mean())
