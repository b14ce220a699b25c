"""Overlap of brain structures and cortical parcels after registration, against ANTs.

    python -m venv PEERS && PEERS/bin/pip install -r benchmarks/requirements-registration.txt
    python -m benchmarks.registration_overlap SHARED_DATA WORK --peers PEERS/bin/python \
        [--sets silver synthetic] [--methods affine ours ours-image network network+ours syn] [--precise 1] [--pairs 3]

Sets: ``silver``, four heads with FreeSurfer 6 labels (aseg and DKT parcels; never trained on);
``synthetic``, T1w heads made from SynthSeg label maps 13 to 16 (1 mm, whole heads). Two tasks a
set: some pairs directly, and all heads to MNI152NLin2009cAsym, scored between pairs of heads in
template space. Every method gets the same skull-stripped, bias-corrected, cropped images; every
transform is read from its ITK file and applied by the same resampling of labels. What is in WORK
is not computed again, so a run can be interrupted. Writes results/registration_overlap.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.data.templates import template_files
from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.itk import read_composite, write_composite
from deepprep.registration.transforms import Affine, Chain, jacobian_determinant
from deepprep.segmentation.labels import STRUCTURES

RESULTS = Path(__file__).parent / "results" / "registration_overlap.md"
TEMPLATE = "MNI152NLin2009cAsym"
SILVER = ("sub-01", "sub-02", "sub-06", "sub-07")
SYNTHETIC = ("map-13", "map-14", "map-15", "map-16")
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""Order in which pairs of a set are taken."""

MERGED = {
    31: 4, 63: 43, 77: 2, 78: 2, 79: 41, 80: 2, 30: 2, 62: 41, 72: 24, 85: 0,
    251: 2, 252: 2, 253: 2, 254: 2, 255: 2,
}  # fmt: skip
SCORED = tuple(k for k in STRUCTURES if k not in (24, 31, 63, 77, 85))
METHODS = ("affine", "ours", "ours-image", "network", "network+ours", "syn")
PEERS = ("syn", "precise")
MARGIN_VOX = 12
SEED = 950_000
HEADER = """# Overlap after registration

`python -m benchmarks.registration_overlap SHARED_DATA WORK --peers PYTHON`. Mean Dice over the
labels and, in brackets, its range over pairs. `affine` is ours; `ours` is driven by the image and
by our own segmentations, `ours-image` by the image alone; `network` is our own deformation network
(2 mm) alone, `network+ours` the refinement from its velocity; `syn` is antspyx SyN with its defaults,
`precise` fMRIPrep's precise settings. Seconds are wall (CPU) for a pair, affine included, on the
machine as it was: under load only the CPU seconds compare. Segmentation of a head is not in the
time, because the pipeline needs it anyway. The segmentation network was trained on maps 13 and 14
(not 15, 16). Jacobian and folds of our warp within the fixed brain; inverse error in mm.

| set | task | method | n | aseg Dice | DKT Dice | s a pair | MB | Jacobian | folds | inverse mean/max |
|---|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Job:
    """One registration."""

    method: str
    fixed: str
    moving: str

    def path(self, work: Path) -> Path:
        """Where its transforms and measures lie, without the suffix."""
        return work / "transforms" / f"{self.method}_{self.fixed}_{self.moving}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peers", type=Path, help="Python that has antspyx")
    parser.add_argument("--sets", nargs="+", default=["silver", "synthetic"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--pairs", type=int, default=3, help="direct pairs of each set")
    parser.add_argument("--precise", type=int, default=1, help="direct pairs with precise ANTs")
    parser.add_argument(
        "--precise-template", action="store_true", help="two heads to the template, precise too"
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    (given.work / "transforms").mkdir(parents=True, exist_ok=True)
    if given.one:
        register(Job(*given.one), given.work)
        return
    rows = []
    for name in given.sets:
        heads = {"silver": SILVER, "synthetic": SYNTHETIC}[name]
        prepare(heads, given.shared_data, given.work)
        for method in given.methods:
            rows.append(pairwise(name, heads, method, given.pairs, given))
            rows.append(to_template(name, heads, method, given))
        if given.precise:
            # the same pairs for all, or the numbers do not compare
            for method in ("precise", *given.methods):
                rows.append(pairwise(name, heads, method, given.precise, given))
        if given.precise_template:
            for method in ("precise", *given.methods):
                rows.append(to_template(name, heads[:2], method, given))
    print("\n".join(rows))
    RESULTS.write_text(HEADER + "\n".join(rows) + "\n")


def pairwise(
    name: str, heads: tuple[str, ...], method: str, n: int, given: argparse.Namespace
) -> str:
    """Register pairs directly; one row."""
    scores, jobs = [], []
    for a, b in PAIRS[:n]:
        job = Job(method, heads[a], heads[b])
        run(job, given)
        jobs.append(job)
        transform = read_composite(f"{job.path(given.work)}.h5")
        grid = cropped(load(given.work, heads[a], "truth")).grid
        scores.append([
            overlap(fixed.data, resample(moving, grid, transform, "label").data)
            for fixed, moving in labels_of(given.work, heads[a], heads[b], grid)
        ])  # fmt: skip
    return row(name, f"{n} pairs", method, scores, jobs, given.work)


def to_template(name: str, heads: tuple[str, ...], method: str, given: argparse.Namespace) -> str:
    """Register all heads to the template; overlap between heads there; one row."""
    jobs = [Job(method, TEMPLATE, head) for head in heads]
    warped = [in_template(job, given) for job in jobs]
    scores = [[overlap(x, y) for x, y in zip(a, b)] for a, b in combinations(warped, 2)]
    return row(name, f"template, {len(heads)} heads", method, scores, jobs, given.work)


def in_template(job: Job, given: argparse.Namespace) -> list[np.ndarray]:
    """True labels of a head in the template's space."""
    run(job, given)
    grid = load_volume(template_files(TEMPLATE, 1).mask).grid
    transform = read_composite(f"{job.path(given.work)}.h5")
    return [
        resample(cropped(v), grid, transform, "label").data for v in truths(given.work, job.moving)
    ]


