"""Train the compact level set network, in as many legs as it takes.

``python -m training.surface.train --run FOLDER --labels FOLDER --steps N``

The same command resumes where the last leg stopped; a resumed run sees the patches that an
uninterrupted one would have seen. SIGTERM or Ctrl-C ends the leg after the current step with a
checkpoint. ``--export FILE`` writes the averaged weights for the package and stops.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

import torch

from deepprep.surface.fastcsr.compact import COMPACT
from deepprep.surface.fastcsr.network import LevelSetNet
from training import trainer
from training.segmentation.labels import labels_folder, load_maps
from training.surface.generator import LevelGenerator, LevelSample

TRAINING_MAPS = tuple(range(1, 15))
VALIDATION_MAPS = (15, 16)
VALIDATION_SEED = 900_000
N_VALIDATION = 4
NEAR = 0.5
"""Targets below this (1.5 mm) count in the validation: there the surface is."""


def loss_of(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Absolute error; near the surface, where vertices come from, it counts five times."""
    weight = 1 + 4 * (target.abs() < NEAR).float()
    return (weight * (found - target).abs()).sum() / weight.sum()


class Trainer(trainer.Trainer):
    """The level set network and its patches."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.make: LevelGenerator | None = None
        columns = ("error_mm", "filled_error_mm")
        super().__init__(args, LevelSetNet(COMPACT), asdict(COMPACT), columns)

    def loss(self, seed: int) -> torch.Tensor:
        """Weighted absolute error of one patch."""
        if self.make is None:
            self.make = self._generator(self.args.train_maps or TRAINING_MAPS)
        sample = self.make(seed)
        return loss_of(self._output(sample), sample.target.to(self.args.device))

    def measures(self) -> list[float]:
        """Error near the surface, and of the input's filled hemisphere, mm."""
        make = self._generator(VALIDATION_MAPS)
        errors, inputs = [], []
        for i in range(N_VALIDATION):
            sample = make(VALIDATION_SEED + i)
            near = sample.target.abs() < NEAR
            found = self._output(sample).cpu().clamp(-1, 1)
            errors.append(3 * float((found - sample.target)[near].abs().mean()))
            # what taking the filled hemisphere for the truth would cost
            filled = 1 / 6 - sample.channels[:, 1:2] / 3
            inputs.append(3 * float((filled - sample.target)[near].abs().mean()))
        return [sum(e) / len(e) for e in (errors, inputs)]

    def _output(self, sample: LevelSample) -> torch.Tensor:
        x = sample.channels.to(self.args.device, memory_format=torch.channels_last_3d)
        with self.autocast():
            return self.net(x).float()

    def _generator(self, numbers: tuple[int, ...]) -> LevelGenerator:
        maps = load_maps(labels_folder(self.args.labels), tuple(numbers))
        return LevelGenerator(maps, tuple(self.args.patch))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    return trainer.parsed(trainer.options(__doc__, 4000, (80, 80, 80), 1e-3), argv)


def main(argv: list[str] | None = None) -> None:
    """Train until the schedule, the time or the patience of the caller ends."""
    trainer.run(Trainer, parse(argv))


if __name__ == "__main__":
    main()
