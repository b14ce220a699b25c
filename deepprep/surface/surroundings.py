"""What labels and intensities around a hemisphere say: cortex, fluid, where pial must not go."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from deepprep.image.volume import Volume
from deepprep.segmentation.partial_volume import local_mean
from deepprep.surface.mesh import Mesh
from deepprep.surface.pial_placement import PialLimits
from deepprep.surface.profiles import image_box
from deepprep.surface.vertex_smoothing import neighbour_mean

CORTEX = {"left": 3, "right": 42}
WHITE = {"left": (2, 78), "right": (41, 79)}
"""FreeSurfer numbers."""

VENTRICLES = (4, 43)
"""Lateral ventricles: fluid without partial volume."""

OPEN = (0, 24, 30, 62, 77, 80, 85)
"""Labels that the pial surface may enter: nothing, fluid, vessels, hypointensities, chiasm."""

CEREBELLUM = (7, 8, 46, 47)
"""Cortex may face it, as it may face the other hemisphere's; other structures take its place."""

MARGIN_MM = 12.0
"""Room around the surface."""

OUTSIDE_CORTEX_MM = 1.5
"""The pial surface may lie so far outside of the labelled cortex."""

FLUID_RING_MM = (1.0, 6.0)
"""Distance from brain labels at which fluid is looked for."""

CORTEX_PROBE_MM = (0.5, 2.5)
"""Where, above the white surface, labels of cortex are looked for."""

LEAST_PATCH_MM2 = 150.0
"""Islands without cortex smaller than this are closed, unless they are next to the mid-line cut."""


def cortex_vertices(white: Mesh, labels: Volume, side: str) -> np.ndarray:
    """Vertices of the white surface that have cortex above them.

    The rest is the medial wall: corpus callosum, thalamus, ventricle, brain stem, and the
    surface towards hippocampus and amygdala.

    Parameters
    ----------
    white : Mesh
    labels : Volume
        (X, Y, Z) FreeSurfer numbers.
    side : {'left', 'right'}

    Returns
    -------
    (V,) bool array
        One connected patch.
    """
    box, affine = image_box(labels, white.vertices, MARGIN_MM)
    data = np.asarray(labels.data[box])
    zooms = labels.zooms_mm
    cortex = data == CORTEX[side]
    other = ~np.isin(data, (*OPEN, *CEREBELLUM, *WHITE[side], *CORTEX.values()))
    to_cortex = Volume(
        ndimage.distance_transform_edt(~cortex, sampling=zooms).astype(np.float32), affine
    )
    to_other = Volume(
        ndimage.distance_transform_edt(~other, sampling=zooms).astype(np.float32), affine
    )
    normals = white.vertex_normals
    nearest = np.full(white.n_vertices, np.inf)
    blocked = np.full(white.n_vertices, np.inf)
    for depth in np.arange(CORTEX_PROBE_MM[0], CORTEX_PROBE_MM[1] + 0.1, 0.5):
        at = white.vertices + depth * normals
        nearest = np.minimum(nearest, _linear_at(to_cortex, at))
        blocked = np.minimum(blocked, _linear_at(to_other, at))
    half = 0.5 * float(zooms.mean())
    found = (nearest < half) & ((blocked > half) | (nearest < blocked - half))
    mean = neighbour_mean(white)
    share = found.astype(np.float64)
    for _ in range(6):
        share = 0.5 * (share + mean @ share)
    found = share > 0.5
    found = _largest(white, found)
    return ~_without_small(white, ~found)


def _linear_at(volume: Volume, points_ras: np.ndarray) -> np.ndarray:
    """Trilinear values at points, RAS mm; the nearest border value outside."""
    voxels = points_ras @ volume.grid.ras2vox[:3, :3].T + volume.grid.ras2vox[:3, 3]
    return ndimage.map_coordinates(volume.data, voxels.T, order=1, mode="nearest")


def _pieces(mesh: Mesh, inside: np.ndarray) -> np.ndarray:
    keep = np.flatnonzero(inside)
    out = np.full(mesh.n_vertices, -1)
    if len(keep):
        out[keep] = connected_components(mesh.adjacency[keep][:, keep], directed=False)[1]
    return out


