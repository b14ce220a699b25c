"""Labels of one real head stored in all 48 orders and directions of its axes.

    python -m benchmarks.segmentation_orientations SHARED_DATA [--orientations 48]

Each copy goes to the embedded network as it is (in the pipeline all images are set to RAS before); its
labels are turned back and compared with those of the first. Sides are counted by where they lie.
Writes benchmarks/results/segmentation_orientations.md.
"""

from __future__ import annotations

import argparse
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np

from deepprep.image.bias import correct_bias
from deepprep.image.brain_mask import extract_brain
from deepprep.image.conform import to_ras
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.segmentation.engines import choose_engine

RESULTS = Path(__file__).parent / "results" / "segmentation_orientations.md"
HEAD = "heads/chris_t1.nii.gz"
LEFT, RIGHT = (2, 3, 10, 11, 12, 17), (41, 42, 49, 50, 51, 53)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path)
    parser.add_argument("--orientations", type=int, default=48)
    given = parser.parse_args()
    head = to_ras(load_volume(given.shared_data / HEAD))
    mask = extract_brain(head).mask
    head = correct_bias(head, mask).corrected
    engine, weights, _ = choose_engine("deepprep")
    first, agree, swapped, done = None, [], 0, 0
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        if done == given.orientations:
            break
        turn = np.c_[order, signs]
        affine = head.affine @ nib.orientations.inv_ornt_aff(turn, head.shape)
        image, inside = (
            np.ascontiguousarray(nib.apply_orientation(data, turn)) for data in (head.data, mask)
        )
        copy = Volume(image, affine)
        found = engine.segment(copy, inside, weights, device="cpu", threshold=0.5).labels
        swapped += sides_swapped(found, affine)
        # back to the axes of the head
        back = nib.orientations.ornt_transform(turn_of(affine), turn_of(head.affine))
        labels = nib.apply_orientation(found, back)
        first = labels if first is None else first
        agree.append(float((labels == first)[(labels > 0) | (first > 0)].mean()))
        done += 1
        print(done, "".join(nib.aff2axcodes(affine)), f"{agree[-1]:.6f}", swapped, flush=True)
    same = sum(a == 1.0 for a in agree)
    RESULTS.write_text(
        "# All orders and directions of the axes\n\n"
        "`python -m benchmarks.segmentation_orientations SHARED_DATA`; head `chris`, each copy given "
        "to the embedded network as it is stored. Agreement with the labels of the first copy over "
        "labelled voxels.\n\n"
        "| copies | same labels in every voxel | least agreement | left taken for right |\n"
        "|---|---|---|---|\n"
        f"| {done} | {same} | {min(agree):.6f} | {swapped} |\n"
    )


def turn_of(affine: np.ndarray) -> np.ndarray:
    """Orientation of an affine."""
    return nib.orientations.io_orientation(affine)


def sides_swapped(labels: np.ndarray, affine: np.ndarray) -> bool:
    """Whether any left structure lies right of its right counterpart."""
    for left, right in zip(LEFT, RIGHT):
        x = [
            (np.argwhere(labels == k).mean(0) @ affine[:3, :3].T + affine[:3, 3])[0]
            for k in (left, right)
        ]
        if x[0] >= x[1]:
            return True
    return False


if __name__ == "__main__":
    main()
