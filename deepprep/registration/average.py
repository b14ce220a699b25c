"""Unbiased average of several scans of one head."""

from __future__ import annotations

from collections.abc import Sequence

from deepprep.image.volume import Volume
from deepprep.registration.transforms import Affine


def robust_average(
    volumes: Sequence[Volume], *, device: str = "cpu"
) -> tuple[Volume, list[Affine]]:
    """Average scans; the maps take average-space points to each input's points."""
    raise NotImplementedError
