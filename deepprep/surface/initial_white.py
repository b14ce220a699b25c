"""From labels and a T1w to the first white surface of each hemisphere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepprep.image.volume import Volume
from deepprep.surface.filled import SIDES, fill_hemisphere
from deepprep.surface.marching_cubes import marching_cubes
from deepprep.surface.mesh import Mesh
from deepprep.surface.topology import TopologyReport, correct_topology
from deepprep.surface.white_level import white_level


@dataclass(frozen=True)
class InitialSurface:
    """A white surface with the topology of a sphere.

    Attributes
    ----------
    mesh : Mesh
        Scanner RAS mm, outward normals, Euler number 2.
    level : Volume
        Corrected level set, mm, negative inside, with the axes of the image.
    report : TopologyReport
        What the correction changed; voxels are those of ``level``.
    """

    mesh: Mesh
    level: Volume
    report: TopologyReport


def initial_white(
    labels: Volume,
    image: Volume | None = None,
    white: np.ndarray | None = None,
    *,
    sides: Sequence[str] = SIDES,
) -> dict[str, InitialSurface]:
    """Initial white surfaces of the hemispheres.

    Parameters
    ----------
    labels : Volume
        (X, Y, Z) FreeSurfer numbers (aseg), any orientation.
    image : Volume, optional
        (X, Y, Z) bias-corrected T1w on the same lattice.
    white : (X, Y, Z) array, optional
        Posterior of white matter (:class:`deepprep.segmentation.result.Segmentation`).
    sides : sequence of {'left', 'right'}

    Returns
    -------
    dict of str to InitialSurface

    Raises
    ------
    ValueError
        If lattices differ, a side has no white matter or no cortex, or white matter is not
        brighter than cortex.
    """
    if image is not None and not image.grid.same_as(labels.grid):
        raise ValueError("the image and its labels are not on the same lattice")
    out = {}
    for side in sides:
        filled = fill_hemisphere(labels, side)
        out[side] = surface_of_level(white_level(filled, labels, side, image, white))
    return out


def surface_of_level(level: Volume) -> InitialSurface:
    """Correct the topology of a level set and make its surface.

    Parameters
    ----------
    level : Volume
        (X, Y, Z) mm, negative inside, isotropic (:mod:`deepprep.surface.level_set`).

    Raises
    ------
    ValueError
        If nothing is inside, or a value is not finite.
    """
    zoom_mm = np.float32(level.zooms_mm.mean())
    corrected, report = correct_topology(level.data / zoom_mm)
    corrected_mm = level.like(corrected * zoom_mm)
    return InitialSurface(marching_cubes(corrected_mm), corrected_mm, report)
