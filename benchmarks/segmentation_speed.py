"""Time and peak memory of whole-brain segmentation: FastSurferVINN's architecture and ours.

    python benchmarks/segmentation_speed.py SHARED_DATA [--threads 2] [--device cpu] [--limit-min 12]
                                            [--rows NAME ...] [--state FILE]

VINN has random weights (its time does not depend on them). Every row is a process of its own on
the same real head (freesurfer-silver/sub-01, 256^3 voxels of 1 mm). With
--state, rows are kept in a file and a later run measures only those that are not in it. Writes
benchmarks/results/segmentation_speed.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from deepprep.image.volume import Volume

RESULTS = Path(__file__).parent / "results" / "segmentation_speed.md"
HEAD = "freesurfer-silver/sub-01/mri"
COMPACT = "deepprep.segmentation.compact.engine"
PUBLISHED_SLICES = 3 * 256
"""Slices that the published procedure computes, with air and neck."""

PROBED_SLICES = 6
"""Slices of each view from which times are extrapolated."""

ROWS = {
    "published": "VINN as published: 768 slices, fp32, batch norms apart, channels first",
    "fp32": "VINN as DeepPrep runs it, fp32: slices of the brain, batch norms folded, channels last",
    "bf16": "the same, bf16",
    "ours": "DeepPrep's compact network",
}
HEADER = """# Speed of whole-brain segmentation

`python benchmarks/segmentation_speed.py SHARED_DATA` on {machine}.
Whole job: from the T1w in memory to labels, tissues and uncertainty on its own lattice. CPU s is
process time over all threads (which wait asleep: OMP_WAIT_POLICY=PASSIVE); half of it is what two
free cores need at least. VINN has random weights, so its repair of labels works on noise. Peak memory
is that of the process, with Python and torch, and of the whole job also where only some slices were
computed (first row: of the networks only). Load: processes that wanted a processor when the row
began; above zero, others had their
share of the wall time.

| what | device | wall s | CPU s | networks alone, wall s | slices | peak GB | load | how |
|---|---|---|---|---|---|---|---|---|
"""


def load_head(shared: Path) -> tuple[Volume, np.ndarray]:
    """T1w and brain mask."""
    folder = shared / HEAD
    image = nib.load(folder / "T1.mgz")
    mask = np.asarray(nib.load(folder / "brainmask.mgz").dataobj) > 0
    return Volume(np.asarray(image.dataobj), image.affine), mask


def measure(what: str, args: argparse.Namespace) -> dict[str, Any]:
    """One row, in this process."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    head, mask = load_head(args.shared)
    if what == "published":
        row = published_procedure(head, args)
    elif what == "ours":
        row = our_engine(head, mask, args)
    else:
        row = vinn_job(head, mask, what, args)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {**row, "peak_gb": peak}


def networks(fold: bool) -> dict[str, torch.nn.Module]:
    """VINN for three views, random weights."""
    from deepprep.segmentation.fastsurfer.network import FastSurferVINN, folded

    nets = {"coronal": 79, "axial": 79, "sagittal": 51}
    built = {name: FastSurferVINN(classes).eval() for name, classes in nets.items()}
    return {name: folded(net) for name, net in built.items()} if fold else dict(built)


@torch.inference_mode()
def published_procedure(head: Volume, args: argparse.Namespace) -> dict[str, Any]:
    """Mean time of a slice of each view, times all slices."""
    from deepprep.segmentation.fastsurfer.conform import conform
    from deepprep.segmentation.fastsurfer.views import VIEWS, stacks

    image = torch.from_numpy(conform(head, "min").data)
    wall = cpu = 0.0
    for view in VIEWS:
        net = networks(fold=False)[view.name].to(args.device)
        slices = view.arrange(image).contiguous().to(args.device)
        which = torch.linspace(60, 190, PROBED_SLICES).long()
        net(stacks(slices, which[:1]), (1.0, 1.0))
        started, used = time.monotonic(), time.process_time()
        for i in range(PROBED_SLICES):
            net(stacks(slices, which[i : i + 1]), (1.0, 1.0)).cpu()
        wall += (time.monotonic() - started) / PROBED_SLICES * PUBLISHED_SLICES / 3
        cpu += (time.process_time() - used) / PROBED_SLICES * PUBLISHED_SLICES / 3
    how = f"extrapolated from {3 * PROBED_SLICES} slices, networks only"
    return {"wall": wall, "cpu": cpu, "net": wall, "slices": PUBLISHED_SLICES, "how": how}


