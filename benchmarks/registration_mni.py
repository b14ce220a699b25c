"""Registration of real heads to MNI152NLin2009cAsym: folding, inverse, overlap, time.

    python benchmarks/registration_mni.py SHARED_DATA [--pictures FOLDER] [--only NAME ...]

Masks, corrects and segments each head with the package, registers it by affine and by velocity
field (image and brain structures, as the workflow does) and writes
benchmarks/results/registration_mni.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.data.templates import template_files
from deepprep.image.bias import correct_bias
from deepprep.image.brain_mask import extract_brain
from deepprep.image.conform import to_ras
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.affine import register_affine
from deepprep.registration.diffeomorphic import register_diffeomorphic
from deepprep.registration.label_channels import LabelPair
from deepprep.registration.transforms import jacobian_determinant
from deepprep.segmentation.brain import choose_brain
from deepprep.segmentation.engines import choose_engine
from deepprep.segmentation.partial_volume import tissue_maps

RESULTS = Path(__file__).parent / "results" / "registration_mni.md"
HEADS = {
    "forrest": "bids-forrest/sub-02/anat/sub-02_T1w.nii.gz",
    "ds002748-01": "ds002748/sub-01/anat/sub-01_T1w.nii.gz",
    "ds002748-05": "ds002748/sub-05/anat/sub-05_T1w.nii.gz",
    "ds002748-09": "ds002748/sub-09/anat/sub-09_T1w.nii.gz",
    "chris": "heads/chris_t1.nii.gz",
}
HEADER = """# Registration to MNI152NLin2009cAsym

`python benchmarks/registration_mni.py SHARED_DATA`. Dice of GM/WM/CSF labels and local correlation
(9 mm windows, brain) on the 1 mm template, after the affine and after the velocity field. Jacobian
of the warp on its working lattice; folded = voxels with a determinant of 0 or less, corner = the
smallest determinant at any corner of any cell. Inverse error in mm in the brain. `cpu` is process
time of the deformable step alone. Tissues of the subject are the package's own, so Dice also holds
the difference between two segmentations; structures take part in the registration, tissues do not.

| head | Dice affine | Dice warp | LNCC affine | LNCC warp | Jacobian | corner | folded | inverse mean/max | affine s | warp s (cpu) |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def local_correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Mean over ``inside`` of the correlation in windows of 9 voxels."""

    def box(x: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(x.astype(np.float64), 9)

    mean_a, mean_b = box(a), box(b)
    covariance = box(a * b) - mean_a * mean_b
    power = (box(a * a) - mean_a**2) * (box(b * b) - mean_b**2)
    return float((covariance / np.sqrt(np.maximum(power, 1e-8)))[inside].mean())


def dice(a: np.ndarray, b: np.ndarray) -> str:
    """Overlap of the labels 1, 2 and 3."""
    scores = [
        2 * np.sum((a == k) & (b == k)) / (np.sum(a == k) + np.sum(b == k)) for k in (1, 2, 3)
    ]
    return "/".join(f"{score:.3f}" for score in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--only", nargs="+", default=list(HEADS))
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        rows.append(row(name, arguments.shared_data / HEADS[name], arguments.pictures))
        print(rows[-1], flush=True)
    if set(arguments.only) == set(HEADS):
        RESULTS.write_text(HEADER + "\n".join(rows) + "\n")


def row(name: str, path: Path, pictures: Path | None) -> str:
    """Register one head; one line of the table."""
    files = template_files("MNI152NLin2009cAsym", 1)
    fixed, fixed_mask = load_volume(files.brain), load_volume(files.mask)
    labels = load_volume(files.dseg, None)
    head = to_ras(load_volume(path))
    extracted = extract_brain(head).mask
    head = correct_bias(head, extracted).corrected
    engine, weights, _ = choose_engine("deepprep")
    found = engine.segment(head, extracted, weights, device="cpu", threshold=0.5)
    mask = choose_brain(extracted, found.labels, head.zooms_mm).mask
    tissues = tissue_maps(head, found, mask)
    moving, moving_mask = head.like(head.data * mask), head.like(mask.astype(np.float32))
    pair = LabelPair(load_volume(files.aseg, np.uint8), head.like(found.labels * mask))
    started = time.perf_counter()
    affine = register_affine(
        fixed, moving, fixed_mask=fixed_mask, moving_mask=moving_mask, labels=pair
    )
    affine_s = time.perf_counter() - started
    cpu = time.process_time()
    result = register_diffeomorphic(
        fixed, moving, affine, fixed_mask=fixed_mask, moving_mask=moving_mask, labels=pair
    )
    cpu = time.process_time() - cpu
    print(result.log)
    scores = []
    for kind, transform in (("affine", affine), ("warp", result.fixed_to_moving())):
        image = resample(moving, fixed.grid, transform, "linear")
        own = resample(head.like(tissues.dseg), fixed.grid, transform, "label").data
        inside = fixed_mask.data > 0.5
        scores.append((dice(own, labels.data), local_correlation(image.data, fixed.data, inside)))
        if pictures:
            draw(pictures / f"{name}_{kind}.png", fixed, image, labels.data)
    jacobian = jacobian_determinant(result.forward).data
    points = np.argwhere(fixed_mask.data > 0.5)[::37] @ fixed.affine[:3, :3].T
    points = points + fixed.affine[:3, 3]
    there = result.fixed_to_moving().map_points(points)
    error = np.linalg.norm(result.moving_to_fixed().map_points(there) - points, axis=1)
    return (
        f"| {name} | {scores[0][0]} | {scores[1][0]} | {scores[0][1]:.3f} | {scores[1][1]:.3f} "
        f"| {jacobian.min():.2f} to {jacobian.max():.2f} | {result.log['smallest_jacobian']:.3f} "
        f"| {int((jacobian <= 0).sum())} | {error.mean():.3f}/{error.max():.2f} "
        f"| {affine_s:.1f} | {result.log['seconds']:.1f} ({cpu:.1f}) |"
    )


def draw(path: Path, fixed: Volume, image: Volume, labels: np.ndarray) -> None:
    """Template, registered head and a checkerboard of both, with the template's white matter."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    top = np.percentile(image.data[image.data > 0], 99.5)
    a, b = fixed.data / fixed.data.max(), np.clip(image.data / top, 0, 1)
    squares = (np.indices(a.shape) // 16).sum(0) % 2 == 0
    figure, axes = plt.subplots(3, 4, figsize=(16, 13))
    cuts = (np.s_[:, :, 85], np.s_[:, :, 60], np.s_[:, 110, :], np.s_[80, :, :])
    for line, data in zip(axes, (a, b, np.where(squares, a, b))):
        for axis, cut in zip(line, cuts):
            axis.imshow(data[cut].T, origin="lower", cmap="gray", vmin=0, vmax=1)
            axis.contour((labels == 2)[cut].T, [0.5], colors="red", linewidths=0.5)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    plt.close(figure)


if __name__ == "__main__":
    main()
