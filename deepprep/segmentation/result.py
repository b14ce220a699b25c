"""What every segmentation engine returns, and what it looks like to its callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from deepprep.image.volume import Volume


@dataclass(frozen=True)
class Segmentation:
    """Whole-brain segmentation on the lattice of the image it was made from.

    Attributes
    ----------
    labels : (X, Y, Z) uint8 array
        FreeSurfer numbers of :data:`deepprep.segmentation.labels.STRUCTURES`; 0 outside.
    grey, white, fluid : (X, Y, Z) float32 arrays
        Posterior of the three tissues; their sum falls to 0 outside the brain.
    uncertainty : (X, Y, Z) float32 array
        0 (sure) to 1: what the engine's views or the mirrored head disagree about (engines say
        how in ``notes``).
    volumes_mm3 : dict of int to float
        Volume of each structure from its posterior (partial volume kept).
    engine : str
        Name of the engine, such as ``deepprep``.
    notes : tuple of str
        Fallbacks and choices made on the way, in sentences for the report.
    """

    labels: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    fluid: np.ndarray
    uncertainty: np.ndarray
    volumes_mm3: dict[int, float]
    engine: str
    notes: tuple[str, ...] = field(default=())


class Engine(Protocol):
    """A way to segment a head; the ladder of engines is data (``engines.ENGINES``)."""

    name: str

    def weight_files(self, models_dir: Path | None) -> list[Path] | None:
        """Files of its weights (part of the cache key), or None when they are not there."""

    def segment(
        self,
        head: Volume,
        mask: np.ndarray,
        files: list[Path],
        *,
        device: str,
        threshold: float,
    ) -> Segmentation:
        """Segment a T1w head of any orientation.

        Parameters
        ----------
        head : Volume
            (X, Y, Z) T1w, bias-corrected or not.
        mask : (X, Y, Z) bool array
            Brain mask; engines that were made for whole heads may ignore it.
        files : list of Path
            What :meth:`weight_files` returned.
        device : str
            Torch device.
        threshold : float
            Posterior of "brain" from which a voxel gets a label (0.5: the most likely label).
        """
