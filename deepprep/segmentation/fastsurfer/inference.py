"""Three views summed without a buffer of the whole volume.

The official code keeps the logits of 79 classes of 256^3 voxels (5.3 GB in 32 bits). Here only
the voxels of a region of interest have a row of logits, so that a head takes about 1 GB.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from deepprep.segmentation.fastsurfer.labels import (
    ASEG_OF_CLASS,
    BOTH_SIDES,
    CLASSES,
    LEFT_CORTEX,
    RIGHT_CORTEX,
    SAGITTAL_TO_FULL,
    tissue_matrix,
)
from deepprep.segmentation.fastsurfer.views import VIEWS, View, stacks

MAX_FULL_BUFFER_BYTES = 1_500_000_000
"""Larger tables of logits are kept in 16-bit floats, as the official VINN code does."""

ROWS_AT_A_TIME = 100_000
"""Voxels whose posteriors are computed together."""

BATCH_SLICES_CPU, BATCH_SLICES_GPU = 1, 8
"""Slices a forward pass; on a CPU more of them only take memory."""


@dataclass(frozen=True)
class Region:
    """Voxels of a volume that are to be segmented.

    Attributes
    ----------
    mask : (X, Y, Z) bool tensor
    rows : (X, Y, Z) int32 tensor
        Row of each voxel of the mask in tables; counts in the order of the array.
    """

    mask: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, mask: np.ndarray) -> Region:
        """Number the voxels of a mask."""
        inside = torch.from_numpy(np.ascontiguousarray(mask, dtype=bool))
        rows = torch.full(inside.shape, -1, dtype=torch.int32)
        rows[inside] = torch.arange(int(inside.sum()), dtype=torch.int32)
        return cls(inside, rows)

    def __len__(self) -> int:
        return int(self.mask.sum())

    def volume(self, values: np.ndarray) -> np.ndarray:
        """(N,) values of the rows as an (X, Y, Z) array, 0 elsewhere."""
        out = np.zeros(tuple(self.mask.shape), dtype=values.dtype)
        out[self.mask.numpy()] = values
        return out


@dataclass(frozen=True)
class Posteriors:
    """What the summed logits say about the voxels of a region.

    Attributes
    ----------
    tissues : (N, 3) float32 array
        Grey matter, white matter, fluid.
    certainty : (N,) float32 array
        Posterior of the structure that the voxel was given; parcels of the cortex and its two
        sides count as one structure.
    volumes_vox : dict of int to float
        Structure of aseg -> sum of its posteriors over the voxels counted.
    """

    tissues: np.ndarray
    certainty: np.ndarray
    volumes_vox: dict[int, float]


@torch.inference_mode()
def sum_views(
    nets: Mapping[str, nn.Module],
    image: torch.Tensor,
    region: Region,
    *,
    scale: float = 1.0,
    device: str = "cpu",
    batch: int | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> torch.Tensor:
    """Weighted sum of the logits of three views.

    Parameters
    ----------
    nets : mapping
        View name -> network ``net(stacks, (scale, scale))``; sagittal ones may have 51 classes.
    image : (X, Y, Z) uint8 tensor
        Conformed head, LIA.
    region : Region
        Voxels that are wanted; slices without any are not computed.
    scale : float
        1 mm over the voxel size in mm.
    device : str
    batch : int, optional
        Slices a pass.
    dtypes : mapping, optional
        View name -> precision of the network; float32 by default.
    progress : callable, optional
        Told the view, slices done and slices to do.

    Returns
    -------
    (N, 79) tensor on the CPU, float32, or float16 where that would exceed
    :data:`MAX_FULL_BUFFER_BYTES`.
    """
    n_classes = len(CLASSES)
    small = len(region) * n_classes * 4 <= MAX_FULL_BUFFER_BYTES
    table = torch.zeros((len(region), n_classes), dtype=torch.float32 if small else torch.float16)
    batch = batch or (BATCH_SLICES_CPU if device == "cpu" else BATCH_SLICES_GPU)
    for view in VIEWS:
        dtype = (dtypes or {}).get(view.name, torch.float32)
        net = prepared(nets[view.name], device, dtype)
        slices = view.arrange(image).contiguous().to(device)
        wanted = view.arrange(region.mask).contiguous()
        rows = view.arrange(region.rows)
        which = torch.nonzero(wanted.flatten(1).any(1))[:, 0]
        for start in range(0, len(which), batch):
            chosen = which[start : start + batch]
            logits = _logits(net, stacks(slices, chosen), scale, dtype)
            here = wanted[chosen]
            picked = logits.permute(0, 2, 3, 1)[here.to(logits.device)].float()
            table.index_add_(
                0, rows[chosen][here], _full(picked, view).to("cpu", table.dtype), alpha=view.weight
            )
            if progress is not None:
                progress(view.name, min(start + batch, len(which)), len(which))
        del net
    return table


def prepared(net: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    """A copy of the network where and how it runs: channels-last, on its device."""
    net = copy.deepcopy(net).eval().to(device=device, dtype=dtype)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _logits(net: nn.Module, stack: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    stack = stack.to(dtype).contiguous(memory_format=torch.channels_last)
    return net(stack, (scale, scale))


def _full(logits: torch.Tensor, view: View) -> torch.Tensor:
    """(M, 51 or 79) logits to 79 classes."""
    if view.name != "sagittal" or logits.shape[1] == len(CLASSES):
        return logits
    return logits.index_select(1, torch.from_numpy(SAGITTAL_TO_FULL).to(logits.device))


@torch.inference_mode()
def most_likely(table: torch.Tensor, threshold: float = 0.5) -> np.ndarray:
    """Class of each row.

    ``threshold`` is the posterior that a structure needs against background alone: at 0.5 the
    most likely class wins, at 0.8 a structure must be four times as likely as background.

    Returns
    -------
    (N,) int16 array of FreeSurfer numbers.
    """
    threshold = min(max(threshold, 1e-4), 1 - 1e-4)
    handicap = float(np.log(threshold / (1 - threshold)))
    out = np.empty(len(table), dtype=np.int16)
    for start in range(0, len(table), ROWS_AT_A_TIME):
        logits = table[start : start + ROWS_AT_A_TIME].float()
        if handicap:
            logits = logits.clone()
            logits[:, 0] += handicap
        out[start : start + len(logits)] = CLASSES[logits.argmax(1).numpy()]
    return out


@torch.inference_mode()
def posteriors(
    table: torch.Tensor, aseg: np.ndarray, right: np.ndarray, counted: np.ndarray
) -> Posteriors:
    """Tissues, certainty and volumes from the summed logits.

    Parameters
    ----------
    table : (N, 79) tensor
        Summed logits.
    aseg : (N,) uint8 array
        Structure that each voxel was given.
    right : (N,) bool array
        Whether the voxel is in the right hemisphere; decides the side of the parcels that
        stand for both.
    counted : (N,) bool array
        Voxels of the brain: others have no tissue and add nothing to volumes.
    """
    structures = sorted(set(ASEG_OF_CLASS.tolist()) - {LEFT_CORTEX, RIGHT_CORTEX})
    columns = {label: i for i, label in enumerate(structures)}
    cortex = len(structures)
    lookup = np.full(256, columns[0], dtype=np.int64)
    for label, i in columns.items():
        lookup[label] = i
    lookup[[LEFT_CORTEX, RIGHT_CORTEX]] = cortex
    merge = np.zeros((len(CLASSES), cortex + 1), dtype=np.float32)
    merge[np.arange(len(CLASSES)), lookup[ASEG_OF_CLASS]] = 1
    merging = torch.from_numpy(merge)
    into_tissues = torch.from_numpy(tissue_matrix())
    right_only = torch.from_numpy(np.flatnonzero(ASEG_OF_CLASS == RIGHT_CORTEX))
    both_sides = torch.from_numpy(np.flatnonzero(BOTH_SIDES))

    tissues = np.zeros((len(table), 3), dtype=np.float32)
    certainty = np.empty(len(table), dtype=np.float32)
    sums = np.zeros(cortex + 1)
    right_cortex = 0.0
    for start in range(0, len(table), ROWS_AT_A_TIME):
        rows = slice(start, min(len(table), start + ROWS_AT_A_TIME))
        p = table[rows].float().softmax(1)
        keep = torch.from_numpy(counted[rows])[:, None]
        tissues[rows] = ((p @ into_tissues) * keep).numpy()
        merged = p @ merging
        column = torch.from_numpy(lookup[aseg[rows]])[:, None]
        certainty[rows] = merged.gather(1, column)[:, 0].numpy()
        sums += (merged * keep).sum(0, dtype=torch.float64).numpy()
        on_right = torch.from_numpy(right[rows])[:, None] & keep
        right_cortex += float((p[:, right_only] * keep).sum(dtype=torch.float64))
        right_cortex += float((p[:, both_sides] * on_right).sum(dtype=torch.float64))
    volumes = {label: float(sums[i]) for label, i in columns.items() if label}
    volumes[RIGHT_CORTEX] = right_cortex
    volumes[LEFT_CORTEX] = float(sums[cortex]) - right_cortex
    return Posteriors(tissues, certainty, dict(sorted(volumes.items())))
