"""Surface outputs of a finished run, read by other programs.

    python -m benchmarks.surface_files OUT_DIR [--stats-python PEER/bin/python]

OUT_DIR is a finished output folder with surfaces. Every GIFTI and CIFTI file is opened with nibabel and with
`wb_command -file-information` (Debian's connectome-workbench), GIFTI also with nilearn; every geometry,
overlay, label and annotation of the FreeSurfer folder with nibabel; every `?h.*.stats` with pandas and, with
--stats-python (an environment with `pip install freesurfer-stats`), with that reader. A warning
counts as a failure (but for freesurfer-stats, which itself calls what NumPy deprecates). Writes benchmarks/results/surface_files.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import surface

from deepprep.interfaces.surfaces import MORPHS

RESULTS = Path(__file__).parent / "results" / "surface_files.md"
GIFTI = ("*.surf.gii", "*.shape.gii", "*.label.gii", "*.func.gii")
CIFTI = ("*.dscalar.nii", "*.dtseries.nii", "*.dlabel.nii")
OVERLAYS = (*MORPHS.values(), "jacobian_white")
GEOMETRIES = ("orig", "white", "pial", "smoothwm", "inflated", "sphere", "sphere.reg")
STATS = """
import sys
from freesurfer_stats import CorticalParcellationStats
for path in sys.argv[1:]:
    found = CorticalParcellationStats.read(path)
    assert len(found.structural_measurements) > 10, path
    assert (found.structural_measurements["average_thickness_mm"] > 0).any(), path
"""


def with_nibabel(path: Path) -> None:
    image = nib.load(path)
    if path.name.endswith(".nii"):
        assert np.isfinite(np.asarray(image.dataobj)).any()
    else:
        assert all(len(array.data) for array in image.darrays)


def with_nilearn(path: Path) -> None:
    if path.name.endswith(".surf.gii"):
        mesh = surface.load_surf_mesh(str(path))
        assert mesh.faces.max() < len(mesh.coordinates)
    else:
        assert len(surface.load_surf_data(str(path)))


def with_workbench(path: Path) -> None:
    done = subprocess.run(
        ["wb_command", "-file-information", str(path)], capture_output=True, text=True, check=False
    )
    said = [s for s in (done.stdout + done.stderr).splitlines() if "warn" in s.lower()]
    if done.returncode or said or done.stderr.strip():
        raise ValueError(" ".join([*said, done.stderr.strip()])[:200] or f"exit {done.returncode}")


def with_freesurfer_reader(path: Path) -> None:
    name = path.name.split(".", 1)[1]
    if path.suffix == ".annot":
        labels, table, names = nib.freesurfer.read_annot(str(path))
        assert labels.max() < len(names) == len(table)
    elif path.suffix == ".label":
        assert len(nib.freesurfer.read_label(str(path)))
    elif name in OVERLAYS:
        assert np.isfinite(nib.freesurfer.read_morph_data(str(path))).all()
    else:
        points, faces, info = nib.freesurfer.read_geometry(str(path), read_metadata=True)
        assert faces.max() < len(points) and len(info["cras"]) == 3


def with_pandas(path: Path) -> None:
    header = [s for s in path.read_text().splitlines() if s.startswith("# ColHeaders")]
    columns = header[0].split()[2:]
    table = pd.read_csv(path, comment="#", sep=r"\s+", header=None, names=columns)
    assert len(table) > 10 and table.notna().all(axis=None)
    assert (table["ThickAvg"].between(0, 5)).all() and (table["NumVert"] >= 0).all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--stats-python")
    options = parser.parse_args()
    gifti = [p for pattern in GIFTI for p in sorted(options.out_dir.rglob(pattern))]
    cifti = [p for pattern in CIFTI for p in sorted(options.out_dir.rglob(pattern))]
    subjects = [p.parent for p in sorted(options.out_dir.glob("sourcedata/freesurfer/*/surf"))]
    native, stats = [], []
    for subject in subjects:
        for hemi in ("lh", "rh"):
            names = [f"surf/{hemi}.{n}" for n in (*GEOMETRIES, *OVERLAYS)]
            native += [subject / n for n in names if (subject / n).is_file()]
            native += sorted(subject.glob(f"label/{hemi}.*"))
            stats += sorted(subject.glob(f"stats/{hemi}.*.stats"))
    jobs: list[tuple[str, Callable[[Path], None], list[Path]]] = [
        ("nibabel", with_nibabel, gifti + cifti),
        ("nilearn", with_nilearn, gifti),
        ("nibabel.freesurfer", with_freesurfer_reader, native),
        ("pandas", with_pandas, stats),
    ]
    if shutil.which("wb_command"):
        jobs.append(("wb_command", with_workbench, gifti + cifti))
    if options.stats_python:
        command = [options.stats_python, "-c", STATS]
        jobs.append(
            (
                "freesurfer-stats",
                lambda path: subprocess.run([*command, str(path)], check=True) and None,
                stats,
            )
        )
    rows, failures = [], []
    for reader, read, paths in jobs:
        kinds = Counter("".join(p.suffixes[-2:]) if p in gifti + cifti else p.suffix for p in paths)
        bad = 0
        for path in paths:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    read(path)
            except Exception as err:
                bad += 1
                failures.append(f"- {reader}: `{path.relative_to(options.out_dir)}`: {err}")
                print(failures[-1], flush=True)
        what = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(6))
        rows.append(f"| {reader} | {len(paths)} ({what}) | {bad} |")
        print(rows[-1], flush=True)
    lines = [
        "# Surface outputs read by other programs",
        "",
        "`python -m benchmarks.surface_files OUT_DIR`. A warning counts as a failure.",
    ]
    lines += ["", "| reader | files | failures |", "|---|---|---|", *rows, "", *failures]
    RESULTS.write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
