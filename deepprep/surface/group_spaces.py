"""From a subject's registered sphere to the meshes that people are compared on.

``sphere.reg`` puts a subject's vertices on the sphere of fsaverage. fsLR has a sphere of its own,
on which left and right correspond; the vertices of fsaverage are known on both, so that a subject's
vertices are carried along with the triangle of fsaverage they lie in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.surface.barycentric import (
    adaptive_area_weights,
    locate,
    resample,
    resample_adaptive,
    resample_areas,
    resample_labels,
)
from deepprep.surface.mesh import Mesh
from deepprep.surface.sphere import nearest_rotation
from deepprep.surface.unfold import reach


@dataclass(frozen=True)
class GroupSpace:
    """One mesh of a group space.

    Parameters
    ----------
    space : {'fsaverage', 'fsLR'}
    density : str
        As in the ``den`` entity: 10k, 41k, 164k; 32k, 164k.
    freesurfer_name : str
        Name of the mesh in FreeSurfer and on fMRIPrep's command line.
    """

    space: str
    density: str
    freesurfer_name: str


GROUP_SPACES = (
    GroupSpace("fsaverage", "10k", "fsaverage5"),
    GroupSpace("fsaverage", "41k", "fsaverage6"),
    GroupSpace("fsaverage", "164k", "fsaverage"),
    GroupSpace("fsLR", "32k", "fsLR"),
    GroupSpace("fsLR", "164k", "fsLR"),
)
"""Meshes that can be asked for."""


def onto_other_space(registered: Mesh, source: Mesh, source_on_other: Mesh) -> Mesh:
    """Carry a registered sphere to another group space.

    Parameters
    ----------
    registered : Mesh
        The subject's vertices on the sphere of ``source`` (``sphere.reg`` for fsaverage).
    source : Mesh
        Sphere of the group space.
    source_on_other : Mesh
        Its vertices on the sphere of the other space.

    Returns
    -------
    Mesh
        The subject's vertices on the sphere of the other space, 100 mm radius, no folds.
    """
    moved = locate(source, registered.vertices).interpolate(source_on_other.vertices)
    moved *= 100.0 / np.linalg.norm(moved, axis=1, keepdims=True)
    # The spheres are turned against each other; what is left then is a short way.
    start = registered.vertices @ nearest_rotation(source.vertices, source_on_other.vertices).T
    start *= 100.0 / np.linalg.norm(start, axis=1, keepdims=True)
    return reach(registered.moved(start), [moved])[0]


def metric_on_group(
    values: np.ndarray,
    registered: Mesh,
    target: Mesh,
    subject_areas: np.ndarray,
    target_areas: np.ndarray,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """A metric such as thickness on a group mesh, by adaptive barycentric area resampling.

    Parameters
    ----------
    values : (V,) or (V, T) array
    registered : Mesh
        The subject's vertices on the sphere of the group.
    target : Mesh
        Sphere of the group.
    subject_areas, target_areas : (V,) and (W,) arrays
        Areas around the vertices on anatomical surfaces, mm^2 (target: the subject's midthickness
        carried over with :func:`surface_on_group`).
    mask : (V,) bool array, optional
        Cortex of the subject; NaN where none of it takes part.
    """
    weights = adaptive_area_weights(registered, target, subject_areas, target_areas)
    return resample_adaptive(values, weights, mask=mask)


def surface_on_group(surface: Mesh, registered: Mesh, target: Mesh) -> Mesh:
    """A subject's surface with the triangles of a group mesh (barycentric).

    Parameters
    ----------
    surface : Mesh
        White, pial or midthickness of the subject, RAS+ mm.
    registered, target : Mesh
        The subject's vertices, and the group mesh, on the sphere of the group.
    """
    return target.moved(resample(surface.vertices, registered, target))


def labels_on_group(labels: np.ndarray, registered: Mesh, target: Mesh) -> np.ndarray:
    """Labels on a group mesh: the one with most weight."""
    return resample_labels(labels, registered, target)


def areas_on_group(areas: np.ndarray, registered: Mesh, target: Mesh) -> np.ndarray:
    """Areas (or volumes) per vertex on a group mesh, the total kept."""
    return resample_areas(areas, registered, target)


def jacobian(white: Mesh, registered: Mesh) -> np.ndarray:
    """(V,) area around each vertex on the registered sphere over that on the white surface.

    Both surfaces are scaled to one total area, so that 1 means neither larger nor smaller than on
    average (``?h.jacobian_white``).
    """
    before = white.vertex_areas / white.vertex_areas.sum()
    after = registered.vertex_areas / registered.vertex_areas.sum()
    least = 1e-6 * before.mean()
    return after / np.maximum(before, least)
