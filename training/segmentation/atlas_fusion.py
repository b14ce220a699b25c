"""Labels for real heads that have none: fourteen label maps, registered and fused.

``python -m training.segmentation.atlas_fusion SHARED_DATA WORK --heads NAME ...``

Each label map is painted as a plain T1-weighted brain and registered to MNI152NLin2009cAsym once, each
head once; the maps' labels, carried over, vote with weights by local likeness (Artaechevarria et al.,
IEEE TMI 2009; 28:1266). Putamen and pallidum pull on the registration as one body and the accumbens
not at all, since the network that labels the heads is unsure of them. Every stage is kept in WORK.

Heads: ``ds002748-NN``, ``forrest``, ``bids-ci`` (CC0, PDDL) for training; ``silver-sub-NN`` only to
measure the fusion.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from deepprep.data.templates import template_files
from deepprep.image.bias import correct_bias
from deepprep.image.brain_mask import extract_brain
from deepprep.image.conform import to_ras
from deepprep.image.label_vote import vote
from deepprep.image.resample import input_voxels, resample
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.affine import register_affine
from deepprep.registration.diffeomorphic import LEVELS, register_diffeomorphic
from deepprep.registration.flow import DeformableResult
from deepprep.registration.label_channels import LabelPair
from deepprep.segmentation.atlas_prior import pulling
from deepprep.segmentation.brain import brain_of_labels, with_rim
from deepprep.segmentation.compact.engine import WEIGHTS
from deepprep.segmentation.compact.inference import (
    Prepared,
    load_network,
    mirrored_posterior,
    prepare,
)
from deepprep.segmentation.compact.network import CLASSES
from deepprep.segmentation.labels import mirrored
from training.segmentation.artefacts import blur
from training.segmentation.labels import load_map, target_of_source
from training.segmentation.train import TRAINING_MAPS

TEMPLATE = "MNI152NLin2009cAsym"
PLAIN = {
    24: 0.25, 4: 0.22, 5: 0.22, 14: 0.22, 15: 0.22, 3: 0.65, 8: 0.64, 2: 1.0, 7: 0.97, 10: 0.84, 11: 0.68,
    12: 0.74, 13: 0.92, 16: 0.90, 17: 0.66, 18: 0.64, 26: 0.70, 28: 0.87,
}  # fmt: skip
"""Intensity of each left or middle structure in a painted map; white matter is 1."""

LIKENESS_SD_MM = 4.0
"""Gaussian neighbourhood in which a painted map and a head are compared."""

SHARPNESS = 4
"""Power of the local correlation that makes a map's weight."""


@dataclass(frozen=True)
class Brain:
    """A brain at 1 mm in RAS order: intensities (zero outside) and FreeSurfer labels."""

    image: Volume
    labels: Volume

    def save(self, path: Path) -> None:
        """Keep as one file."""
        np.savez_compressed(
            path, image=self.image.data, labels=self.labels.data, affine=self.image.affine
        )

    @classmethod
    def load(cls, path: Path) -> Brain:
        """Read what :meth:`save` wrote."""
        with np.load(path) as file:
            affine = file["affine"]
            return cls(Volume(file["image"], affine), Volume(file["labels"], affine))


def painted_map(path: Path) -> Brain:
    """A label map as a plain, slightly blurred T1-weighted brain."""
    head = load_map(path)
    classes = target_of_source()[head.sources.numpy()]
    labels = np.array(CLASSES, dtype=np.uint8)[classes]
    values = np.zeros(256, np.float32)
    for label, value in PLAIN.items():
        values[[label, mirrored(label)]] = value
    brain = with_rim(brain_of_labels(np.where(labels == 24, 0, labels), np.ones(3)), np.ones(3))
    labels = np.where(brain, labels, 0).astype(np.uint8)
    image = blur(torch.from_numpy(values[labels]), [0.5] * 3).numpy() * brain
    affine = np.eye(4)
    affine[:3, 3] = -head.centre
    return Brain(Volume(image.astype(np.float32), affine), Volume(labels, affine))


def head_path(name: str, shared: Path) -> Path:
    """T1w file of a head by its short name."""
    if name.startswith("ds002748-"):
        sub = f"sub-{name.removeprefix('ds002748-')}"
        return shared / "ds002748" / sub / "anat" / f"{sub}_T1w.nii.gz"
    if name.startswith("silver-"):
        folder = shared / "freesurfer-silver" / name.removeprefix("silver-")
        return next(folder.rglob("T1.mgz"))
    known = {
        "forrest": "bids-forrest/sub-02/anat/sub-02_T1w.nii.gz",
        "bids-ci": "bids-ci/sub-001/anat/sub-001_T1w.nii.gz",
    }
    return shared / known[name]


def prepared_head(path: Path) -> Prepared:
    """A T1w file as the network takes it."""
    head = to_ras(load_volume(path))
    mask = extract_brain(head).mask
    return prepare(correct_bias(head, mask).corrected, mask)


