"""What small networks share in their training: schedule, averaged weights, checkpoints, legs.

A run resumes where its last leg stopped and sees the samples that an uninterrupted one would have
seen. SIGTERM or Ctrl-C ends the leg after the current step with a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from training.segmentation.train import append, best_precision, forget_after

WARM_UP = 50
"""Steps of linear increase of the learning rate."""

AVERAGE_DECAY = 0.998
"""Of the running average of the weights, which is what ships."""

FIELDS = ("step", "seconds", "rate", "loss")


class Trainer(ABC):
    """Everything that lives between two steps, and its checkpoint.

    Parameters
    ----------
    args : argparse.Namespace
        Of :func:`options`.
    net : Module
    architecture : dict
        Plain values that rebuild the network; they go into checkpoint and weights.
    validation_fields : tuple of str
        Columns of validation.csv after the step.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        net: nn.Module,
        architecture: dict,
        validation_fields: tuple[str, ...],
    ) -> None:
        self.args = args
        self.architecture = json.loads(json.dumps(architecture))
        self.validation_fields = ("step", *validation_fields)
        self.step, self.seconds = 0, 0.0
        self.net = net.to(args.device)
        self.net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.net.parameters(), args.rate, weight_decay=1e-4)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.checkpoint: Path = args.run / "checkpoint.pt"
        args.run.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._load()

    @abstractmethod
    def loss(self, seed: int) -> torch.Tensor:
        """Loss of one sample."""

    @abstractmethod
    def measures(self) -> list[float]:
        """Values of the validation with the weights as they are, in the order of its columns."""

    def autocast(self) -> torch.autocast:
        """Half precision where the run has it."""
        half = self.args.precision == "bf16"
        return torch.autocast(torch.device(self.args.device).type, torch.bfloat16, enabled=half)

    def rate(self) -> float:
        """Learning rate of the current step: warm-up, then half a cosine to a hundredth."""
        part = min(1.0, self.step / max(1, self.args.steps))
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))
        return self.args.rate * cosine * min(1.0, (self.step + 1) / WARM_UP)

    def train_step(self) -> float:
        """One sample, one update; the loss."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.net.train()
        loss = self.loss(self.args.seed * 10_000_000 + self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> None:
        """A row of validation.csv, of the averaged weights."""
        latest = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        values = [f"{v:.4f}" for v in self.measures()]
        self.net.load_state_dict(latest)
        append(self.args.run / "validation.csv", self.validation_fields, [self.step, *values])
        pairs = zip(self.validation_fields[1:], values)
        print(f"step {self.step}: " + " ".join(f"{k}={v}" for k, v in pairs), flush=True)

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        state = {
            "step": self.step, "seconds": self.seconds, "architecture": self.architecture,
            "model": self.net.state_dict(), "average": self.average,
            "optimizer": self.optimizer.state_dict(), "seed": self.args.seed,
        }  # fmt: skip
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if json.loads(json.dumps(state["architecture"])) != self.architecture:
            raise SystemExit(f"{self.checkpoint} is of another architecture: use another --run.")
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {k: v.to(self.args.device) for k, v in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]
        for name in ("losses.csv", "validation.csv"):
            forget_after(self.args.run / name, self.step)
        print(f"resumed at step {self.step}", flush=True)

    def run_leg(self) -> None:
        """Step until the schedule, the time or the patience of the caller ends; then save."""
        args = self.args
        stop: list[int] = []
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(s, lambda number, frame: stop.append(number)) for s in signals]
        started = saved = time.monotonic()
        try:
            while self.step < args.steps and not stop:
                loss = self.train_step()
                row = [self.step, f"{self.seconds:.1f}", f"{self.rate():.2e}", f"{loss:.4f}"]
                append(args.run / "losses.csv", FIELDS, row)
                if args.validate_every and self.step % args.validate_every == 0:
                    self.validate()
                if time.monotonic() - saved > 60 * args.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
                if time.monotonic() - started > 60 * args.max_minutes:
                    break
        finally:
            self.save()
            for number, handler in zip(signals, before):
                signal.signal(number, handler)


def options(
    description: str | None, steps: int, patch: tuple[int, int, int], rate: float
) -> argparse.ArgumentParser:
    """Command line of a training script, with its own defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoint and logs")
    parser.add_argument("--labels", help="folder of seg_XX.nii.gz")
    parser.add_argument("--steps", type=int, default=steps, help="length of the cosine schedule")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="length of this leg")
    parser.add_argument("--patch", type=int, nargs=3, default=patch, help="multiples of 8")
    parser.add_argument("--rate", type=float, default=rate)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-maps", type=int, nargs="+", help="default 1 to 14")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--validate-every", type=int, default=250, help="steps; 0: never")
    parser.add_argument("--export", type=Path, help="write weights of the checkpoint here, stop")
    return parser


def parsed(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Options, the precision settled."""
    args = parser.parse_args(argv)
    if args.precision == "auto":
        args.precision = best_precision(args.device)
    return args


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


def run(kind: Callable[[argparse.Namespace], Trainer], args: argparse.Namespace) -> None:
    """Train until the schedule, the time or the patience of the caller ends; or export."""
    if args.export:
        export(args.run / "checkpoint.pt", args.export)
        return
    torch.set_num_threads(args.threads)
    kind(args).run_leg()
