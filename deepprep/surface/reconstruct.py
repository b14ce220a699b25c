"""One hemisphere from T1w and labels: surfaces, measures and checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from deepprep.image.volume import Volume
from deepprep.surface.curvature import mean_and_gaussian_curvature, smoothed
from deepprep.surface.inflate import inflate, midthickness, smoothwm
from deepprep.surface.initial_white import initial_white, surface_of_level
from deepprep.surface.measures import (
    grey_white_contrast,
    thickness,
    vertex_volumes,
    white_pial_crossings,
)
from deepprep.surface.mesh import Mesh
from deepprep.surface.pial_placement import place_pial
from deepprep.surface.surroundings import cortex_vertices, pial_limits
from deepprep.surface.topology import TopologyReport
from deepprep.surface.untangle import untangle, untangle_pial
from deepprep.surface.white_placement import place_white


@dataclass(frozen=True)
class Hemisphere:
    """All surfaces of a hemisphere; they share their triangles.

    Attributes
    ----------
    side : {'left', 'right'}
    white, pial, smoothwm, inflated, midthickness : Mesh
        Scanner RAS mm.
    orig : Mesh or None
        The white surface before its placement.
    cortex : (V,) bool array
        False on the medial wall, where white and pial are one.
    overlays : dict of str to (V,) float array
        ``thickness`` (mm), ``curv`` and ``curv.pial`` (1/mm, smoothed, positive in sulci),
        ``K`` (1/mm^2), ``sulc`` (mm, positive in sulci), ``area``, ``area.mid``, ``area.pial``
        (mm^2), ``volume`` (mm^3), ``w-g.pct`` (percent). Thickness, volume and contrast are 0 on
        the medial wall.
    qc : dict of str to float
        Euler numbers, self-intersections, crossings of white and pial, corrected handles and holes, seconds.
    """

    side: str
    white: Mesh
    pial: Mesh
    smoothwm: Mesh
    inflated: Mesh
    midthickness: Mesh
    cortex: np.ndarray
    overlays: dict[str, np.ndarray]
    qc: dict[str, float]
    orig: Mesh | None = None


def reconstruct_hemisphere(
    side: str,
    t1w: Volume,
    labels: Volume,
    mask: Volume,
    *,
    white_posterior: np.ndarray | None = None,
    level: Volume | None = None,
    device: str = "cpu",
) -> Hemisphere:
    """Reconstruct the cortical surfaces of one hemisphere.

    Parameters
    ----------
    side : {'left', 'right'}
    t1w : Volume
        (X, Y, Z) bias-corrected T1w, any orientation and voxel size.
    labels : Volume
        FreeSurfer numbers (aseg) on the lattice of ``t1w``.
    mask : Volume
        Brain, on the same lattice; the pial surface stays in it.
    white_posterior : (X, Y, Z) array, optional
        Posterior of white matter of a segmentation.
    level : Volume, optional
        Level set of the white surface by another engine
        (:func:`deepprep.surface.level_set.engine_level`), mm, negative inside, isotropic; it need
        not lie on the lattice of ``t1w``. Labels and intensities give it otherwise.
    device : str
        Torch device on which vertices are moved; topology, front and repair are done on the CPU.

    Returns
    -------
    Hemisphere

    Raises
    ------
    ValueError
        If lattices differ, the side has no white matter or cortex, or contrast is not T1w.
    """
    for name, volume in (("labels", labels), ("mask", mask)):
        if not volume.grid.same_as(t1w.grid):
            raise ValueError(f"the {name} and the T1w are not on the same lattice")
    clock = time.perf_counter()
    if not device.startswith("cuda"):
        device = "cpu"  # torch has no sparse matrices elsewhere
    if level is None:
        first = initial_white(labels, t1w, white_posterior, sides=[side])[side]
    else:
        first = surface_of_level(level)
    cortex = cortex_vertices(first.mesh, labels, side)
    white, white_left = untangle(place_white(first.mesh, t1w, cortex, device), first.mesh)
    limits = pial_limits(white, t1w, labels, mask, side)
    pial, pial_left = untangle_pial(place_pial(white, t1w, limits, cortex, device), white)
    smooth = smoothwm(white)
    inflated, sulc = inflate(smooth)
    middle = midthickness(white, pial)
    overlays = measured(t1w, white, pial, cortex, {"sulc": sulc})
    report = first.report
    qc: dict[str, float] = {
        "euler_white": white.euler_number,
        "euler_pial": pial.euler_number,
        "self_intersections_white": white_left,
        "self_intersections_pial": pial_left,
        "crossings_white_pial": white_pial_crossings(white, pial),
        **_topology(report),
        "n_vertices": white.n_vertices,
        "seconds": time.perf_counter() - clock,
    }
    return Hemisphere(side, white, pial, smooth, inflated, middle, cortex, overlays, qc, first.mesh)


def measured(
    t1w: Volume,
    white: Mesh,
    pial: Mesh,
    cortex: np.ndarray,
    known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """What is measured on a pair of surfaces.

    Parameters
    ----------
    t1w : Volume
    white, pial : Mesh
        Same triangles, RAS mm.
    cortex : (V,) bool array
    known : mapping of str to (V,) array, optional
        What is known already and is not computed again.

    Returns
    -------
    dict of str to (V,) float32 array
        Overlays of :class:`Hemisphere` (all but ``sulc``), and what was known.
    """
    recipes: dict[str, Callable[[], np.ndarray]] = {
        "thickness": lambda: np.where(cortex, thickness(white, pial), 0.0),
        "curv": lambda: smoothed(white, mean_and_gaussian_curvature(white)[0]),
        "curv.pial": lambda: smoothed(pial, mean_and_gaussian_curvature(pial)[0]),
        "K": lambda: smoothed(white, mean_and_gaussian_curvature(white)[1]),
        "area": lambda: white.vertex_areas,
        "area.mid": lambda: midthickness(white, pial).vertex_areas,
        "area.pial": lambda: pial.vertex_areas,
        "volume": lambda: np.where(cortex, vertex_volumes(white, pial), 0.0),
        "w-g.pct": lambda: np.where(cortex, grey_white_contrast(t1w, white, pial), 0.0),
    }
    out = dict(known or {})
    if not {"curv", "K"} & set(out):
        mean, gaussian = mean_and_gaussian_curvature(white)
        out["curv"], out["K"] = smoothed(white, mean), smoothed(white, gaussian)
    out |= {name: recipe() for name, recipe in recipes.items() if name not in out}
    return {name: np.asarray(values, dtype=np.float32) for name, values in out.items()}


def _topology(report: TopologyReport) -> dict[str, float]:
    return {
        "handles_cut": report.count("cut"),
        "holes_filled": report.count("fill"),
        "voxels_cut": report.voxels("cut"),
        "voxels_filled": report.voxels("fill"),
        "largest_repair_voxels": report.largest,
        "islands": report.islands,
        "cavities": report.cavities,
    }
