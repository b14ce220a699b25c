"""World coordinates that antspyx gives a composite transform; run by ``registration_files.py``.

    python ants_apply.py TRANSFORM.h5 FIXED.nii MOVING.nii OUT.npy

Three images whose values are the x, y and z of the moving lattice (RAS mm) are resampled onto the
fixed lattice by ``ants.apply_transforms``: what arrives at a voxel is where its centre was mapped.
Linear interpolation of a ramp is exact. Writes (3, X, Y, Z) float32, RAS mm.
"""

from __future__ import annotations

import sys

import ants
import numpy as np

FAR_MM = -9999.0
"""Value of points that leave the moving lattice."""


def main() -> None:
    transform, fixed_path, moving_path, out = sys.argv[1:]
    fixed, moving = ants.image_read(fixed_path), ants.image_read(moving_path)
    index = np.indices(moving.shape).reshape(3, -1)
    lps = moving.direction @ (index * np.array(moving.spacing)[:, None])
    lps += np.array(moving.origin)[:, None]
    ras = lps * np.array([-1.0, -1.0, 1.0])[:, None]
    found = [
        ants.apply_transforms(
            fixed,
            ants.from_numpy(
                axis.reshape(moving.shape).astype(np.float32),
                origin=moving.origin, spacing=moving.spacing, direction=moving.direction,
            ),
            transformlist=[transform], interpolator="linear", defaultvalue=FAR_MM,
        ).numpy()
        for axis in ras
    ]  # fmt: skip
    np.save(out, np.stack(found).astype(np.float32))


if __name__ == "__main__":
    main()
