"""A head on its way to the embedded network and back: lattice, intensities, mirror test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from deepprep.image.compiled import each
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.nn.described_weights import read_weights
from deepprep.segmentation.compact.network import (
    CLASSES,
    STRIDE,
    Architecture,
    SegmentationNet,
    fine_part,
)
from deepprep.segmentation.labels import FLUID, GREY, WHITE
from deepprep.segmentation.lattice import axis_weights, onto_lattice
from deepprep.segmentation.result import Segmentation
from deepprep.segmentation.tissue import bounding_box

ZOOM_MM = 1.0
"""Voxel size the network was trained on."""

MARGIN_MM = 6
"""Room kept around the brain mask."""

TOP_PERCENTILE = 98.0
"""This percentile of the intensity inside the mask becomes 1, as in training."""

CEILING = 1.5
"""Brighter voxels (vessels with contrast agent, fat) are cut here, as in training."""

NEAR_MM = 0.02
"""A voxel size this close to 1 mm is taken as it is, so that nothing is interpolated."""

SLAB = 32
"""Slices whose logits are held at a time."""

ROOM_VOX = 4
"""How far beyond the brain mask the network is asked: masks are imprecise, but not more than that."""

EDGE_VOX = 4
"""Voxels of the head beyond the mask, all shown as 0, that are kept on the way to the network."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Prepared:
    """A head as the network takes it.

    Attributes
    ----------
    image : (1, 1, X, Y, Z) float32 tensor
        RAS order, 1 mm, zero outside the mask, sides multiples of 16.
    origin : (1, 3) float32 tensor
        Position of voxel 0 from the middle of the brain, mm.
    grid : Grid
        Lattice of the image in the world.
    inside : (X, Y, Z) bool array
        Where the network was shown something.
    """

    image: torch.Tensor
    origin: torch.Tensor
    grid: Grid
    inside: np.ndarray

    @property
    def box(self) -> Box:
        """Where the network is asked: the brain and :data:`ROOM_VOX` around it; bounds are even."""
        return _even_box(self.inside)

    def around_brain(self) -> Prepared:
        """What lies in :attr:`box`."""
        first = torch.tensor([[part.start * ZOOM_MM for part in self.box]])
        return Prepared(
            self.image[:, :, *self.box],
            self.origin + first,
            self.grid.part(self.box),
            self.inside[self.box],
        )


def load_network(path: Path, device: str = "cpu") -> SegmentationNet:
    """Network of a safetensors file whose metadata hold its architecture."""
    described, state = read_weights(path)
    described["coarse"] = tuple(described["coarse"])
    net = SegmentationNet(Architecture(**described))
    missing, unknown = net.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(f"{path} is not of this network: {[*missing, *unknown][0]} does not fit")
    return net.to(device, memory_format=torch.channels_last_3d).eval()  # type: ignore[call-overload]


def prepare(head: Volume, mask: np.ndarray) -> Prepared:
    """Bring a head of any orientation and voxel size to the network's lattice and intensities.

    Parameters
    ----------
    head : Volume
        (X, Y, Z) T1w.
    mask : (X, Y, Z) bool array
        Brain.

    Raises
    ------
    ValueError
        If the mask is empty or the image is constant in it.
    """
    mask = mask.astype(bool)
    if not mask.any():
        raise ValueError("the brain mask is empty")
    box = bounding_box(mask, EDGE_VOX)
    head, mask = head.part(box), mask[box]
    data = np.nan_to_num(head.data.astype(np.float32))
    top = float(np.percentile(data[mask], TOP_PERCENTILE))
    if not top > float(np.percentile(data[mask], 2)):
        raise ValueError("the T1w image is constant inside the brain mask")
    # Nothing beyond the mask: dura and marrow look like cortex (shown 2 mm of them, the network
    # lost 0.04 Dice of cortex on a real head).
    shown = head.like(np.where(mask, data, 0.0).clip(0, CEILING * top) / top)
    grid = network_grid(head.grid, mask)
    if _is_crop(head.grid, grid):
        image = _crop(shown, grid, head.grid)
        inside = _crop(head.like(mask.astype(np.float32)), grid, head.grid) > 0.5
    else:
        image = resample(_softened(shown, grid), grid, None, "linear").data
        inside = resample(head.like(mask), grid, None, "linear").data > 0.5
    image = np.where(inside, image, 0).clip(0, CEILING).astype(np.float32)
    middle = np.array([(part.start + part.stop - 1) / 2 for part in bounding_box(inside, 0)])
    return Prepared(
        torch.from_numpy(image)[None, None],
        torch.from_numpy((-middle * ZOOM_MM).astype(np.float32))[None],
        grid,
        inside,
    )


