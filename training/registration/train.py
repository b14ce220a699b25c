"""Train the compact deformation network, in as many legs as it takes.

``python -m training.registration.train --run FOLDER --labels FOLDER --steps N``

As SynthMorph was (Hoffmann et al., IEEE TMI 2022; 41:543-558): soft Dice of the structures once the
moving labels are carried by the flow of the velocity, and the squared slope of the displacement. The
same command resumes where the last leg stopped. ``--export FILE`` writes the averaged weights for the
package and stops.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
import torch.nn.functional as F

from deepprep.data.templates import template_files
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.synthmorph.compact import FILTERS, CompactDeformation
from training import trainer
from training.registration.generator import USUAL, Pair, PairGenerator, Setting, anatomies
from training.segmentation.labels import labels_folder, load_maps

TRAINING_MAPS = tuple(range(1, 15))
VALIDATION_MAPS = (15, 16)
VALIDATION_SEED = 900_000
N_VALIDATION = 4
SQUARINGS = 5
TEMPLATE = "MNI152NLin2009cAsym"


def flow(velocity: torch.Tensor) -> torch.Tensor:
    """(B, 3, X, Y, Z) displacement of a velocity over unit time, voxels of its lattice.

    Scaling and squaring with slopes for the training (Arsigny et al., MICCAI 2006).
    """
    field = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        field = field + carried(field, field)
    return field


def carried(values: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """(B, C, X, Y, Z) values at ``x + field(x)``; the border's value outside."""
    shape = field.shape[2:]
    axes = [torch.arange(n, dtype=field.dtype, device=field.device) for n in shape]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] + field
    size = torch.tensor(shape, dtype=field.dtype, device=field.device).view(1, 3, 1, 1, 1)
    # grid_sample wants (z, y, x) order in units of half the lattice's extent
    grid = (2 * at / (size - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    return F.grid_sample(values, grid, padding_mode="border", align_corners=True)


def dice(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Soft Dice of each map of (1, G, X, Y, Z) shares that both sides have; (G',)."""
    volume = (first.sum((2, 3, 4)), second.sum((2, 3, 4)))
    there = (volume[0] > 8) & (volume[1] > 8)
    both = 2 * (first * second).sum((2, 3, 4))
    return (both / (first**2 + second**2).sum((2, 3, 4)).clamp(min=1e-3))[there]


def roughness(field: torch.Tensor) -> torch.Tensor:
    """Mean squared slope of a displacement, per axis pair."""
    return sum(torch.diff(field, dim=d).pow(2).mean() for d in (2, 3, 4)) / 3  # type: ignore[return-value]


class Trainer(trainer.Trainer):
    """The deformation network and its pairs."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.make: PairGenerator | None = None
        self.check: PairGenerator | None = None
        filters = tuple(args.filters)
        super().__init__(
            args, CompactDeformation(filters), {"filters": filters},
            ("dice", "dice_before", "smallest_jacobian"),
        )  # fmt: skip

    def loss(self, seed: int) -> torch.Tensor:
        """One minus the overlap, and the roughness of the displacement."""
        if self.make is None:
            self.make = self._generator(self.args.train_maps or TRAINING_MAPS, Setting())
        pair = self.make(seed)
        field, fixed, moved = self._moved(pair)
        return 1 - dice(moved, fixed).mean() + self.args.smooth * roughness(field)

    def measures(self) -> list[float]:
        """Overlap of T1w brains after and before, smallest determinant of the displacement."""
        if self.check is None:
            self.check = self._generator(VALIDATION_MAPS, USUAL)
        after, before, smallest = [], [], []
        for i in range(N_VALIDATION):
            pair = self.check(VALIDATION_SEED + i)
            field, fixed, moved = self._moved(pair)
            after.append(float(dice(moved, fixed).mean()))
            before.append(float(dice(pair.moving_shares.to(fixed), fixed).mean()))
            smallest.append(float(determinant(field[0]).min()))
        return [float(np.mean(after)), float(np.mean(before)), min(smallest)]

    def _moved(self, pair: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Displacement at 4 mm (its voxels), fixed shares, and moving shares carried by it."""
        device = self.args.device
        with self.autocast():
            velocity = self.net(pair.moving.to(device), pair.fixed.to(device)).float()
        field = flow(velocity / 2)
        fine = 2 * F.interpolate(field, scale_factor=2, mode="trilinear", align_corners=False)
        return field, pair.fixed_shares.to(device), carried(pair.moving_shares.to(device), fine)

    def _generator(self, numbers: tuple[int, ...], setting: Setting) -> PairGenerator:
        maps = load_maps(labels_folder(self.args.labels), tuple(numbers))
        aseg = template_files(TEMPLATE, 1).aseg
        heads = anatomies(maps, load_volume(aseg, np.uint8))
        return PairGenerator(heads, tuple(self.args.patch), setting)


def determinant(field: torch.Tensor) -> torch.Tensor:
    """Jacobian determinant of ``x + field(x)`` by central differences, (X, Y, Z)."""
    slopes = torch.stack(torch.gradient(field, dim=(1, 2, 3)), 1)
    return torch.linalg.det(torch.eye(3, device=field.device) + slopes.permute(2, 3, 4, 0, 1))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = trainer.options(__doc__, 3000, (72, 88, 72), 1e-3)
    parser.add_argument("--filters", type=int, nargs=4, default=FILTERS)
    parser.add_argument("--smooth", type=float, default=0.4, help="weight of the roughness")
    return trainer.parsed(parser, argv)


def main(argv: list[str] | None = None) -> None:
    """Train until the schedule, the time or the patience of the caller ends."""
    trainer.run(Trainer, parse(argv))


if __name__ == "__main__":
    main()
