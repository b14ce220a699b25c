"""One registration by ANTs, run by ``registration_overlap.py`` with a Python that has antspyx.

    python ants_registration.py affine|syn|precise FIXED.nii MOVING.nii OUT_PREFIX

``syn`` is ``ants.registration(type_of_transform='SyN')`` as it comes. ``precise`` is fMRIPrep's
t1w-mni_registration_precise: rigid, affine, SyN 0.1/3/0 with cross-correlation of radius 4,
100x70x50x20 iterations down to full resolution. Writes OUT_PREFIX.h5, a composite ITK transform of
fixed points to moving points, OUT_PREFIX_inverse.h5 and OUT_PREFIX.json with the times.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import ants

STAGES = {
    "affine": {"type_of_transform": "Affine"},
    "syn": {"type_of_transform": "SyN"},
    "precise": {
        "type_of_transform": "SyN",
        "grad_step": 0.1,
        "flow_sigma": 3,
        "total_sigma": 0,
        "syn_metric": "CC",
        "syn_sampling": 4,
        "reg_iterations": (100, 70, 50, 20),
    },
}


def main() -> None:
    kind, fixed_path, moving_path, prefix = sys.argv[1:]
    fixed, moving = ants.image_read(fixed_path), ants.image_read(moving_path)
    options = dict(STAGES[kind])
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.perf_counter(), time.process_time()
        if kind == "precise":
            rigid = ants.registration(fixed, moving, "Rigid", outprefix=f"{folder}/rigid_")
            options["initial_transform"] = rigid["fwdtransforms"][0]
        found = ants.registration(
            fixed, moving, outprefix=f"{folder}/x_", write_composite_transform=True, **options
        )
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        shutil.move(found["fwdtransforms"], f"{prefix}.h5")
        shutil.move(found["invtransforms"], f"{prefix}_inverse.h5")
    times = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        # getrusage would give the memory of the process that started this one if it is larger
        "peak_mb": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
    }
    with open(f"{prefix}.json", "w") as file:
        json.dump(times, file)


if __name__ == "__main__":
    main()