def network_grid(head: Grid, mask: np.ndarray) -> Grid:
    """The mask's box on 1 mm voxels along the head's own axes, in RAS order.

    Where the head's voxels are 1 mm already, the lattice is a crop of the head's.
    """
    import nibabel as nib

    ornt = nib.io_orientation(head.affine)
    # columns of the affine in the order right, anterior, superior
    columns = np.argsort(ornt[:, 0])
    signs = ornt[columns, 1]
    zooms = head.zooms_mm
    directions = head.affine[:3, :3][:, columns] / zooms[columns] * signs
    step = np.where(np.abs(zooms[columns] - ZOOM_MM) < NEAR_MM, zooms[columns], ZOOM_MM)
    voxels = np.argwhere(mask)
    low, high = voxels.min(0), voxels.max(0)
    first = np.where(signs > 0, low[columns], high[columns])  # voxel at the R-, A-, S-most low end
    extent = (high - low)[columns] * zooms[columns]
    margin = np.ceil(MARGIN_MM / step)
    shape = np.ceil(extent / step).astype(int) + 1 + 2 * margin.astype(int)
    shape = -(-shape // STRIDE) * STRIDE
    corner = np.empty(3)
    corner[columns] = first
    start = head.affine[:3, :3] @ corner + head.affine[:3, 3] - directions @ (margin * step)
    affine = np.eye(4)
    affine[:3, :3] = directions * step
    affine[:3, 3] = start
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@torch.inference_mode()
def mirrored_posterior(
    net: SegmentationNet, prepared: Prepared, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Mean posterior of the head and of its mirror image, on the lattice of ``prepared.around_brain()``.

    Returns
    -------
    posterior : (classes, X, Y, Z) float16 array
    labels : (X, Y, Z) uint8 array
        Index of the largest.
    """
    image, origin = prepared.image.to(device), prepared.origin.to(device)
    image = image.contiguous(memory_format=torch.channels_last_3d)
    size = image.shape[2]
    # voxel i of the mirror image lies where voxel n-1-i was
    turned = image.flip(2)
    there = origin * torch.tensor([-1.0, 1.0, 1.0], device=origin.device)
    there[:, 0] -= (size - 1) * ZOOM_MM
    features, of_turned = net.coarse(image, origin), net.coarse(turned, there)
    for_turned = net.sides_swapped()
    box = prepared.box
    inside = prepared.inside[box]
    posterior = np.zeros((len(CLASSES), *inside.shape), dtype=np.float16)
    posterior[0] = 1
    labels = np.zeros(inside.shape, dtype=np.uint8)
    for tile in tiles(inside):
        x, y, z = (slice(b.start + t.start, b.start + t.stop) for b, t in zip(box, tile))
        mean = fine_posterior(net, image, features, (x, y, z))
        mirror = (slice(size - x.stop, size - x.start), y, z)
        mean += fine_posterior(for_turned, turned, of_turned, mirror).flip(0)
        mean /= 2
        labels[tile] = mean.argmax(-1).to(torch.uint8).cpu().numpy()
        posterior[:, *tile] = mean.half().permute(3, 0, 1, 2).cpu().numpy()
    return posterior, labels


def tiles(inside: np.ndarray, thickness: int = SLAB) -> Iterator[Box]:
    """Slabs of a lattice, each as wide as the brain there and :data:`ROOM_VOX`; bounds are even."""
    for start in range(0, inside.shape[0], thickness):
        stop = min(inside.shape[0], start + thickness)
        there = inside[max(0, start - ROOM_VOX) : stop + ROOM_VOX]
        if there.any():
            _, y, z = _even_box(there)
            yield slice(start, stop), y, z


def _even_box(inside: np.ndarray) -> Box:
    """Where the brain is and :data:`ROOM_VOX` around it; bounds are even, as is a lattice's size."""
    x, y, z = (
        slice(part.start // 2 * 2, -(-part.stop // 2) * 2)
        for part in bounding_box(inside, ROOM_VOX)
    )
    return x, y, z


def fine_posterior(
    net: SegmentationNet, image: torch.Tensor, features: torch.Tensor, tile: Box
) -> torch.Tensor:
    """Posterior (x, y, z, classes) float32 in a part of an image (1, 1, X, Y, Z), as in one pass."""
    return fine_part(net, image, features, tile)[0].movedim(0, -1).float().softmax(-1)


def back_to_head(
    posterior: np.ndarray,
    source: Grid,
    grid: Grid,
    threshold: float,
    engine: str,
    notes: tuple[str, ...] = (),
    before: Mapping[int, np.ndarray] | None = None,
) -> Segmentation:
    """Labels, tissues, uncertainty and volumes on the head's own lattice.

    Each class is interpolated (trilinear) and the largest wins, so that borders on a finer
    lattice are smooth. ``before`` holds posteriors (X, Y, Z) of classes, by FreeSurfer's number, from
    before the image was asked: the tissues are made of these, since
    :func:`deepprep.segmentation.partial_volume.tissue_maps` asks the image itself.
    """
    weights = axis_weights(source, grid)
    best = np.zeros(weights.box_shape, dtype=np.float32)
    labels = np.zeros(weights.box_shape, dtype=np.uint8)
    tissues = {name: np.zeros(weights.box_shape, np.float32) for name in ("grey", "white", "fluid")}
    sums = each(lambda part: float(part.sum(dtype=np.float64)), posterior[1:])
    volumes = {c: n * source.voxel_volume_mm3 for c, n in zip(CLASSES[1:], sums)}
    placed = each(lambda part: onto_lattice(part, weights), posterior[1:])
    for label, found in zip(CLASSES[1:], placed):
        if found is None:
            continue
        where, values = found
        better = values > best[where]
        labels[where][better] = label
        np.maximum(best[where], values, out=best[where])
        if before is None or label not in before:
            tissues[tissue_of(label)][where] += values
    for label, part in (before or {}).items():
        found = onto_lattice(part, weights)
        if found is not None:
            tissues[tissue_of(label)][found[0]] += found[1]
    brain = tissues["grey"] + tissues["white"] + tissues["fluid"]
    labels[brain < threshold] = 0
    uncertainty = np.where(labels > 0, 1.0 - best, np.minimum(brain, 1.0)).astype(np.float32)
    return Segmentation(
        labels=weights.place(labels, grid),
        grey=weights.place(tissues["grey"], grid),
        white=weights.place(tissues["white"], grid),
        fluid=weights.place(tissues["fluid"], grid),
        uncertainty=weights.place(uncertainty, grid),
        volumes_mm3=volumes,
        engine=engine,
        notes=notes,
    )


def tissue_of(label: int) -> str:
    """``grey``, ``white`` or ``fluid``: what a structure is made of."""
    if label in GREY:
        return "grey"
    if label in WHITE:
        return "white"
    assert label in FLUID
    return "fluid"


def _softened(volume: Volume, grid: Grid) -> Volume:
    """Blur by what the wider voxels of the target lattice add."""
    import nibabel as nib

    order = np.argsort(nib.io_orientation(volume.affine)[:, 0])
    wider = np.empty(3)
    wider[order] = grid.zooms_mm
    sigma = np.sqrt(np.maximum((wider / volume.zooms_mm) ** 2 - 1, 0)) / 2.355
    if sigma.max() < 0.1:
        return volume
    return volume.like(ndimage.gaussian_filter(volume.data, sigma, truncate=3.0))


def _is_crop(head: Grid, grid: Grid) -> bool:
    index = head.ras2vox @ grid.affine
    return bool(np.allclose(index, np.round(index), atol=1e-3))


def _crop(volume: Volume, grid: Grid, head: Grid) -> np.ndarray:
    """Values at the lattice's voxels, which are voxels of the head; zero beyond its edge."""
    index = np.round(head.ras2vox @ grid.affine)
    out = np.zeros(grid.shape, dtype=np.float32)
    axes = np.abs(index[:3, :3]).argmax(axis=0)
    picks, places = [], []
    for i, axis in enumerate(axes):
        at = index[axis, i] * np.arange(grid.shape[i]) + index[axis, 3]
        valid = np.flatnonzero((at >= 0) & (at < head.shape[axis]))
        picks.append(at[valid].astype(int))
        places.append(valid)
    data = volume.data.transpose(axes)
    out[np.ix_(*places)] = data[np.ix_(*picks)]
    return out