def row(name: str, task: str, method: str, scores: list, jobs: list[Job], work: Path) -> str:
    """One line of the table."""
    logs = [json.loads(Path(f"{job.path(work)}.json").read_text()) for job in jobs]
    columns = np.array(scores, dtype=float).T
    cells = [f"{c.mean():.4f} ({c.min():.3f} to {c.max():.3f})" for c in columns]
    seconds = np.mean([log["seconds"] for log in logs])
    cpu = np.mean([log["cpu_seconds"] for log in logs])
    peak = max(log["peak_mb"] for log in logs)
    extra = " | | "
    if "jacobian" in logs[0]:
        low = min(log["jacobian"][0] for log in logs)
        high = max(log["jacobian"][1] for log in logs)
        inverse = np.array([log["inverse_mm"] for log in logs])
        extra = (
            f"{low:.2f} to {high:.2f} | {sum(log['folds'] for log in logs)} "
            f"| {inverse[:, 0].mean():.3f}/{inverse[:, 1].max():.2f}"
        )
    return (
        f"| {name} | {task} | {method} | {len(scores)} | {cells[0]} "
        f"| {cells[1] if len(cells) > 1 else ''} | {seconds:.0f} ({cpu:.0f}) | {peak:.0f} | {extra} |"
    )


def run(job: Job, given: argparse.Namespace) -> None:
    """Make the transform unless it is there; each in a process of its own, for time and memory."""
    out = job.path(given.work)
    if out.with_name(out.name + ".json").is_file():
        return
    if job.method in PEERS:
        if given.peers is None:
            raise SystemExit(f"{job.method} needs --peers: a Python that has antspyx.")
        script = Path(__file__).parent / "peers" / "ants_registration.py"
        files = [str(given.work / f"{head}_brain.nii") for head in (job.fixed, job.moving)]
        command = [str(given.peers), str(script), job.method, *files, str(out)]
    else:
        command = [
            sys.executable, "-m", "benchmarks.registration_overlap", str(given.shared_data),
            str(given.work), "--one", job.method, job.fixed, job.moving,
        ]  # fmt: skip
    threads = dict.fromkeys(
        ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    subprocess.run(command, check=True, env={**os.environ, **threads})
    print(job, Path(f"{out}.json").read_text(), flush=True)


def register(job: Job, work: Path) -> None:
    """One registration by this package."""
    from deepprep.registration.affine import register_affine
    from deepprep.registration.diffeomorphic import LEVELS, register_diffeomorphic
    from deepprep.registration.engines import COMPACT_FILE
    from deepprep.registration.flow import flow_of
    from deepprep.registration.label_channels import LabelPair
    from deepprep.registration.synthmorph.compact import compact_velocity

    fixed, moving = (load_volume(work / f"{h}_brain.nii") for h in (job.fixed, job.moving))
    labels = LabelPair(load(work, job.fixed, "seg"), load(work, job.moving, "seg"))
    compile_kernels(labels)
    started, cpu = time.perf_counter(), time.process_time()
    used = None if job.method == "ours-image" else labels
    affine = register_affine(fixed, moving, labels=used)
    log: dict = {}
    chain, back = Chain([affine]), Chain([affine.inverse()])
    start = None
    if job.method.startswith("network"):
        start = compact_velocity(fixed, moving, affine, COMPACT_FILE)
    if job.method != "affine":
        if job.method == "network" and start is not None:
            result = flow_of(start, fixed, affine)
        else:
            result = register_diffeomorphic(
                fixed, moving, affine, labels=used, start=start,
                levels=LEVELS if start is None else LEVELS[1:],
            )  # fmt: skip
        chain, back = result.fixed_to_moving(), result.moving_to_fixed(moving.grid)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if job.method != "affine":
        jacobian = jacobian_determinant(result.forward)
        inside = resample(fixed.like((fixed.data > 0).astype(np.float32)), jacobian.grid, None,
                          "linear").data > 0.5  # fmt: skip
        values = jacobian.data[inside]
        points = np.argwhere(fixed.data > 0)[::37] @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        error = np.linalg.norm(back.map_points(chain.map_points(points)) - points, axis=1)
        log = {
            "jacobian": [float(values.min()), float(values.max())],
            "folds": int((values <= 0).sum()),
            "inverse_mm": [float(error.mean()), float(error.max())],
            "levels": result.log["levels"],
        }
    out = str(job.path(work))
    write_composite(f"{out}.h5", chain)
    write_composite(f"{out}_inverse.h5", back)
    log |= {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": peak_mb(),
    }
    Path(f"{out}.json").write_text(json.dumps(log))


def peak_mb() -> float:
    """Largest memory of this process; ``getrusage`` would give that of its parent if it is larger."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def compile_kernels(labels: object) -> None:
    """Load the compiled kernels once, so that a cold cache is not in the time."""
    from deepprep.registration.affine import register_affine
    from deepprep.registration.diffeomorphic import Level, register_diffeomorphic

    tiny = Volume(
        np.random.default_rng(0).random((12, 12, 12), np.float32), np.diag([8, 8, 8, 1.0])
    )
    register_affine(tiny, tiny, init=Affine.identity())
    register_diffeomorphic(tiny, tiny, Affine.identity(), levels=(Level(8.0, 1, 1.0, 1.0),))


def prepare(heads: tuple[str, ...], shared_data: Path, work: Path) -> None:
    """Brain image, our segmentation and true labels of each head and of the template."""
    for name in (*heads, TEMPLATE):
        if (work / f"{name}_brain.nii").is_file():
            continue
        head, truth, parcels, mask = source(name, shared_data)
        head, mask, labels = process(head, mask)
        save(head.like(labels.astype(np.uint8)), work / f"{name}_seg.nii")
        if truth is not None:
            save(head.like(truth.astype(np.int16)), work / f"{name}_truth.nii")
        if parcels is not None:
            save(head.like(parcels.astype(np.int16)), work / f"{name}_parcels.nii")
        brain = head.like(np.where(mask, head.data, 0).astype(np.float32))
        save(cropped(brain, MARGIN_VOX), work / f"{name}_brain.nii")


def source(name: str, shared_data: Path):
    """Head, structures, parcels and brain mask, as far as there are any."""
    if name == TEMPLATE:
        files = template_files(TEMPLATE, 1)
        return load_volume(files.t1w), None, None, load_volume(files.mask).data > 0.5
    if name.startswith("map"):
        return (*synthetic_head(int(name.split("-")[1]), shared_data), None, None)
    mri = next((shared_data / "freesurfer-silver" / name).rglob("T1.mgz")).parent
    truth, parcels = (
        np.asarray(nib.load(mri / file).dataobj).astype(int)
        for file in ("aseg.mgz", "aparc.DKTatlas+aseg.mgz")
    )
    for label, target in MERGED.items():
        truth[truth == label] = target
    truth[~np.isin(truth, SCORED)] = 0
    return load_volume(mri / "T1.mgz"), truth, np.where(parcels >= 1000, parcels, 0), None


def synthetic_head(number: int, shared_data: Path) -> tuple[Volume, np.ndarray]:
    """A whole T1w head at 1 mm with usual noise, made from a label map; its true labels."""
    from training.segmentation.generator import HeadGenerator, Settings
    from training.segmentation.labels import CLASSES, load_maps

    whole = Settings(
        p_small_centre=0, p_stripped=0, p_deface=0, p_vessels=0, p_lesions=0, p_motion=0, p_cut=0,
        usual=True,
    )  # fmt: skip
    maps = load_maps(shared_data / "synthseg-labels", (number,))
    sample = HeadGenerator(maps, (192, 224, 224), "cpu", whole)(SEED + number - 13, 0)
    affine = np.eye(4)
    affine[:3, 3] = (-96, -112, -112)
    truth = np.array(CLASSES)[sample.target[0].numpy()]
    truth = np.where(np.isin(truth, SCORED), truth, 0)
    return Volume((sample.image[0, 0].numpy() * 100).astype(np.float32), affine), truth


def process(head: Volume, mask: np.ndarray | None) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Bias-corrected head, brain mask and labels, as the workflow makes them."""
    from deepprep.image.bias import correct_bias
    from deepprep.image.brain_mask import extract_brain
    from deepprep.segmentation.brain import choose_brain
    from deepprep.segmentation.engines import choose_engine

    engine, weights, _ = choose_engine("deepprep")
    extracted = extract_brain(head).mask if mask is None else mask
    if mask is None:
        head = correct_bias(head, extracted).corrected
    found = engine.segment(head, extracted, weights, device="cpu", threshold=0.5)
    brain = choose_brain(extracted, found.labels, head.zooms_mm).mask if mask is None else mask
    return head, brain, np.where(brain, found.labels, 0)


def truths(work: Path, name: str) -> list[Volume]:
    """Structures and, where there are any, parcels."""
    kinds = [k for k in ("truth", "parcels") if (work / f"{name}_{k}.nii").is_file()]
    return [load(work, name, kind) for kind in kinds]


def labels_of(work: Path, fixed: str, moving: str, grid: Grid) -> Iterator[tuple[Volume, Volume]]:
    """Pairs of true label images; the fixed one on ``grid``."""
    for own, other in zip(truths(work, fixed), truths(work, moving)):
        yield resample(own, grid, None, "nearest"), cropped(other)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Mean Dice over the labels that either image has."""
    size = int(max(a.max(), b.max())) + 1
    both = np.bincount(a[a == b].ravel().astype(int), minlength=size)
    total = sum(np.bincount(x.ravel().astype(int), minlength=size) for x in (a, b))
    present = total > 0
    present[0] = False
    return float((2 * both[present] / total[present]).mean())


def cropped(volume: Volume, margin: int = 4) -> Volume:
    """The box of what is not zero."""
    used = np.argwhere(volume.data > 0)
    low = np.maximum(used.min(0) - margin, 0)
    high = np.minimum(used.max(0) + margin + 1, volume.shape)
    return volume.part([slice(a, b) for a, b in zip(low, high)])


def load(work: Path, name: str, kind: str) -> Volume:
    """A label image of WORK."""
    return load_volume(work / f"{name}_{kind}.nii", np.int16)


def save(volume: Volume, path: Path) -> None:
    """Uncompressed NIfTI."""
    nib.Nifti1Image(volume.data, volume.affine).to_filename(path)


if __name__ == "__main__":
    main()
