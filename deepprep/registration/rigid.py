"""Rigid registration of two volumes."""

from __future__ import annotations

from typing import Literal

from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine

Metric = Literal["nmi", "ncc"]


def register_rigid(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    init: Literal["centre"] | Affine = "centre",
    metric: Metric = "nmi",
    device: str = "cpu",
) -> Affine:
    """Find the rigid map of fixed points to moving points."""
    raise NotImplementedError
