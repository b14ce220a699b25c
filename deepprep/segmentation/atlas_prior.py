"""What a dozen labelled brains say about a voxel, beside what the network says.

A compact network draws structures whose border the image hardly shows (posterior putamen, amygdala,
accumbens) raggedly; where they lie in other people bounds that. The average of label maps in template
space is carried to the head by an affine and one coarse deformable level, and has its share in the
posterior of solid structures near it (a fixed-weight form of atlas fusion; Iglesias & Sabuncu, Medical
Image Analysis 2015; 24:205). About ventricles only the network is asked: a dozen brains say nothing
about those of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from deepprep.data.templates import template_files
from deepprep.image.compiled import each
from deepprep.image.volume import Grid, Volume
from deepprep.registration.centroids import start_from_labels
from deepprep.registration.diffeomorphic import rough_map
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.transforms import Chain

TEMPLATE = "MNI152NLin2009cAsym"

FLUID = (0, 24, 4, 5, 14, 15, 43, 44)
"""Classes about which only the network is asked."""

SPREAD = (2, 3, 41, 42)
"""Solid classes that take what the others leave, but are not themselves asked about."""

SHARE = 0.4
"""Weight of the atlas: a network that is sure by more than five sixths is not outvoted."""

EVIDENCE = 0.125
"""From such a share of asked structures, and of solid ones, the atlas has its whole weight."""

REACH_VOX = 3
"""How far beyond the network's own structures the atlas is asked."""

LEAST_SCALE = 0.3
"""Least volume of the template in that of the head; below, or mirrored, structures are mixed up."""

UNSURE = {13: 12, 52: 51, 26: 0, 58: 0}
"""How structures that the network is unsure of enter the registration: pallidum with putamen as one
body, accumbens not at all."""

LEAST_AGREEMENT = 0.6
"""With a lower share of the network's structures at their place in the atlas, it is not used."""


@dataclass(frozen=True)
class StructureAtlas:
    """Shares of structures in template space, and the template itself.

    Attributes
    ----------
    shares : (C, X, Y, Z) uint8 array
        Part of the label maps that have a class there, in 255ths.
    classes : tuple of int
        FreeSurfer number of each class.
    grid : Grid
        Lattice of the shares.
    brain, labels : Volume
        The stripped template and its structures at 2 mm.
    """

    shares: np.ndarray
    classes: tuple[int, ...]
    grid: Grid
    brain: Volume
    labels: Volume


@lru_cache(maxsize=1)
def structure_atlas(path: Path) -> StructureAtlas:
    """The atlas of a file that ``training/segmentation/structure_atlas.py`` wrote."""
    with np.load(path) as file:
        shares, classes, affine = file["shares"], file["classes"], file["affine"]
    files = template_files(TEMPLATE, 2)
    assert files.brain is not None and files.aseg is not None  # they come with the package
    brain, labels = (nib.nifti1.Nifti1Image.from_filename(f) for f in (files.brain, files.aseg))
    return StructureAtlas(
        shares,
        tuple(int(c) for c in classes),
        Grid(shares.shape[1:], affine),
        Volume(np.asarray(brain.dataobj, dtype=np.float32), brain.affine),
        Volume(np.asarray(labels.dataobj).astype(np.uint8), labels.affine),
    )


def ask_atlas(
    atlas: StructureAtlas,
    head: Volume,
    labels: np.ndarray,
    posterior: np.ndarray,
    classes: Sequence[int],
) -> bool:
    """Give an atlas its share in the posterior of solid structures, in place.

    Parameters
    ----------
    atlas : StructureAtlas
    head : Volume
        (X, Y, Z) T1w, zero outside the brain.
    labels : (X, Y, Z) array
        FreeSurfer number of the most likely class.
    posterior : (C, X, Y, Z) float array
        Changed in place; its sum over the classes stays what it was, as does each class of fluid.
    classes : sequence of int
        FreeSurfer number of each of the C classes.

    Returns
    -------
    bool
        False where the atlas does not fit the head; the posterior is then as it was.

    Raises
    ------
    ValueError
        The atlas has other classes.
    """
    if atlas.classes != tuple(classes):
        raise ValueError("the classes of the atlas of structures are not those of the posterior")
    solid = [i for i, c in enumerate(classes) if c not in FLUID]
    asked = [i for i in solid if classes[i] not in SPREAD]
    own = np.isin(labels, [classes[i] for i in asked])
    if not own.any():
        return False
    to_template = registered(head, head.like(labels.astype(np.uint8)), atlas)
    if to_template is None:
        return False
    here = np.flatnonzero(ndimage.maximum_filter(own, size=2 * REACH_VOX + 1))
    coords = _voxels(here, head.grid, to_template, atlas.grid)
    near = _sampled(atlas.shares[asked].sum(0, dtype=np.uint16), coords)
    if near[own.ravel()[here]].mean() < LEAST_AGREEMENT:
        return False
    coords, here, near = coords[:, near > 0], here[near > 0], near[near > 0]
    where = np.unravel_index(here, head.shape)
    atlas_says = np.stack(each(lambda i: _sampled(atlas.shares[i], coords), solid))
    net_says = np.stack([posterior[i][where] for i in solid]).astype(np.float32)
    theirs, ours = atlas_says.sum(0), net_says.sum(0)
    weight = SHARE * np.minimum(near / EVIDENCE, 1) * np.minimum(theirs / EVIDENCE, 1)
    atlas_says *= ours / np.maximum(theirs, 1e-6)
    for row, i in enumerate(solid):
        posterior[i][where] = net_says[row] + weight * (atlas_says[row] - net_says[row])
    return True


def registered(head: Volume, labels: Volume, atlas: StructureAtlas) -> Chain | None:
    """Map of the head's points to the template's; None where its structures are too few or elsewhere."""
    pair = LabelPair(pulling(labels), pulling(atlas.labels))
    start = start_from_labels(pair, 12)
    if start is None or np.linalg.det(start.matrix[:3, :3]) < LEAST_SCALE:
        return None
    return rough_map(head, atlas.brain, start, pair)


def pulling(labels: Volume) -> Volume:
    """Labels as they pull on a registration whose heads a network labelled; uint8."""
    table = np.arange(256, dtype=np.uint8)
    table[list(UNSURE)] = list(UNSURE.values())
    return labels.like(table[labels.data])


def _voxels(index: np.ndarray, grid: Grid, to_template: Chain, target: Grid) -> np.ndarray:
    """(3, N) voxel coordinates in ``target`` of voxels of ``grid`` given by their flat index."""
    ijk = np.stack(np.unravel_index(index, grid.shape), axis=1)
    there = to_template.map_points(ijk @ grid.affine[:3, :3].T + grid.affine[:3, 3])
    return (there @ target.ras2vox[:3, :3].T + target.ras2vox[:3, 3]).T.astype(np.float32)


def _sampled(shares: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Trilinear values at voxel coordinates (3, N) of shares in 255ths; 0 to 1 and 0 outside."""
    out = np.empty(coords.shape[1], np.float32)
    ndimage.map_coordinates(shares.astype(np.float32), coords, output=out, order=1)
    return out / 255
