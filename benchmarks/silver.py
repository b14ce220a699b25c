"""What the benchmarks of surfaces share: a silver head, and a hemisphere made as in the pipeline."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.segmentation_accuracy import process
from deepprep.image.volume import Volume
from deepprep.surface.level_set import choose_level_engine, engine_level
from deepprep.surface.reconstruct import Hemisphere, reconstruct_hemisphere
from deepprep.surface.white_sheet import with_white_sheet


def silver_volume(shared: Path, subject: str, name: str, kind: type = np.int32) -> Volume:
    """``mri/NAME.mgz`` of a head of freesurfer-silver (evaluation only), such as ``sub-01``."""
    image = nib.load(shared / "freesurfer-silver" / subject / "mri" / f"{name}.mgz")
    return Volume(np.asarray(image.dataobj).astype(kind), image.affine)


def silver_head(shared: Path, subject: str) -> tuple[Volume, Volume, Volume]:
    """T1w, labels (aseg) and brain mask of a silver head, on one lattice."""
    mask = silver_volume(shared, subject, "brainmask")
    return (
        silver_volume(shared, subject, "T1", np.float32),
        silver_volume(shared, subject, "aseg"),
        mask.like((mask.data > 0).astype(np.uint8)),
    )


def own_head(shared: Path, subject: str) -> tuple[Volume, Volume, Volume]:
    """T1w without bias, our labels and our brain mask of a silver head, as the workflow makes them."""
    corrected, found, brain, _ = process(silver_volume(shared, subject, "T1", np.float32), "auto")
    return corrected, corrected.like(found.labels), corrected.like(brain.mask.astype(np.uint8))


HEADS = {"silver": silver_head, "own": own_head}
"""Whose labels and mask make the surfaces."""


def pipeline_hemisphere(
    side: str,
    t1w: Volume,
    labels: Volume,
    mask: Volume,
    white_posterior: np.ndarray | None = None,
) -> Hemisphere:
    """Surfaces of a hemisphere from the level set of the engine that the pipeline takes."""
    engine = choose_level_engine()
    labels = with_white_sheet(labels, t1w, side)
    level = engine_level(engine.name, engine.files.get(side), side, labels, t1w)
    return reconstruct_hemisphere(
        side, t1w, labels, mask, white_posterior=white_posterior, level=level
    )
