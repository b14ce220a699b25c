"""The embedded network as a segmentation engine; torch is imported only when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepprep.data import DATA
from deepprep.image.volume import Volume
from deepprep.segmentation.result import Segmentation

WEIGHTS = DATA / "weights" / "segmentation.safetensors"
"""Weights of the embedded network; its architecture is in the file's metadata."""

ATLAS = DATA / "atlases" / "structures.npz"
"""Made by ``training/segmentation/structure_atlas.py``; see :mod:`deepprep.segmentation.atlas_prior`."""


class CompactEngine:
    """The engine that needs no download. See :class:`deepprep.segmentation.result.Engine`."""

    name = "deepprep"

    def weight_files(self, models_dir: Path | None = None) -> list[Path] | None:
        """The embedded weights and, so that cached results notice another, the atlas of structures."""
        return [WEIGHTS, ATLAS] if WEIGHTS.is_file() and ATLAS.is_file() else None

    def segment(
        self,
        head: Volume,
        mask: np.ndarray,
        files: Sequence[Path],
        *,
        device: str = "cpu",
        threshold: float = 0.5,
    ) -> Segmentation:
        """Segment a T1w head; see :meth:`deepprep.segmentation.result.Engine.segment`.

        The posterior is the mean of the head's and of its mirror image's, in which an atlas has its share
        about deep structures and cerebellum; cortex, white matter, sulcal fluid and ventricles then
        follow the image (the tissues' fractions do not: see
        :func:`deepprep.segmentation.compact.inference.back_to_head`), and inferior horns keep what
        is fluid; ``uncertainty`` is one minus the
        largest posterior of a voxel, which is its expected error.

        Raises
        ------
        ValueError
            If the mask is empty or the image is constant in it.
        """
        from deepprep.segmentation.atlas_prior import ask_atlas, structure_atlas
        from deepprep.segmentation.compact import inference
        from deepprep.segmentation.compact.network import CLASSES
        from deepprep.segmentation.follow_image import CORTEX, VENTRICLES, follow_image
        from deepprep.segmentation.inferior_horn import empty_inferior_horns
        from deepprep.segmentation.islands import clear_islands, most_likely

        def tidy() -> int:
            return clear_islands(most_likely(posterior), posterior, CLASSES)

        net = inference.load_network(files[0], device)
        prepared = inference.prepare(head, mask)
        posterior, classes = inference.mirrored_posterior(net, prepared, device)
        prepared = prepared.around_brain()
        moved = clear_islands(classes, posterior, CLASSES)
        image = prepared.image[0, 0].numpy()
        labels = np.array(CLASSES, dtype=np.uint8)[classes]
        notes: tuple[str, ...] = ()
        atlas = structure_atlas(ATLAS)
        if ask_atlas(atlas, Volume(image, prepared.grid.affine), labels, posterior, CLASSES):
            moved += tidy()
        else:
            notes = ("The atlas of structures did not fit this brain and was not asked.",)
        moving = {*CORTEX.labels, *VENTRICLES.labels}
        before = {label: posterior[CLASSES.index(label)].copy() for label in moving}
        zooms = prepared.grid.zooms_mm
        changed = [
            follow_image(image, posterior, prepared.inside, CLASSES, zooms, borders)
            for borders in (CORTEX, VENTRICLES)
        ]
        if any(changed):
            moved += tidy()
        if empty_inferior_horns(image, posterior, CLASSES):
            moved += tidy()
        if moved:
            notes += (f"{moved} voxels of detached pieces were relabelled.",)
        return inference.back_to_head(
            posterior, prepared.grid, head.grid, threshold, self.name, notes, before
        )
