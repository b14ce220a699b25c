"""Do antspyx and nitransforms map points as this package does, from the files it writes?

    python -m benchmarks.registration_files WORK --peers PEERS/bin/python [--pair sub-01 sub-02]

WORK is that of ``registration_overlap`` after its method ``ours``. Both composite files of a pair,
forward and inverse, are applied to voxel centres in the brain by this package, by nitransforms and
by ``ants.apply_transforms``. Writes results/registration_files.md.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.registration.itk import read_composite

RESULTS = Path(__file__).parent / "results" / "registration_files.md"
FAR_MM = -9000.0
HEADER = """# ITK files of the normalisation, applied by others

`python -m benchmarks.registration_files WORK --peers PYTHON`. Distance in mm between where this
package and another one map voxel centres of the brain (1 mm voxels): mean (largest). ANTs and this
package interpolate the field linearly; nitransforms by cubic splines, which differs between the
points of its lattice and not on them: `forward` lies on the voxels of the fixed image and `inverse`
on those of the moving one, at which they are asked. (Where voxels of the T1w are smaller than 0.75 mm, its
inverse lies on the template's; between those the two differ by 0.02 mm on average, 0.20 mm at most.)

| file | points | antspyx | nitransforms |
|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peers", type=Path, required=True, help="Python that has antspyx")
    parser.add_argument("--pair", nargs=2, default=["sub-01", "sub-02"])
    given = parser.parse_args()
    fixed, moving = given.pair
    stem = given.work / "transforms" / f"ours_{fixed}_{moving}"
    rows = [
        row("forward", Path(f"{stem}.h5"), fixed, moving, given),
        row("inverse", Path(f"{stem}_inverse.h5"), moving, fixed, given),
    ]
    print("\n".join(rows))
    RESULTS.write_text(HEADER + "\n".join(rows) + "\n")


def row(name: str, file: Path, fixed: str, moving: str, given: argparse.Namespace) -> str:
    """One line of the table."""
    images = [given.work / f"{head}_brain.nii" for head in (fixed, moving)]
    head = load_volume(images[0])
    voxels = np.argwhere(head.data > 0)[::13]
    points = voxels @ head.affine[:3, :3].T + head.affine[:3, 3]
    own = read_composite(file).map_points(points)
    cells = []
    for there in (by_ants(file, images, voxels, given.peers), by_nitransforms(file, head, points)):
        inside = (there > FAR_MM).all(axis=1)
        error = np.linalg.norm(there - own, axis=1)[inside]
        cells.append(f"{error.mean():.5f} ({error.max():.4f}), {inside.mean():.1%} of the points")
    return f"| {name} | {len(points)} | {cells[0]} | {cells[1]} |"


def by_ants(file: Path, images: list[Path], voxels: np.ndarray, peers: Path) -> np.ndarray:
    """(N, 3) RAS mm."""
    script = Path(__file__).parent / "peers" / "ants_apply.py"
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/points.npy"
        subprocess.run([str(peers), str(script), str(file), *map(str, images), out], check=True)
        return np.load(out)[:, voxels[:, 0], voxels[:, 1], voxels[:, 2]].T.astype(np.float64)


def by_nitransforms(file: Path, head: Volume, points: np.ndarray) -> np.ndarray:
    """(N, 3) RAS mm."""
    from nitransforms.manip import load

    return np.asarray(load(file, fmt="itk").map(points))


if __name__ == "__main__":
    main()