def _largest(mesh: Mesh, inside: np.ndarray) -> np.ndarray:
    pieces = _pieces(mesh, inside)
    if pieces.max() < 0:
        raise ValueError("no cortex lies on the white surface: do labels and image fit?")
    return pieces == int(np.bincount(pieces[pieces >= 0]).argmax())


def _without_small(mesh: Mesh, inside: np.ndarray) -> np.ndarray:
    pieces = _pieces(mesh, inside)
    if pieces.max() < 0:
        return inside
    area = np.bincount(pieces[inside], mesh.vertex_areas[inside])
    return inside & (area[np.maximum(pieces, 0)] >= LEAST_PATCH_MM2)


def pial_limits(white: Mesh, image: Volume, labels: Volume, mask: Volume, side: str) -> PialLimits:
    """Local level of fluid, and where the pial surface must stay.

    It must not leave the brain mask, enter other structures or the other hemisphere, or be
    farther than ``OUTSIDE_CORTEX_MM`` from labelled cortex.

    Parameters
    ----------
    white : Mesh
    image, labels, mask : Volume
        On one lattice.
    side : {'left', 'right'}

    Returns
    -------
    PialLimits
    """
    box, affine = image_box(image, white.vertices, MARGIN_MM)
    data = np.nan_to_num(np.asarray(image.data[box], dtype=np.float32))
    numbers, brain = np.asarray(labels.data[box]), np.asarray(mask.data[box]) > 0
    zooms = image.zooms_mm
    own = np.isin(numbers, (CORTEX[side], *WHITE[side]))
    other = ~np.isin(numbers, OPEN) & ~own
    to_own = _distance(own, zooms)
    to_other = _distance(other, zooms) if other.any() else np.full_like(to_own, 1e3)
    # half-way to what belongs to others; inside own labels that is never a limit
    room = np.minimum(OUTSIDE_CORTEX_MM - to_own, 0.5 * (to_other - to_own))
    if not brain.all():
        room = np.minimum(room, -_distance(brain, zooms) + 0.5 * float(zooms.mean()))
    room = ndimage.gaussian_filter(room, 0.5 / zooms)
    fluid = _fluid(data, numbers, brain, to_own, side, zooms)
    return PialLimits(Volume(fluid, affine), Volume(room.astype(np.float32), affine))


def _distance(mask: np.ndarray, zooms: np.ndarray) -> np.ndarray:
    """Signed distance to the border of a mask, mm, negative inside."""
    half = 0.5 * float(zooms.mean())
    out = ndimage.distance_transform_edt(~mask, sampling=zooms) - half
    within = ndimage.distance_transform_edt(mask, sampling=zooms) - half
    return np.where(mask, -within, out).astype(np.float32)


def _fluid(
    data: np.ndarray,
    numbers: np.ndarray,
    brain: np.ndarray,
    to_own: np.ndarray,
    side: str,
    zooms: np.ndarray,
) -> np.ndarray:
    grey = float(np.median(data[numbers == CORTEX[side]]))
    ring = (numbers == 0) | (numbers == 24)
    ring &= (to_own > FLUID_RING_MM[0]) & (to_own < FLUID_RING_MM[1]) & (data != 0)
    if (ring & brain).sum() > 2000:
        ring &= brain
    ventricle = ndimage.binary_erosion(np.isin(numbers, VENTRICLES))
    if ventricle.sum() > 100:
        dark = float(np.median(data[ventricle]))
    elif ring.sum() > 100:
        dark = float(np.percentile(data[ring], 10))
    else:
        return np.full(data.shape, 0.35 * grey, dtype=np.float32)
    sure = (
        (ring | ventricle)
        & (data < dark + 0.4 * (grey - dark))
        & (data > dark - 0.6 * (grey - dark))
    )
    middle = float(np.median(data[sure])) if sure.any() else dark
    return local_mean(data, sure, middle, zooms)
