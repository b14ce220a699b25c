"""Rigid coregistration of a BOLD reference to the T1w image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.registration.boundary import register_boundary
from deepprep.registration.linear import fit_linear
from deepprep.registration.transforms import Affine

MAX_SHIFT_MM = 10.0
"""Boundary-based registration that moves the centre further than this is not believed."""

MAX_TURN_DEG = 10.0
"""Boundary-based registration that turns further than this is not believed."""

SPACINGS_MM = (4.0, 3.0)
"""Voxel sizes of the mutual-information levels after the multi-start search."""


@dataclass(frozen=True)
class Coregistration:
    """How a BOLD reference lies in T1w space.

    Parameters
    ----------
    t1w_to_bold : Affine
        T1w RAS mm -> boldref RAS mm: ``resample(boldref, t1w.grid, t1w_to_bold)`` puts the
        BOLD image on the T1w lattice.
    method : {'bbr', 'nmi'}
        Which result is used: white-matter edge or mutual information.
    reason : str
        Why, in one sentence for the report.
    cost_init, cost_final : float
        Boundary cost (0 best, 1 no edge) of the mutual-information result and of the result
        of boundary-based registration; NaN where it could not be computed.
    shift_mm, turn_deg : float
        How far boundary-based registration moved the centre and turned the head.
    """

    t1w_to_bold: Affine
    method: Literal["bbr", "nmi"]
    reason: str
    cost_init: float
    cost_final: float
    shift_mm: float = 0.0
    turn_deg: float = 0.0


def coregister_bold(
    boldref: Volume,
    boldref_mask: Volume | None,
    t1w_brain: Volume,
    white_matter: Volume | None,
    *,
    init: Literal["centre"] | Affine = "centre",
    device: str = "cpu",
) -> Coregistration:
    """Find the rigid map of T1w points to boldref points.

    Normalised mutual information from many starting poses, then boundary-based registration;
    when that moves implausibly far or does not sharpen the edge, the former is kept.

    Parameters
    ----------
    boldref : Volume
        (X, Y, Z) BOLD reference.
    boldref_mask : Volume or None
        Its brain mask, on any lattice; helps much.
    t1w_brain : Volume
        Bias-corrected, stripped T1w image.
    white_matter : Volume or None
        Probability or mask of white matter on any lattice of T1w space.
    init : 'centre' or Affine
        ``'centre'`` searches from the centres of mass; an ``Affine`` (T1w points to boldref
        points) is refined.
    device : str
        Unused: compiled CPU code takes a few seconds. Kept so that all engines are called alike.
    """
    # The BOLD image may cover a part of the head, so it is the one whose voxels are counted
    start = init.inverse() if isinstance(init, Affine) else init
    nmi = fit_linear(
        boldref, t1w_brain, fixed_mask=boldref_mask, moving_mask=None, init=start, metric="nmi",
        dof=6, spacings_mm=SPACINGS_MM,
    ).affine.inverse()  # fmt: skip
    nan = float("nan")
    if white_matter is None:
        return Coregistration(nmi, "nmi", "There is no white-matter map.", nan, nan)
    try:
        edge = register_boundary(boldref, white_matter, nmi, bold_mask=boldref_mask)
    except InputError as error:
        return Coregistration(nmi, "nmi", str(error), nan, nan)
    shift_mm, turn_deg = _difference(edge.t1w_to_bold, nmi, t1w_brain.grid.centre_ras)
    costs = (edge.cost_init, edge.cost_final, shift_mm, turn_deg)
    if shift_mm > MAX_SHIFT_MM or turn_deg > MAX_TURN_DEG:
        reason = (
            f"Boundary-based registration moved {shift_mm:.1f} mm and {turn_deg:.1f} degrees from "
            "the mutual-information result, which is implausible, so that result is used."
        )
        return Coregistration(nmi, "nmi", reason, *costs)
    if not edge.cost_final < edge.cost_init:
        reason = "Boundary-based registration did not sharpen the edge (cost not lower)."
        return Coregistration(nmi, "nmi", reason, *costs)
    reason = (
        f"Boundary-based registration lowered the edge cost from {edge.cost_init:.3f} to "
        f"{edge.cost_final:.3f}, moving {shift_mm:.1f} mm and {turn_deg:.1f} degrees."
    )
    return Coregistration(edge.t1w_to_bold, "bbr", reason, *costs)


def _difference(a: Affine, b: Affine, centre: np.ndarray) -> tuple[float, float]:
    shift = np.linalg.norm(a.map_points(centre[None]) - b.map_points(centre[None]))
    turn = (a @ b.inverse()).matrix[:3, :3]
    cosine = np.clip((np.trace(turn) - 1) / 2, -1, 1)
    return float(shift), float(np.degrees(np.arccos(cosine)))
