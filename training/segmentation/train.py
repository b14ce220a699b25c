"""Train the segmentation network, in as many legs as it takes.

``python -m training.segmentation.train --run FOLDER --labels FOLDER --steps N``

The same command resumes where the last leg stopped. Every step's patch is drawn from a seed
made of ``--seed`` and the step's number, so a resumed run sees the patches an uninterrupted
one would have seen. SIGTERM or Ctrl-C ends the leg after the current step with a checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from deepprep.segmentation.compact.inference import load_network
from deepprep.segmentation.compact.network import Architecture, SegmentationNet
from training.muon import Muon
from training.segmentation.generator import HeadGenerator, Sample, Settings
from training.segmentation.labels import (
    CLASSES,
    SMALL,
    LabelMap,
    class_weights,
    labels_folder,
    load_maps,
)
from training.segmentation.losses import patch_loss
from training.segmentation.real_heads import Mixture, RealPatches, load_head
from training.segmentation.validate import (
    VALIDATION_MAPS,
    VALIDATION_SEED,
    WHOLE_HEAD,
    score,
    summary,
)
from training.segmentation.widen import widen

TRAINING_MAPS = tuple(range(1, 15))
WARM_UP = 100
"""Steps of linear increase of the learning rate."""

LOG_EVERY = 10
"""Steps averaged in a row of losses.csv."""

LOSS_FIELDS = ("step", "seconds", "rate", "loss", "cross_entropy", "coarse_dice", "fine_dice",
               "generate_s", "step_s")  # fmt: skip
VALIDATION_FIELDS = ("step", "mean", "cortex", "white", "worst", *(str(c) for c in CLASSES))


class Trainer:
    """Everything that lives between two steps, and its checkpoint."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        self.step = 0
        self.seconds = 0.0
        self.validation_heads: list[Sample] = []
        torch.manual_seed(args.seed)
        architecture = Architecture(coarse=tuple(args.coarse), fine=args.fine, lift=args.lift)
        net = SegmentationNet(architecture)
        if args.init is not None:
            net = load_network(args.init)
            if net.architecture != architecture:
                net = widen(net, architecture)
            net.train()
        net = net.to(self.device)
        net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.net = net
        self.optimizer: torch.optim.Optimizer
        if args.optimizer == "muon":
            self.optimizer = Muon(net, args.rate)
        else:
            self.optimizer = torch.optim.AdamW(net.parameters(), args.rate, weight_decay=1e-4)
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}

        numbers = args.train_maps or TRAINING_MAPS
        maps = load_maps(labels_folder(args.labels), numbers, args.device, even_pallidum=True)
        self.weights = (class_weights(maps) ** args.weight_power).to(self.device)
        recipe = Recipe(args.labels, tuple(numbers), tuple(args.patch), args.usual_contrast,
                        args.real, args.real_share, args.plateau)  # fmt: skip
        self.make = recipe.source(self.device, maps) if not args.workers else None
        self.pool: ProcessPoolExecutor | None = None
        self.coming: dict[int, Future[Sample]] = {}
        if args.workers:
            self.pool = ProcessPoolExecutor(
                args.workers,
                multiprocessing.get_context("spawn"),
                _start_worker,
                (recipe,),
            )
        self.run: Path = args.run
        self.run.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        """Where the state is kept."""
        return self.run / "checkpoint.pt"

    def rate(self) -> float:
        """Learning rate of the current step: warm-up, then half a cosine to a hundredth."""
        part = min(1.0, self.step / max(1, self.args.steps))
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part))
        return self.args.rate * cosine * min(1.0, (self.step + 1) / WARM_UP)

    def train_step(self) -> dict[str, float]:
        """One patch, one update."""
        start = time.perf_counter()
        self._set_mode()
        sample = self._next_sample()
        image = sample.image.contiguous(memory_format=torch.channels_last_3d)
        corner = self._tile_corner(sample.target[0])
        generated = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        with self._autocast():
            loss = patch_loss(
                self.net, image, sample.target, sample.origin, corner, self.args.tile, self.weights
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self._update_average()
        row = {
            "rate": self.rate(), "loss": loss.total.item(), "cross_entropy": loss.cross_entropy,
            "coarse_dice": loss.coarse_dice, "fine_dice": loss.fine_dice,
            "generate_s": generated - start, "step_s": time.perf_counter() - start,
        }  # fmt: skip
        self.step += 1
        self.seconds += row["step_s"]
        return row

    def validate(self) -> None:
        """Dice of the averaged weights on one fixed whole head of each validation map."""
        if not self.validation_heads:
            maps = load_maps(labels_folder(self.args.labels), VALIDATION_MAPS, self.args.device)
            make = HeadGenerator(maps, WHOLE_HEAD, self.device)
            self.validation_heads = [make(VALIDATION_SEED + i, i) for i in range(len(maps))]
        latest = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        with self._autocast():
            dice = score(self.net, self.validation_heads)
        self.net.load_state_dict(latest)
        totals = summary(dice)
        per_class = np.nanmean(dice, axis=0)
        row = [self.step, *(f"{v:.4f}" for v in totals.values()), *(f"{v:.4f}" for v in per_class)]
        append(self.run / "validation.csv", VALIDATION_FIELDS, row)
        print(f"step {self.step} validation " + str({k: round(v, 3) for k, v in totals.items()}))

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then rename it."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "architecture": self.net.architecture.to_dict(),
            "classes": list(CLASSES),
            "model": self.net.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "arguments": {k: str(v) for k, v in vars(self.args).items() if k != "labels"},
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint)

    def _load(self) -> None:
        # on the CPU first: the random state must stay there, the rest is copied to the device
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.net.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {k: v.to(self.device) for k, v in state["average"].items()}
        torch.set_rng_state(state["rng"])
        self.step, self.seconds = state["step"], state["seconds"]
        for name in ("losses.csv", "validation.csv"):
            forget_after(self.run / name, self.step)
        print(f"resumed at step {self.step}", flush=True)

    def _next_sample(self) -> Sample:
        """The patch of this step; those of the next steps are made meanwhile."""
        first = self.args.seed * 10_000_000
        if self.make is not None:
            sample = self.make(first + self.step)
        else:
            assert self.pool is not None
            for step in range(self.step, self.step + 2 * self.args.workers + 1):
                if step not in self.coming:
                    self.coming[step] = self.pool.submit(_work, first + step)
            sample = self.coming.pop(self.step).result()
        parts = (sample.image, sample.target, sample.origin)
        return Sample(*(part.to(self.device) for part in parts))

    def close(self) -> None:
        """End the processes that make patches."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def _update_average(self) -> None:
        decay = min(0.998, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.net.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1 - decay)
                else:
                    self.average[name].copy_(value)

    def _set_mode(self) -> None:
        """Batch statistics at first; later those of inference, so that both see the same net."""
        self.net.train()
        if self.step >= self.args.freeze_norm * self.args.steps:
            for module in self.net.modules():
                if isinstance(module, torch.nn.BatchNorm3d):
                    module.eval()

    def _tile_corner(self, target: torch.Tensor) -> tuple[int, int, int]:
        """Even first voxel of the fine tile: around a small structure, or around any brain."""
        rng = np.random.default_rng((self.args.seed, self.step))
        classes = [CLASSES.index(s) for s in SMALL]
        voxels = torch.empty(0)
        if rng.random() < 0.4:
            # the patch itself is often centred on small structures: take its middle third
            chosen = int(rng.choice(classes))
            voxels = (target == chosen).nonzero()
        if not len(voxels):
            voxels = (target[::3, ::3, ::3] > 0).nonzero() * 3
        middle = voxels[int(rng.integers(len(voxels)))].cpu().numpy() if len(voxels) else (0, 0, 0)
        corner = []
        for c, n in zip(middle, target.shape):
            first = int(c) - self.args.tile // 2 + int(rng.integers(-8, 9))
            corner.append(max(0, min(n - self.args.tile, first)) // 2 * 2)
        return corner[0], corner[1], corner[2]

    def _autocast(self) -> contextlib.AbstractContextManager:
        if self.args.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()


@dataclass(frozen=True)
class Recipe:
    """What patches are made of."""

    labels: str | None
    numbers: tuple[int, ...]
    patch: tuple[int, int, int]
    usual_contrast: float = 0.0
    real: Path | None = None
    real_share: float = 0.0
    plateau: float = 0.0

    def source(
        self, device: str | torch.device = "cpu", maps: list[LabelMap] | None = None
    ) -> Callable[[int], Sample]:
        """Generator of patches; real heads are on the CPU."""
        if maps is None:
            maps = load_maps(
                labels_folder(self.labels), self.numbers, str(device), even_pallidum=True
            )
        settings = Settings(p_usual_contrast=self.usual_contrast, p_plateau=self.plateau)
        synthetic = HeadGenerator(maps, self.patch, device, settings)
        if self.real is None or not self.real_share:
            return synthetic
        heads = [load_head(path) for path in sorted(self.real.glob("*.npz"))]
        return Mixture(synthetic, RealPatches(heads, self.patch, self.plateau), self.real_share)


_make: Callable[[int], Sample] | None = None


def _start_worker(recipe: Recipe) -> None:
    global _make
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _make = recipe.source()


def _work(seed: int) -> Sample:
    assert _make is not None
    return _make(seed)


def append(path: Path, fields: tuple[str, ...], row: list) -> None:
    """Add a row to a CSV file, with a header if it is new."""
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(fields)
        writer.writerow(row)


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of a log that are later than the checkpoint being resumed."""
    if path.exists():
        lines = path.read_text().splitlines()
        kept = lines[:1] + [line for line in lines[1:] if int(line.split(",")[0]) <= step]
        path.write_text("\n".join(kept) + "\n")


