"""What each tissue looks like: a random T1-weighted contrast.

White matter is 1. Grey structures lie between cortex and white matter at a random fraction.
The ranges are wider than anatomy wants: on a real T1-weighted image the thalamus, putamen and
above all the pallidum are close to white matter (iron, myelin), and where exactly depends on
sequence, field strength and age.
"""

from __future__ import annotations

import torch

from deepprep.segmentation.labels import mirrored
from training.segmentation.fields import Draw
from training.segmentation.labels import SOURCES

DEEP_GREY = {
    (10, 49): (0.25, 1.00),
    (11, 50): (-0.15, 0.45),
    (26, 58): (-0.15, 0.50),
    (12, 51): (-0.05, 0.75),
    (13, 52): (0.35, 1.10),
    (17, 53): (-0.20, 0.30),
    (18, 54): (-0.25, 0.25),
    (28, 60): (0.35, 1.00),
    (16,): (0.45, 1.05),
}
"""Labels -> range of the fraction of the way from cortex (0) to white matter (1)."""

USUAL_GREY = {
    (10, 49): (0.40, 0.85),
    (11, 50): (0.00, 0.35),
    (26, 58): (0.00, 0.40),
    (12, 51): (0.10, 0.50),
    (13, 52): (0.55, 1.00),
    (17, 53): (-0.10, 0.25),
    (18, 54): (-0.15, 0.20),
    (28, 60): (0.50, 0.90),
    (16,): (0.55, 1.00),
}
"""The same for the contrast of most T1-weighted sequences at 1.5 and 3 T."""

EXTRACEREBRAL = {
    502: (0.3, 1.3), 506: (0.05, 0.4), 507: (0.25, 0.8), 508: (0.0, 1.0), 509: (0.0, 0.15),
    511: (0.4, 1.6), 512: (0.6, 1.05), 514: (0.05, 0.8), 515: (0.0, 0.3), 516: (0.3, 1.6),
    530: (0.55, 1.05), 85: (0.55, 1.05),
}  # fmt: skip
"""Label -> range of its intensity (white matter is 1)."""

VENTRICLES = (4, 5, 14, 15, 43, 44)
TEXTURED = {10: 0.07, 49: 0.07, 13: 0.05, 52: 0.05, 16: 0.07, 28: 0.08, 60: 0.08, 3: 0.05, 42: 0.05}
"""Structures with visible inner structure (nuclei, tracts): extra amplitude of texture."""

DRIFT = {
    10: 0.14, 11: 0.08, 12: 0.12, 13: 0.18, 16: 0.10, 17: 0.06, 18: 0.06, 26: 0.10, 28: 0.15,
    2: 0.03, 3: 0.04, 7: 0.05, 8: 0.05,
}  # fmt: skip
"""Left label -> largest standard deviation of a slow change of intensity inside the structure.

Of a real pallidum or thalamus one side is as bright as white matter and the other is not; a network
that has only seen even ones takes the part that it sees for the whole."""


def random_contrast(
    draw: Draw, usual: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean intensity, amplitude of texture and of drift of every entry of SOURCES.

    ``usual`` narrows the contrast to that of most T1-weighted sequences.
    """
    csf = draw.uniform(0.12, 0.34) if usual else draw.uniform(0.02, 0.42)
    cortex = draw.uniform(0.56, 0.76) if usual else draw.uniform(max(0.45, csf + 0.18), 0.86)
    rise = 1.0 - cortex
    mean = {0: 0.0 if draw.chance(0.7) else draw.uniform(0, 0.08), 2: 1.0, 41: 1.0}
    mean |= {3: cortex, 42: cortex}
    for labels, (low, high) in (USUAL_GREY if usual else DEEP_GREY).items():
        fraction = draw.uniform(low, high)
        mean |= dict.fromkeys(labels, cortex + rise * fraction)
    _cerebellum_and_fluid(draw, mean, csf, cortex)
    mean |= {label: draw.uniform(*span) for label, span in EXTRACEREBRAL.items()}
    lesion = csf + (1.0 - csf) * draw.uniform(0.35, 1.0)
    choroid = csf + (cortex - csf) * draw.uniform(0.0, 1.1)
    vessel = draw.uniform(csf, cortex)
    mean |= {25: lesion, 57: lesion, 30: vessel, 62: vessel}
    mean |= dict.fromkeys((136, 137, 163, 164), choroid)

    unruly = draw.uniform(0.05, 0.15) if not usual and draw.chance(0.12) else 0.015
    texture = draw.uniform(0.005, 0.03 if usual else 0.06)
    means, amplitudes, drifts = [], [], []
    uneven = draw.uniform(0.0, 1.0)
    for label in SOURCES:
        shift = 0.0 if label == 0 else draw.uniform(-2 * unruly, 2 * unruly)
        means.append(max(0.0, mean[label] + shift))
        extra = draw.uniform(0, TEXTURED.get(label, 0.02))
        if label >= 500:
            extra = draw.uniform(0.0, 0.3)
        amplitudes.append(0.0 if label == 0 else texture + extra)
        left = label if label in DRIFT else mirrored(label) if label < 100 else label
        drifts.append(uneven * DRIFT.get(left, 0.0))
    return torch.tensor(means), torch.tensor(amplitudes), torch.tensor(drifts)


def _cerebellum_and_fluid(draw: Draw, mean: dict[int, float], csf: float, cortex: float) -> None:
    """Complete ``mean`` with cerebellar and fluid labels."""
    white = draw.uniform(0.80, 1.08)
    grey = min(cortex * draw.uniform(0.85, 1.15), white - 0.06)
    mean |= {7: white, 46: white, 8: grey, 47: grey}
    ventricle = max(0.0, csf * draw.uniform(0.5, 1.05))
    mean |= dict.fromkeys(VENTRICLES, ventricle)
    mean |= dict.fromkeys((24, 72, SOURCES[-1]), csf)
