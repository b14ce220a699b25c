"""Rigid coregistration of a BOLD reference to the T1w image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine


@dataclass(frozen=True)
class Coregistration:
    """Result of ``coregister_bold``; ``t1w_to_bold`` maps T1w points to boldref points."""

    t1w_to_bold: Affine
    method: Literal["bbr", "nmi"]
    reason: str
    cost_init: float
    cost_final: float


def coregister_bold(
    boldref: Volume,
    boldref_mask: Volume | None,
    t1w_brain: Volume,
    white_matter: Volume,
    *,
    device: str = "cpu",
) -> Coregistration:
    """Find the rigid map of T1w points to boldref points: NMI, then the white-matter edge."""
    raise NotImplementedError