def real_brain(path: Path) -> tuple[Brain, np.ndarray, np.ndarray]:
    """A head as the network sees it, the network's labels and posterior, and where it was shown.

    Returns
    -------
    brain : Brain
    posterior : (classes, X, Y, Z) uint8 array
        In 255ths.
    inside : (X, Y, Z) bool array
    """
    prepared = prepared_head(path)
    net = load_network(WEIGHTS, "cpu")
    posterior, classes = mirrored_posterior(net, prepared, "cpu")
    prepared = prepared.around_brain()
    labels = np.array(CLASSES, dtype=np.uint8)[classes] * prepared.inside
    affine = prepared.grid.affine
    image = Volume(prepared.image[0, 0].numpy(), affine)
    small = np.empty(posterior.shape, np.uint8)
    for c in range(len(posterior)):
        small[c] = np.rint(posterior[c].astype(np.float32) * 255)
    return Brain(image, Volume(labels.astype(np.uint8), affine)), small, prepared.inside


def template_brain() -> Brain:
    """The template at 1 mm."""
    files = template_files(TEMPLATE, 1)
    assert files.brain is not None and files.aseg is not None
    image = load_volume(files.brain)
    image = image.like(
        (image.data / np.percentile(image.data[image.data > 0], 98)).astype(np.float32)
    )
    return Brain(image, load_volume(files.aseg, np.uint8))


def register(fixed: Brain, moving: Brain) -> DeformableResult:
    """The map of fixed points to moving points and back."""
    pair = LabelPair(pulling(fixed.labels), pulling(moving.labels))
    affine = register_affine(fixed.image, moving.image, labels=pair)
    return register_diffeomorphic(fixed.image, moving.image, affine, labels=pair, levels=LEVELS[:2])


def build_atlases(maps: Path, work: Path, numbers: Sequence[int]) -> list[Path]:
    """Image and labels of the maps of these numbers, in the template's space."""
    template = template_brain()
    paths = []
    for number in numbers:
        out = work / f"atlas_{number:02d}.npz"
        paths.append(out)
        if out.is_file():
            continue
        start = time.process_time()
        brain = painted_map(maps / f"seg_{number:02d}.nii.gz")
        chain = register(template, brain).fixed_to_moving()
        grid = template.image.grid
        Brain(
            resample(brain.image, grid, chain, "linear"),
            resample(brain.labels, grid, chain, "label"),
        ).save(out)
        print(out.name, f"{time.process_time() - start:.0f} CPU-s", flush=True)
    return paths


def prepare_head(name: str, shared: Path, work: Path) -> None:
    """Network's view of a head and its registration to the template."""
    if (work / f"{name}_coords.npy").is_file():
        return
    start = time.process_time()
    brain, posterior, inside = real_brain(head_path(name, shared))
    brain.save(work / f"{name}_brain.npz")
    np.save(work / f"{name}_posterior.npy", posterior)
    np.save(work / f"{name}_inside.npy", inside)
    seen = time.process_time() - start
    template = template_brain()
    back = register(template, brain).moving_to_fixed()
    coords = input_voxels(template.image.grid, brain.image.grid, back).reshape(3, -1)
    np.save(work / f"{name}_coords.npy", np.ascontiguousarray(coords, dtype=np.float32))
    print(name, f"{seen:.0f} + {time.process_time() - start - seen:.0f} CPU-s", flush=True)


def fuse(brain: Brain, coords: np.ndarray, atlases: list[Path]) -> np.ndarray:
    """Share of the atlases' votes for each class at each voxel of a head.

    Parameters
    ----------
    brain : Brain
    coords : (3, N) float32 array
        The head's voxels in the template's.
    atlases : list of Path
        Brains in the template's space.

    Returns
    -------
    (classes, X, Y, Z) float32 array
        Sums to 1.
    """
    grid = brain.image.grid
    votes = np.zeros((len(CLASSES), *grid.shape), np.float32)
    index = np.zeros(256, np.int64)
    index[list(CLASSES)] = np.arange(len(CLASSES))
    total = np.zeros(grid.shape, np.float32)
    for path in atlases:
        atlas = Brain.load(path)
        out = np.empty(coords.shape[1], np.int64)
        vote(atlas.labels.data.astype(np.int64), coords, 0, out)
        shown = ndimage.map_coordinates(atlas.image.data, coords, order=1).reshape(grid.shape)
        weight = np.maximum(local_correlation(brain.image.data, shown), 0.05) ** SHARPNESS
        classes = index[out].reshape(grid.shape)
        for c in np.unique(classes):
            votes[c] += np.where(classes == c, weight, 0)
        total += weight
    return votes / total


def local_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlation of two images in a Gaussian neighbourhood of each voxel; float32."""

    def mean(x: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(x, LIKENESS_SD_MM, truncate=2.5)

    ma, mb = mean(a), mean(b)
    covariance = mean(a * b) - ma * mb
    spread = np.maximum(mean(a * a) - ma * ma, 1e-4) * np.maximum(mean(b * b) - mb * mb, 1e-4)
    return (covariance / np.sqrt(spread)).astype(np.float32)


def main() -> None:
    """Register everything asked for, then fuse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--heads", nargs="+", default=[])
    parser.add_argument("--maps", type=int, nargs="+", default=TRAINING_MAPS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    atlases = build_atlases(given.shared_data / "synthseg-labels", given.work, given.maps)
    for name in given.heads:
        prepare_head(name, given.shared_data, given.work)
        out = given.work / f"{name}_votes.npy"
        if not out.is_file():
            brain = Brain.load(given.work / f"{name}_brain.npz")
            votes = fuse(brain, np.load(given.work / f"{name}_coords.npy"), atlases)
            np.save(out, np.rint(votes * 255).astype(np.uint8))


if __name__ == "__main__":
    main()