def best_precision(device: str) -> str:
    """bf16 on a GPU and on processors where it is faster, else fp32.

    Where it is emulated it is 20 times slower; on an Intel processor with avx512_bf16 but without amx_bf16 a
    step took 3.7 s instead of 2.8 s.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"
    fast = "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)
    return "bf16" if fast else "fp32"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoint and logs")
    parser.add_argument("--labels", help="folder of seg_XX.nii.gz")
    parser.add_argument("--steps", type=int, default=6000, help="length of the cosine schedule")
    parser.add_argument("--max-minutes", type=float, default=math.inf, help="length of this leg")
    parser.add_argument("--patch", type=int, nargs=3, default=(96, 112, 96), help="multiples of 16")
    parser.add_argument("--tile", type=int, default=64, help="side of the 1 mm part (even)")
    parser.add_argument("--coarse", type=int, nargs=4, default=Architecture().coarse)
    parser.add_argument("--fine", type=int, default=Architecture().fine)
    parser.add_argument("--lift", type=int, default=Architecture().lift)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--init", type=Path, help="start from the weights of a safetensors file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--freeze-norm", type=float, default=0.4,
        help="part of the schedule after which the statistics of batch normalisation stay",
    )  # fmt: skip
    parser.add_argument("--train-maps", type=int, nargs="+", help="default 1 to 14")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--weight-power", type=float, default=1.0,
        help="exponent of the class weights; lower late in training, for unbiased posteriors",
    )  # fmt: skip
    parser.add_argument(
        "--usual-contrast", type=float, default=0.0,
        help="share of synthetic heads with the contrast of most T1-weighted sequences",
    )  # fmt: skip
    parser.add_argument(
        "--plateau", type=float, default=0.0,
        help="share of heads whose white matter control points made even, as in FreeSurfer's T1.mgz",
    )  # fmt: skip
    parser.add_argument("--real", type=Path, help="folder of pseudo-labelled heads (NAME.npz)")
    parser.add_argument("--real-share", type=float, default=0.5, help="of patches, with --real")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that make patches")
    parser.add_argument("--checkpoint-minutes", type=float, default=5)
    parser.add_argument("--validate-every", type=int, default=250, help="steps; 0: never")
    args = parser.parse_args(argv)
    if args.precision == "auto":
        args.precision = best_precision(args.device)
    return args


def main(argv: list[str] | None = None) -> None:
    """Train until the schedule, the time or the patience of the caller ends."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    stop: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(s, lambda number, frame: stop.append(number)) for s in signals]
    trainer = Trainer(args)
    (args.run / "pid").write_text(f"{os.getpid()}\n")
    print(
        f"{args.device} {args.precision}, {sum(p.numel() for p in trainer.net.parameters()):,}"
        f" parameters, step {trainer.step} of {args.steps}",
        flush=True,
    )
    try:
        run_leg(trainer, stop)
    finally:
        trainer.close()
        (args.run / "pid").unlink(missing_ok=True)
        for number, handler in zip(signals, before):
            signal.signal(number, handler)
    print(f"stopped at step {trainer.step}", flush=True)


def run_leg(trainer: Trainer, stop: list[int]) -> None:
    """Step until the schedule or the leg's time ends or ``stop`` gets an entry; then save."""
    args = trainer.args
    begin = saved = time.perf_counter()
    rows: list[dict[str, float]] = []
    while trainer.step < args.steps and not stop:
        rows.append(trainer.train_step())
        if trainer.step % LOG_EVERY == 0:
            mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
            values = [trainer.step, round(trainer.seconds), *(f"{v:.4g}" for v in mean.values())]
            append(args.run / "losses.csv", LOSS_FIELDS, values)
            print(" ".join(f"{k}={v}" for k, v in zip(LOSS_FIELDS, values)), flush=True)
            rows = []
        if args.validate_every and trainer.step % args.validate_every == 0:
            trainer.validate()
        now = time.perf_counter()
        if now - saved > 60 * args.checkpoint_minutes:
            trainer.save()
            saved = time.perf_counter()
        if now - begin > 60 * args.max_minutes:
            break
    trainer.save()


if __name__ == "__main__":
    main()
