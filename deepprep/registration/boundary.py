"""Boundary-based registration of a BOLD reference to anatomy."""

from __future__ import annotations

from dataclasses import dataclass

from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine


@dataclass(frozen=True)
class BoundaryResult:
    """Result of ``register_boundary``; ``t1w_to_bold`` maps T1w points to BOLD points."""

    t1w_to_bold: Affine
    cost_init: float
    cost_final: float
    n_points: int


def register_boundary(
    bold_ref: Volume,
    white_matter: Volume,
    init: Affine,
    *,
    bold_mask: Volume | None = None,
    device: str = "cpu",
) -> BoundaryResult:
    """Refine a rigid map of T1w points to BOLD points on the white-matter edge."""
    raise NotImplementedError