class Timed(torch.nn.Module):
    """A network that notes its time and, in a hurry, computes every n-th slice only.

    The slices between get the logits of the last one computed, so that all that follows the
    networks, and its memory, is as in the whole job.
    """

    wall = cpu = 0.0
    calls = computed = 0
    every = 1
    last: torch.Tensor | None = None

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, scale: tuple[float, float]) -> torch.Tensor:
        """Logits of a stack."""
        kind = type(self)
        kind.calls += 1
        due = self.last is None or self.last.shape != self.net_shape(x)
        if due or kind.calls % kind.every == 0:
            started, used = time.monotonic(), time.process_time()
            self.last = self.net(x, scale)
            if x.is_cuda:
                torch.cuda.synchronize()
            kind.wall += time.monotonic() - started
            kind.cpu += time.process_time() - used
            kind.computed += 1
        return self.last

    def net_shape(self, x: torch.Tensor) -> tuple[int, ...]:
        """Shape of the logits of a stack."""
        return (len(x), self.net.classifier.conv.out_channels, *x.shape[2:])


def vinn_job(
    head: Volume, mask: np.ndarray, precision: Any, args: argparse.Namespace
) -> dict[str, Any]:
    """The whole job; where that would take too long, with every n-th slice computed."""
    from deepprep.segmentation.fastsurfer.segment import segment_with

    nets = {name: Timed(net) for name, net in networks(fold=True).items()}

    def progress(view: str, done: int, of: int) -> None:
        if view == "coronal" and Timed.computed == PROBED_SLICES and Timed.every == 1:
            expected_s = Timed.wall / Timed.computed * 3 * of
            Timed.every = math.ceil(expected_s / (60 * args.limit_min))

    started, used = time.monotonic(), time.process_time()
    segment_with(
        nets, head, mask,
        engine="vinn", rule="min", device=args.device, precision=precision, progress=progress,
    )  # fmt: skip
    wall, cpu = time.monotonic() - started, time.process_time() - used
    more = Timed.calls / Timed.computed - 1
    how = "measured" if more == 0 else (
        f"{Timed.computed} of {Timed.calls} slices computed, their time extrapolated"
    )  # fmt: skip
    return {"wall": wall + more * Timed.wall, "cpu": cpu + more * Timed.cpu,
            "net": (1 + more) * Timed.wall, "slices": Timed.calls, "how": how}  # fmt: skip


def our_engine(head: Volume, mask: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """The embedded engine, with the loading of its weights."""
    engine = importlib.import_module(COMPACT).CompactEngine()
    files = engine.weight_files(None)
    if files is None:
        raise FileNotFoundError("the embedded engine has no weights")
    started, used = time.monotonic(), time.process_time()
    engine.segment(head, mask, files, device=args.device, threshold=0.5)
    wall, cpu = time.monotonic() - started, time.process_time() - used
    return {"wall": wall, "cpu": cpu, "net": None, "slices": None, "how": "measured"}


def in_child(what: str, args: argparse.Namespace) -> dict[str, Any] | None:
    """One row, in a process of its own so that its peak memory is its own."""
    job = [sys.executable, __file__, str(args.shared), "--row", what, "--device", args.device,
           "--threads", str(args.threads), "--limit-min", str(args.limit_min)]  # fmt: skip
    # Threads that wait asleep: on a shared machine, waiting awake would count as CPU time.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(job, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        print(f"{what}: ended with {done.returncode} {' '.join(said[-1:])}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def machine(args: argparse.Namespace) -> str:
    """The processor, in words."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    if args.device.startswith("cuda"):
        name += f" with {torch.cuda.get_device_name()}"
    return f"{name}, {os.cpu_count()} processors, {args.threads} threads, torch {torch.__version__}"


def write(rows: dict[str, dict[str, Any]], args: argparse.Namespace, where: str) -> None:
    """The table, on the screen and in the file of results."""
    lines = []
    for what, row in rows.items():
        net, slices = row["net"], row["slices"]
        lines.append(
            f"| {ROWS[what]} | {args.device} | {row['wall']:.0f} | {row['cpu']:.0f} "
            f"| {'-' if net is None else f'{net:.0f}'} | {slices or '-'} "
            f"| {row['peak_gb']:.2f} | {row['load']:.1f} | {row['how']} |"
        )
    ratios = [
        f"{ROWS[what]}: {rows[what]['wall'] / rows['ours']['wall']:.1f} times our wall time, "
        f"{rows[what]['cpu'] / rows['ours']['cpu']:.1f} times our CPU time."
        for what in rows
        if "ours" in rows and what != "ours"
    ]
    if not ratios:
        ratios = ["Our own network is not part of this run: its engine or weights are not there."]
    text = HEADER.format(machine=where) + "\n".join(lines) + "\n\n" + "\n".join(ratios) + "\n"
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit-min", type=float, default=12.0)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--state", type=Path, help="JSON file of the rows measured so far")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(args.row, args)))
        return 0
    rows = json.loads(args.state.read_text()) if args.state and args.state.exists() else {}
    for what in args.rows:
        if what in rows or (what == "ours" and not importlib.util.find_spec(COMPACT)):
            continue
        load = os.getloadavg()[0]
        row = in_child(what, args)
        if row is not None:
            rows[what] = {**row, "load": load}
        if args.state:
            args.state.write_text(json.dumps(rows))
    write({what: rows[what] for what in ROWS if what in rows}, args, machine(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
