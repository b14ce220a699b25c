"""A hemisphere's spheres and parcels between two tasks: uncompressed ``.npz`` files."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from fileformats.generic import File

from deepprep.data.surface_atlases import Parcellation
from deepprep.interfaces.files import keep_arrays
from deepprep.surface.mesh import Mesh

SPHERES = ("sphere", "fsaverage", "fslr", "parcel_sphere")


@dataclass(frozen=True)
class HemisphereSpheres:
    """Where the vertices of a hemisphere lie on spheres of 100 mm radius.

    Attributes
    ----------
    sphere : Mesh
        Its own, areas and angles kept as well as they can be.
    fsaverage, fslr : Mesh
        Registered to the sphere of fsaverage (``sphere.reg``) and of fsLR.
    parcel_sphere : Mesh
        On fsaverage's, less bent: where labels are looked up
        (:class:`deepprep.surface.spherical_registration.SphericalRegistration`).
    jacobian : (V,) array
        Area on the registered sphere over area on the white surface, 1 on average.
    """

    sphere: Mesh
    fsaverage: Mesh
    fslr: Mesh
    parcel_sphere: Mesh
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


def keep_parcels(parcels: dict[str, Parcellation], name: str) -> File:
    """Write a hemisphere's labels, their names and colours as ``name`` in the task's folder."""
    arrays = {}
    for key, found in parcels.items():
        arrays[f"{key}.labels"] = found.labels.astype(np.int32)
        arrays[f"{key}.names"] = np.array(found.names)
        arrays[f"{key}.colours"] = found.colours.astype(np.uint8)
    return keep_arrays(name, **arrays)


def load_parcels(path: str | os.PathLike) -> dict[str, Parcellation]:
    """Read what :func:`keep_parcels` wrote."""
    with np.load(path, allow_pickle=False) as file:
        keys = [name.removesuffix(".labels") for name in file.files if name.endswith(".labels")]
        return {
            key: Parcellation(
                file[f"{key}.labels"],
                tuple(str(n) for n in file[f"{key}.names"]),
                file[f"{key}.colours"],
            )
            for key in keys
        }
