"""A hemisphere's spheres and parcels between two tasks: uncompressed ``.npz`` files."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from fileformats.generic import File

from deepprep.interfaces.files import keep_arrays
from deepprep.surface.mesh import Mesh

SPHERES = ("sphere", "fsaverage", "fslr")


@dataclass(frozen=True)
class HemisphereSpheres:
    """Where the vertices of a hemisphere lie on spheres of 100 mm radius.

    Attributes
    ----------
    sphere : Mesh
        Its own, areas and angles kept as well as they can be.
    fsaverage, fslr : Mesh
        Registered to the sphere of fsaverage (``sphere.reg``) and of fsLR.
    jacobian : (V,) array
        Area on the registered sphere over area on the white surface, 1 on average.
    """

    sphere: Mesh
    fsaverage: Mesh
    fslr: Mesh
    jacobian: np.ndarray


def keep_spheres(spheres: HemisphereSpheres, name: str) -> File:
    """Write spheres as ``name`` in the task's folder."""
    points = {kind: getattr(spheres, kind).vertices for kind in SPHERES}
    return keep_arrays(
        name, faces=spheres.sphere.faces, jacobian=spheres.jacobian.astype(np.float32), **points
    )


def load_spheres(path: str | os.PathLike) -> HemisphereSpheres:
    """Read what :func:`keep_spheres` wrote."""
    with np.load(path, allow_pickle=False) as file:
        meshes = {kind: Mesh(file[kind], file["faces"]) for kind in SPHERES}
        return HemisphereSpheres(jacobian=file["jacobian"], **meshes)


def keep_parcels(parcels: dict[str, np.ndarray], name: str) -> File:
    """Write labels by parcellation as ``name`` in the task's folder."""
    return keep_arrays(name, **{k: v.astype(np.int32) for k, v in parcels.items()})


def load_parcels(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read what :func:`keep_parcels` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
