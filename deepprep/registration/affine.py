"""Affine registration of two heads."""

from __future__ import annotations

from typing import Literal

from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine


def register_affine(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    init: Literal["centre"] | Affine = "centre",
    metric: Literal["nmi", "ncc"] = "nmi",
    dof: int = 12,
    device: str = "cpu",
) -> Affine:
    """Find the affine map of fixed points to moving points."""
    raise NotImplementedError
