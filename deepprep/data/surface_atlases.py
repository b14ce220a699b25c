"""The spheres of the group spaces, the average folding and the parcellations that come along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial import cKDTree

from deepprep.data.parcellations import BUNDLED
from deepprep.data.templates import template_files
from deepprep.errors import InputError
from deepprep.image.volume import Volume
from deepprep.surface.barycentric import locate
from deepprep.surface.icosphere import icosahedron, subdivided
from deepprep.surface.landmarks import nearness
from deepprep.surface.mesh import Mesh
from deepprep.surface.spherical_registration import FoldingTarget, standardised

FOLDER = Path(__file__).parent / "atlases"
QUANTUM_MM = 1e-4
"""Unit of the stored coordinates of spheres."""
FSAVERAGE_LEVELS = {"fsaverage4": 4, "fsaverage5": 5, "fsaverage6": 6, "fsaverage": 7}
"""FreeSurfer's name of a mesh -> subdivisions of the icosahedron."""
_STORED = {"a2009s": "aparc.a2009s"}
SIDES = {"lh": "left", "rh": "right"}
MNI305_TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""RAS mm of fsaverage to RAS mm of MNI152; FreeSurfer wiki, CoordinateSystems (its section 8)."""


@dataclass(frozen=True)
class Parcellation:
    """Labels of a sphere with their names and colours.

    Parameters
    ----------
    labels : (V,) int32 array
        Rows of ``names``; -1 where there is no cortex.
    names : tuple of str
    colours : (L, 4) uint8 array
        Red, green, blue and transparency (0 opaque, as FreeSurfer has it).
    """

    labels: np.ndarray
    names: tuple[str, ...]
    colours: np.ndarray


@lru_cache(maxsize=1)
def _spheres() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "spheres.npz") as file:
        return {name: file[name] for name in file.files}


def _side(hemi: str) -> str:
    if hemi not in SIDES:
        raise ValueError(f"a hemisphere is lh or rh, not {hemi}")
    return hemi


def _mesh(points: np.ndarray, faces: np.ndarray) -> Mesh:
    mesh = Mesh(points * QUANTUM_MM, faces)
    return mesh if mesh.enclosed_volume_mm3 > 0 else Mesh(mesh.vertices, mesh.faces[:, [0, 2, 1]])


@lru_cache(maxsize=8)
def fsaverage_sphere(level: int) -> Mesh:
    """Sphere of fsaverage3 to fsaverage6 or (level 7) fsaverage: both hemispheres have it.

    Positions agree with FreeSurfer's files to their own rounding (0.015 mm of 100 mm).
    """
    data = _spheres()
    return subdivided(icosahedron(data["fsaverage_corners"]), data["fsaverage_parents"], level)


@lru_cache(maxsize=4)
def fslr_sphere(hemi: str, density: str) -> Mesh:
    """Sphere of fsLR at ``32k`` or ``164k``, mm about the centre."""
    data, hemi = _spheres(), _side(hemi)
    if density not in ("32k", "164k"):
        raise ValueError(f"fsLR is here at 32k and 164k, not at {density}")
    name = f"{hemi}_fsLR_{density}"
    faces = data.get(f"{name}_faces", data[f"lh_fsLR_{density}_faces"])
    return _mesh(data[name], faces)


def group_sphere(space: str, density: str | None, hemi: str) -> Mesh:
    """Sphere of a mesh of fsaverage or fsLR.

    Parameters
    ----------
    space : str
        ``fsaverage``, ``fsaverage4`` to ``fsaverage6``, or ``fsLR``.
    density : str or None
        Of fsLR; 32k where None.
    hemi : {'lh', 'rh'}
    """
    if space == "fsLR":
        return fslr_sphere(hemi, density or "32k")
    return fsaverage_sphere(FSAVERAGE_LEVELS[space])


@lru_cache(maxsize=2)
def fsaverage_on_fslr(hemi: str) -> Mesh:
    """The vertices of fsaverage (164k) where they lie on the sphere of fsLR."""
    sphere = fsaverage_sphere(7)
    return sphere.moved(_spheres()[f"{_side(hemi)}_fsaverage_to_fsLR"] * QUANTUM_MM)


@lru_cache(maxsize=2)
def fslr_cortex(hemi: str) -> np.ndarray:
    """(32492,) bool: vertices of fsLR 32k that are cortex in a 91k CIFTI file."""
    return _spheres()[f"{_side(hemi)}_fsLR_32k_cortex"]


@lru_cache(maxsize=2)
def atlas_sphere(hemi: str) -> Mesh:
    """The 32k vertices that carry the parcellations, on the sphere of fsaverage."""
    data, hemi = _spheres(), _side(hemi)
    faces = data.get(f"{hemi}_atlas_32k_faces", data["lh_fsLR_32k_faces"])
    return _mesh(data[f"{hemi}_atlas_32k"], faces)


@lru_cache(maxsize=16)
def parcellation(name: str, hemi: str) -> Parcellation:
    """A parcellation on the vertices of :func:`atlas_sphere`.

    Raises
    ------
    ValueError
        Where no parcellation of this name is in the package.
    """
    if name not in BUNDLED:
        raise ValueError(f"there is no parcellation {name}; choose one of {', '.join(BUNDLED)}")
    with np.load(FOLDER / "parcellations.npz") as file:
        prefix = f"{_side(hemi)}.{_STORED.get(name, name)}."
        return Parcellation(
            file[prefix + "labels"].astype(np.int32),
            tuple(str(n) for n in file[prefix + "names"]),
            file[prefix + "colours"],
        )


def parcellation_of(
    path: str | Path, labels: np.ndarray, names: tuple[str, ...], colours: np.ndarray, hemi: str
) -> Parcellation:
    """An annotation of fsaverage on the vertices of :func:`atlas_sphere`.

    Parameters
    ----------
    path : path
        Of the annotation, for messages.
    labels : (V,) int array
        At the vertices of fsaverage, fsaverage6 or fsaverage5.
    names : tuple of str
    colours : (L, 4) uint8 array
    hemi : {'lh', 'rh'}

    Raises
    ------
    InputError
        The annotation has another number of vertices.
    """
    levels = {10 * 4**level + 2: level for level in (5, 6, 7)}
    if len(labels) not in levels:
        raise InputError(
            f"{path} labels {len(labels)} vertices, fsaverage has {', '.join(map(str, levels))}: "
            "give an annotation of fsaverage, not of a participant or of fsLR."
        )
    source = fsaverage_sphere(levels[len(labels)])
    nearest = cKDTree(source.vertices).query(atlas_sphere(hemi).vertices)[1]
    return Parcellation(labels[nearest].astype(np.int32), names, colours)


@lru_cache(maxsize=2)
def average_folding(hemi: str) -> tuple[np.ndarray, np.ndarray]:
    """Average sulcal depth and mean curvature on fsaverage5, from the installed nilearn.

    Returns
    -------
    sulc, curv : (10242,) float64 arrays
        Positive in sulci, as FreeSurfer writes them.
    """
    from nilearn.datasets import fetch_surf_fsaverage

    files = fetch_surf_fsaverage("fsaverage5")
    side = SIDES[_side(hemi)]
    sulc, curv = (
        nib.gifti.GiftiImage.from_filename(files[f"{what}_{side}"]).darrays[0].data.astype(float)
        for what in ("sulc", "curv")
    )
    return sulc, curv


@lru_cache(maxsize=2)
def folding_target(hemi: str) -> FoldingTarget:
    """What hemispheres are registered to: the average folding of fsaverage, and its landmarks."""
    levels = {level: fsaverage_sphere(level) for level in range(3, 7)}
    sulc, curv = average_folding(hemi)
    return FoldingTarget(sulc, curv, levels[5], levels, average_landmarks(hemi))


@lru_cache(maxsize=2)
def average_landmarks(hemi: str) -> np.ndarray:
    """(10242, K) nearness of fsaverage5's white surface to the structures of the MNI152 template.

    Both are averages of many heads; fsaverage lies in MNI305 space.
    """
    from nilearn.datasets import fetch_surf_fsaverage

    side = SIDES[_side(hemi)]
    white = fetch_surf_fsaverage("fsaverage5")[f"white_{side}"]
    points = nib.gifti.GiftiImage.from_filename(white).darrays[0].data
    aseg = template_files("MNI152NLin6Asym", 1).aseg
    assert aseg is not None  # comes with the package
    mni152 = points @ MNI305_TO_MNI152[:3, :3].T + MNI305_TO_MNI152[:3, 3]
    image = nib.nifti1.Nifti1Image.from_filename(aseg)
    return nearness(mni152, Volume(np.asarray(image.dataobj), image.affine), side)


@lru_cache(maxsize=2)
def atlas_folding(hemi: str) -> np.ndarray:
    """(W, 2) standardised average sulcal depth and curvature at the vertices of the atlases."""
    sphere = atlas_sphere(hemi)
    average = fsaverage_sphere(5)
    both = [standardised(values, average) for values in average_folding(hemi)]
    return locate(average, sphere.vertices).interpolate(np.stack(both, axis=1))
