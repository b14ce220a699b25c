"""Measure the intracranial volume of the bundled MNI152NLin6Asym head.

Run once by a maintainer; the result is ``TEMPLATE_ICV_MM3`` in
``deepprep/segmentation/intracranial.py``::

    python training/templates/measure_intracranial_volume.py --labels shared/data/synthseg-labels

The inner table of the skull cannot be seen in the template (an average of 152 heads, where bone
and fluid are both dark), so its volume is taken from heads whose skull is labelled: each label map
(14 whole heads, Apache-2.0) is painted as a T1w head, its brain is found and registered to the
template exactly as a subject's is, and its labelled intracranial volume (brain, all fluid, dura)
is carried to the template by the determinant of the affine. The mean over heads is the volume; the
spread over heads is what to expect of an estimate of a single head. Maps 15 and 16 are left out of
the mean and printed as a check.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.image.brain_mask import extract_brain
from deepprep.image.volume import Volume
from deepprep.interfaces.freesurfer import template_brain
from deepprep.interfaces.nifti import load_volume
from deepprep.segmentation.intracranial import estimate_intracranial_volume

PAINT = {
    **dict.fromkeys((2, 41), 110), **dict.fromkeys((7, 46), 105), 16: 95,
    **dict.fromkeys((25, 57), 85), **dict.fromkeys((3, 42), 75), **dict.fromkeys((8, 47), 72),
    24: 25, **dict.fromkeys((4, 5, 14, 15, 43, 44, 72), 20), **dict.fromkeys((10, 49), 92),
    **dict.fromkeys((11, 50), 82), **dict.fromkeys((12, 51), 85), **dict.fromkeys((13, 52), 98),
    **dict.fromkeys((17, 53), 76), **dict.fromkeys((18, 54), 74), **dict.fromkeys((26, 58), 78),
    **dict.fromkeys((28, 60), 95), 85: 90, **dict.fromkeys((30, 62), 40),
    **dict.fromkeys((136, 137, 163, 164), 35),
    502: 60, 506: 35, 507: 55, 508: 70, 509: 8, 511: 120, 512: 80, 514: 45, 515: 12, 516: 85,
    530: 70,
}  # fmt: skip
"""T1w-like intensity of each label (white matter 110)."""

DURA = 514
FIRST_OUTSIDE = 500
"""Labels from here are outside the skull's inner table, but for the dura."""

HELD_OUT = ("15", "16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, required=True, help="folder of seg_*.nii.gz")
    args = parser.parse_args()
    lut = np.zeros(1024, dtype=np.float32)
    lut[list(PAINT)] = list(PAINT.values())
    ratios = {}
    for path in sorted(args.labels.glob("seg_*.nii.gz")):
        labels = load_volume(path, np.int16)
        inside = ((labels.data > 0) & (labels.data < FIRST_OUTSIDE)) | (labels.data == DURA)
        true_mm3 = inside.sum() * labels.grid.voxel_volume_mm3
        noise = np.random.default_rng(0).normal(0, 3, labels.shape)
        image = ndimage.gaussian_filter(lut[labels.data], 0.6) + noise
        head = Volume(np.maximum(image, 0).astype(np.float32), labels.affine)
        mask = extract_brain(head, "auto", "cpu").mask
        found = estimate_intracranial_volume(head, mask, template_brain())
        name = path.name[4:6]
        ratios[name] = true_mm3 * found.t1w_to_template_det
        print(
            f"{name} true {true_mm3 / 1e3:.0f} ml, estimated {found.volume_mm3 / 1e3:.0f} ml, "
            f"template {ratios[name] / 1e3:.0f} ml",
            flush=True,
        )
    used = np.array([v for k, v in ratios.items() if k not in HELD_OUT])
    print(
        f"template {used.mean():.0f} mm3, spread of one head {100 * used.std() / used.mean():.1f} %"
    )


if __name__ == "__main__":
    main()
