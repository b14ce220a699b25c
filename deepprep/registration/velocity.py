"""Stationary velocity fields on a lattice: smoothing, exponential, inverse, folding.

Fields are (3, X, Y, Z) float32 tensors of voxel displacements along the axes of the lattice.
A map is ``x -> x + u(x)``; scaling and squaring follows Arsigny et al. 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from deepprep.registration.warping import invert_field, pull_trilinear

TINY = 1e-7
"""Weight of a Gaussian that is left out, against the middle's."""

INVERSE_TOLERANCE_VOX = 1e-3
"""Residual of an inverse, at the voxels of its lattice, that is good enough."""

INVERSE_ROUNDS = 20
"""Evaluations at a voxel; two are usual."""

MAX_SQUARINGS = 10
"""A field that needs more steps is not a plausible anatomy."""


class Smoother:
    """Separable Gaussian or box filter as one banded matrix for each axis.

    The rows of the matrices sum to one, so that the border is averaged over what is inside.
    Dense products are faster than a convolution at the sizes of a brain, on CPU and GPU.

    Parameters
    ----------
    shape : (X, Y, Z)
        Lattice.
    sigma_vox : float
        Standard deviation of the Gaussian, in voxels.
    box_radius : int, optional
        A box of 2 r + 1 voxels instead.
    device : str or torch.device
        Where it works.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        sigma_vox: float = 0.0,
        *,
        box_radius: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.matrices = []
        for n in shape:
            gap = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(np.float64)
            if box_radius is not None:
                weight = (gap <= box_radius).astype(np.float64)
            else:
                weight = np.exp(-0.5 * (gap / max(sigma_vox, 1e-3)) ** 2)
                # numbers below what float32 holds in full make products ten times slower
                weight[weight < TINY] = 0.0
            weight /= weight.sum(axis=1, keepdims=True)
            self.matrices.append(torch.from_numpy(weight.astype(np.float32)).to(device))

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Filter the last three axes of (C, X, Y, Z)."""
        return along_axes(values, self.matrices)


def along_axes(values: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """(C, X, Y, Z) with each of the last three axes multiplied by its matrix (new size, size)."""
    a, b, c = matrices
    values = torch.einsum("xa,cayz->cxyz", a, values)
    values = torch.einsum("yb,cxbz->cxyz", b, values)
    return values @ c.T


def identity(shape: tuple[int, ...], device: str | torch.device = "cpu") -> torch.Tensor:
    """(3, X, Y, Z) voxel coordinates of the voxel centres."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def sample(values: torch.Tensor, coords: torch.Tensor, padding: str = "border") -> torch.Tensor:
    """Trilinear values of (C, X, Y, Z) at voxel ``coords`` (3, X', Y', Z')."""
    size = torch.tensor(values.shape[1:], dtype=torch.float32, device=values.device)
    scale = (2.0 / (size - 1).clamp(min=1)).reshape(3, 1, 1, 1)
    grid = (coords * scale - 1).flip(0).permute(1, 2, 3, 0)[None]
    return torch.nn.functional.grid_sample(
        values[None], grid, mode="bilinear", padding_mode=padding, align_corners=True
    )[0]


def pull(values: torch.Tensor, field: torch.Tensor, ident: torch.Tensor) -> torch.Tensor:
    """(C, X, Y, Z) values at ``x + field(x)``: what an image becomes under a map."""
    if values.device.type == "cpu" and min(values.shape[1:]) > 1:
        return torch.from_numpy(
            pull_trilinear(values.contiguous().numpy(), field.contiguous().numpy())
        )
    return sample(values, ident + field)


def compose(first: torch.Tensor, second: torch.Tensor, ident: torch.Tensor) -> torch.Tensor:
    """Displacement of: points through ``first``, then through ``second``."""
    return first + pull(second, first, ident)


def exponential(
    velocity: torch.Tensor, ident: torch.Tensor, max_step_vox: float = 0.5
) -> torch.Tensor:
    """Displacement of the flow of ``velocity`` over unit time.

    Parameters
    ----------
    velocity : (3, X, Y, Z) tensor
        Voxels per unit time.
    ident : (3, X, Y, Z) tensor
        ``identity`` of the lattice.
    max_step_vox : float
        Largest displacement of the first, Euler, step.
    """
    largest = float(velocity.abs().max())
    squarings = int(np.ceil(np.log2(max(largest / max_step_vox, 1.0))))
    squarings = min(squarings, MAX_SQUARINGS)
    field = velocity / 2**squarings
    for _ in range(squarings):
        field = compose(field, field, ident)
    return field


def invert(
    field: torch.Tensor,
    guess: torch.Tensor,
    to_field: np.ndarray | None = None,
    shape: tuple[int, int, int] | None = None,
) -> torch.Tensor:
    """Displacement ``w`` with ``w(p) + field(p + w(p)) = 0``, from a good guess.

    Parameters
    ----------
    field, guess : (3, X, Y, Z) tensors
        Voxels. On a GPU they are brought to the CPU for it and back.
    to_field : (4, 4) array, optional
        Voxels of another lattice to voxels of the field: the inverse is wanted at the voxel centres of
        that lattice, still in voxels of the field.
    shape : (X', Y', Z'), optional
        That lattice's.
    """
    given = (t.cpu().contiguous().numpy() for t in (field, guess))
    matrix = np.eye(4) if to_field is None else to_field
    found = invert_field(
        *given, np.ascontiguousarray(matrix[:3], np.float64),
        tuple(field.shape[1:]) if shape is None else shape, INVERSE_TOLERANCE_VOX, INVERSE_ROUNDS,
    )  # fmt: skip
    return torch.from_numpy(found).to(field.device)


def border_window(
    shape: tuple[int, ...], width: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """(X, Y, Z) weights: zero on the border, one from ``width`` voxels inside (raised cosine)."""
    window = torch.ones(shape, device=device)
    for axis, n in enumerate(shape):
        depth = torch.minimum(torch.arange(n), n - 1 - torch.arange(n)).float()
        edge = 0.5 - 0.5 * torch.cos(np.pi * (depth / max(width, 1)).clamp(max=1.0))
        view = [1, 1, 1]
        view[axis] = n
        window = window * edge.reshape(view).to(device)
    return window
