"""Train the compact level set network, in as many legs as it takes.

``python -m training.surface.train --run FOLDER --labels FOLDER --steps N``

The same command resumes where the last leg stopped; a resumed run sees the patches that an
uninterrupted one would have seen. SIGTERM or Ctrl-C ends the leg after the current step with a
checkpoint. ``--export FILE`` writes the averaged weights for the package and stops.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import torch

from deepprep.surface.fastcsr.compact import COMPACT, architecture_of
from deepprep.surface.fastcsr.network import LevelSetNet
from training.segmentation.labels import labels_folder, load_maps
from training.segmentation.train import append, best_precision, forget_after
from training.surface.generator import LevelGenerator, LevelSample

TRAINING_MAPS = tuple(range(1, 15))
VALIDATION_MAPS = (15, 16)
VALIDATION_SEED = 900_000
N_VALIDATION = 4
WARM_UP = 50
NEAR = 0.5
"""Targets below this (1.5 mm) count in the validation: there the surface is."""

FIELDS = ("step", "seconds", "rate", "loss")
VALIDATION_FIELDS = ("step", "error_mm", "filled_error_mm")


def loss_of(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Absolute error; near the surface, where vertices come from, it counts five times."""
    weight = 1 + 4 * (target.abs() < NEAR).float()
    return (weight * (found - target).abs()).sum() / weight.sum()


class Trainer:
    """Everything that lives between two steps, and its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        torch.manual_seed(args.seed)
        self.step, self.seconds = 0, 0.0
        self.net = LevelSetNet(COMPACT).to(args.device)
        self.net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.net.parameters(), args.rate, weight_decay=1e-4)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.checkpoint: Path = args.run / "checkpoint.pt"
        args.run.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._load()
        self.make: LevelGenerator | None = None

    def rate(self) -> float:
        """Learning rate of the current step: warm-up, then half a cosine to a hundredth."""
        part = min(1.0, self.step / max(1, self.args.steps))
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))
        return self.args.rate * cosine * min(1.0, (self.step + 1) / WARM_UP)

    def train_step(self) -> float:
        """One patch, one update; the loss."""
        if self.make is None:
            self.make = self._generator(self.args.train_maps or TRAINING_MAPS)
        started = time.perf_counter()
        sample = self.make(self.args.seed * 10_000_000 + self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.net.train()
        loss = loss_of(self._output(sample), sample.target.to(self.args.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> None:
        """Error near the surface of the averaged weights, and of the input's filled hemisphere."""
        make = self._generator(VALIDATION_MAPS)
        latest = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        errors, inputs = [], []
        for i in range(N_VALIDATION):
            sample = make(VALIDATION_SEED + i)
            near = sample.target.abs() < NEAR
            found = self._output(sample).cpu().clamp(-1, 1)
            errors.append(3 * float((found - sample.target)[near].abs().mean()))
            # what taking the filled hemisphere for the truth would cost
            filled = 1 / 6 - sample.channels[:, 1:2] / 3
            inputs.append(3 * float((filled - sample.target)[near].abs().mean()))
        self.net.load_state_dict(latest)
        means = [f"{sum(e) / len(e):.4f}" for e in (errors, inputs)]
        append(self.args.run / "validation.csv", VALIDATION_FIELDS, [self.step, *means])
        print(f"step {self.step}: error near the surface {means[0]} mm (filled: {means[1]})")

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        state = {
            "step": self.step, "seconds": self.seconds, "architecture": asdict(COMPACT),
            "model": self.net.state_dict(), "average": self.average,
            "optimizer": self.optimizer.state_dict(), "seed": self.args.seed,
        }  # fmt: skip
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if architecture_of(state["architecture"]) != COMPACT:
            raise SystemExit(f"{self.checkpoint} is of another architecture: use another --run.")
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {k: v.to(self.args.device) for k, v in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]
        for name in ("losses.csv", "validation.csv"):
            forget_after(self.args.run / name, self.step)
        print(f"resumed at step {self.step}", flush=True)

    def _output(self, sample: LevelSample) -> torch.Tensor:
        x = sample.channels.to(self.args.device, memory_format=torch.channels_last_3d)
        half = self.args.precision == "bf16"
        with torch.autocast(torch.device(self.args.device).type, torch.bfloat16, enabled=half):
            return self.net(x).float()

    def _generator(self, numbers: tuple[int, ...]) -> LevelGenerator:
        maps = load_maps(labels_folder(self.args.labels), tuple(numbers))
        return LevelGenerator(maps, tuple(self.args.patch))


def export(checkpoint: Path, target: Path) -> None:
    """Averaged weights in half precision, with architecture and step as metadata."""
    from safetensors.torch import save_file

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = {name: value.half().contiguous() for name, value in state["average"].items()}
    metadata = {
        "architecture": json.dumps(state["architecture"]),
        "step": str(state["step"]),
        "seed": str(state["seed"]),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    save_file(tensors, part, metadata)
    os.replace(part, target)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoint and logs")
    parser.add_argument("--labels", help="folder of seg_XX.nii.gz")
    parser.add_argument("--steps", type=int, default=4000, help="length of the cosine schedule")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="length of this leg")
    parser.add_argument("--patch", type=int, nargs=3, default=(80, 80, 80), help="multiples of 8")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-maps", type=int, nargs="+", help="default 1 to 14")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--validate-every", type=int, default=250, help="steps; 0: never")
    parser.add_argument("--export", type=Path, help="write weights of the checkpoint here, stop")
    args = parser.parse_args(argv)
    if args.precision == "auto":
        args.precision = best_precision(args.device)
    return args


def main(argv: list[str] | None = None) -> None:
    """Train until the schedule, the time or the patience of the caller ends."""
    args = parse(argv)
    if args.export:
        export(args.run / "checkpoint.pt", args.export)
        return
    torch.set_num_threads(args.threads)
    stop: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(s, lambda number, frame: stop.append(number)) for s in signals]
    trainer = Trainer(args)
    started = saved = time.monotonic()
    try:
        while trainer.step < args.steps and not stop:
            loss = trainer.train_step()
            row = [trainer.step, f"{trainer.seconds:.1f}", f"{trainer.rate():.2e}", f"{loss:.4f}"]
            append(args.run / "losses.csv", FIELDS, row)
            if args.validate_every and trainer.step % args.validate_every == 0:
                trainer.validate()
            if time.monotonic() - saved > 60 * args.checkpoint_minutes:
                trainer.save()
                saved = time.monotonic()
            if time.monotonic() - started > 60 * args.max_minutes:
                break
    finally:
        trainer.save()
        for number, handler in zip(signals, before):
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
