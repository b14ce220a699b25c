"""Build deepprep/data/atlases from the files of public wheels.

    pip download --no-deps t1prep==0.8.1 smriprep==0.19.5 && unzip each into a folder
    python training/atlases/build_surface_atlases.py T1PREP_FOLDER SMRIPREP_FOLDER OUT

Spheres are quantised to 1e-4 mm (the files hold single precision), labels to 16 bit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial import cKDTree

QUANTUM_MM = 1e-4
SIDES = {"lh": "L", "rh": "R"}
ATLASES = {
    "aparc": "aparc_DK40.freesurfer",
    "aparc.a2009s": "aparc_a2009s.freesurfer",
    "hcp-mmp": "aparc_HCP_MMP1",
    **{f"schaefer{n}": f"Schaefer2018_{n}Parcels_17Networks_order" for n in (100, 200, 400, 600)},
}


def surface(path: Path) -> tuple[np.ndarray, np.ndarray]:
    points, faces = (array.data for array in nib.load(path).darrays[:2])
    return points.astype(np.float64), faces.astype(np.int32)


def quantised(points: np.ndarray) -> np.ndarray:
    return np.round(points / QUANTUM_MM).astype(np.int32)


def parents_of(points: np.ndarray) -> np.ndarray:
    """The two vertices of which each vertex of fsaverage after the twelfth is the midpoint."""
    out = np.zeros((len(points), 2), dtype=np.int32)
    for level in range(7):
        old, new = 10 * 4**level + 2, 10 * 4 ** (level + 1) + 2
        near = cKDTree(points[:old]).query(points[old:new], k=2)[1]
        out[old:new] = np.sort(near, axis=1)
        middle = points[out[old:new]].sum(axis=1)
        middle *= 100 / np.linalg.norm(middle, axis=1, keepdims=True)
        assert np.abs(middle - points[old:new]).max() < 0.05, level
    return out[12:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("t1prep", type=Path)
    parser.add_argument("smriprep", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    t1prep, smriprep = (
        arguments.t1prep / "t1prep/data",
        arguments.smriprep / "smriprep/data/atlases",
    )
    arguments.out.mkdir(parents=True, exist_ok=True)

    spheres: dict[str, np.ndarray] = {}
    for hemi, side in SIDES.items():
        points, _ = surface(smriprep / f"fs_{side}/fsaverage.{side}.sphere.164k_fs_{side}.surf.gii")
        if hemi == "lh":
            spheres["fsaverage_parents"] = parents_of(points)
            spheres["fsaverage_corners"] = points[:12]
        else:
            assert (parents_of(points) == spheres["fsaverage_parents"]).all()
        moved, _ = surface(
            smriprep
            / f"fs_{side}/fs_{side}-to-fs_LR_fsaverage.{side}_LR.spherical_std.164k_fs_{side}.surf.gii"
        )
        spheres[f"{hemi}_fsaverage_to_fsLR"] = quantised(moved)
        points, faces = surface(smriprep / f"fsaverage.{side}_LR.spherical_std.164k_fs_LR.surf.gii")
        spheres[f"{hemi}_fsLR_164k"] = quantised(points)
        spheres[f"{hemi}_fsLR_164k_faces"] = faces
        points, faces = surface(t1prep / f"templates_surfaces_fsLR/{hemi}.sphere.fsLR.gii")
        spheres[f"{hemi}_fsLR_32k"] = quantised(points)
        spheres[f"{hemi}_fsLR_32k_faces"] = faces
        roi = nib.load(smriprep / f"{side}.atlasroi.32k_fs_LR.shape.gii").darrays[0].data
        spheres[f"{hemi}_fsLR_32k_cortex"] = roi > 0.5
        # The same 32k vertices in the space of fsaverage: where the parcels are.
        points, other = surface(t1prep / f"templates_surfaces_32k/{hemi}.sphere.freesurfer.gii")
        spheres[f"{hemi}_atlas_32k"] = quantised(points)
        spheres[f"{hemi}_atlas_32k_faces"] = other
    # Faces that are equal are kept once.
    for kind in ("fsLR_164k_faces", "fsLR_32k_faces", "atlas_32k_faces"):
        print(
            kind,
            "equal left and right",
            np.array_equal(spheres[f"lh_{kind}"], spheres[f"rh_{kind}"]),
        )
    print("32k equal", np.array_equal(spheres["lh_fsLR_32k_faces"], spheres["lh_atlas_32k_faces"]))
    for key in list(spheres):
        if key.endswith("_faces") and not key.startswith("lh_fsLR"):
            twin = "lh_fsLR_164k_faces" if "164k" in key else "lh_fsLR_32k_faces"
            if np.array_equal(spheres[key], spheres[twin]):
                del spheres[key]
    np.savez_compressed(arguments.out / "spheres.npz", **spheres)

    labels: dict[str, np.ndarray] = {}
    for name, file in ATLASES.items():
        for hemi in SIDES:
            label, table, names = nib.freesurfer.read_annot(
                t1prep / f"atlases_surfaces_32k/{hemi}.{file}.annot"
            )
            labels[f"{hemi}.{name}.labels"] = label.astype(np.int16)
            labels[f"{hemi}.{name}.colours"] = table[:, :4].astype(np.uint8)
            labels[f"{hemi}.{name}.names"] = np.array([n.decode() for n in names])
    np.savez_compressed(arguments.out / "parcellations.npz", **labels)


if __name__ == "__main__":
    main()
