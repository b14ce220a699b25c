"""A hemisphere's sphere brought onto fsaverage's by its folding.

First one rotation, found over all rotations of a grid and then ever finer; then the vertices of
regular spheres of 642, 2562, 10242 and 40962 vertices move in turn, each level starting where the
one before ended. A vertex goes where its folding agrees with the average's and its triangles keep
their areas and angles; the energy of the triangles (:mod:`deepprep.surface.distortion`) is infinite
for a fold, so that none can appear. The terms are those SUGAR is trained with (Ren et al., Medical
Image Analysis 2024: weighted squared difference, areas, angles, negative areas), here minimised for
the subject at hand, as FreeSurfer's registration does (Fischl et al., Human Brain Mapping 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from deepprep.image.compiled import compiled
from deepprep.surface.barycentric import face_neighbours, locate, walk
from deepprep.surface.distortion import (
    count_folds,
    rest_shape,
    ring_energy,
    ring_step,
    tangent_step,
)
from deepprep.surface.mesh import Mesh
from deepprep.surface.unfold import reach
from deepprep.surface.vertex_hierarchy import neighbour_rings

CLIP_SD = 3.0
"""Features beyond so many standard deviations are drawn in, as SUGAR does."""
AREA_WEIGHT = 1.0
"""Weight of kept areas beside kept angles."""
ROTATION_SPAN_DEG = 64.0
"""Widest rotation about each axis that the search tries first."""
ROTATION_LAST_DEG = 0.25
"""Step of the rotation search at its end."""


@dataclass(frozen=True)
class Stage:
    """One level of the registration.

    Parameters
    ----------
    level : int
        Of the sphere whose vertices move: 3 to 6.
    smoothing_mm : float
        Standard deviation of the smoothing of both maps, mm on the 100 mm sphere.
    stiffness : float
        Weight of the energy of the triangles; 1 = as much as one squared standard deviation.
    curvature : float
        Weight of curvature beside sulcal depth.
    sweeps : int
    landmarks : float
        Weight of each landmark beside sulcal depth.
    """

    level: int
    smoothing_mm: float
    stiffness: float
    curvature: float
    sweeps: int
    landmarks: float


STAGES = (
    Stage(3, 20.0, 1.8, 0.0, 60, 3.0),
    Stage(3, 15.0, 1.8, 0.0, 60, 3.0),
    Stage(3, 10.0, 1.8, 0.0, 60, 3.0),
    Stage(4, 8.0, 1.8, 0.0, 60, 3.0),
    Stage(4, 5.0, 1.2, 0.0, 60, 3.0),
    Stage(5, 3.5, 0.3, 0.1, 60, 0.3),
    Stage(6, 2.0, 0.3, 0.1, 30, 0.3),
)
"""From broad to fine. A first stage of 10 or 15 mm can end a gyrus aside (15: one of sixteen silver
hemispheres, in medial occipital cortex); so can broad stages a sixth as stiff, which also carry parcels
away from their folds. Landmarks choose the gyrus in the broad stages; the fine ones follow the folds."""

PARCEL_STAGE = Stage(5, 3.5, 1.2, 0.1, 60, 1.0)
"""After the broad stages, instead of the fine ones, where labels of an atlas are looked up: folds that
are drawn onto the average one by one carry borders of parcels along, beyond where those are."""


@dataclass(frozen=True)
class FoldingTarget:
    """What a hemisphere is registered to.

    Parameters
    ----------
    sulc, curv : (V,) arrays
        On the vertices of a regular sphere of level 5 or more, positive in sulci.
    sphere : Mesh
        That sphere.
    levels : dict of int to Mesh
        Regular spheres of levels 3 to 6 in the same numbering.
    landmarks : (V, K) array, optional
        :func:`deepprep.surface.landmarks.nearness` of the same structures as the subject's.
    """

    sulc: np.ndarray
    curv: np.ndarray
    sphere: Mesh
    levels: dict[int, Mesh]
    landmarks: np.ndarray | None = None


@dataclass(frozen=True)
class SphericalRegistration:
    """A registered sphere and how it came about.

    Parameters
    ----------
    sphere : Mesh
        The subject's triangles where they lie on the target's sphere; no folds.
    rotation : (3, 3) array
        The rotation applied first.
    rigid_correlation, correlation : float
        Of sulcal depth with the target's, after the rotation and at the end.
    held : int
        Triangles of the subject's mesh that the interpolated map had folded and that were laid out
        anew, or, where that did not help, vertices that could not go all the way.
    parcel_sphere : Mesh
        The subject's vertices where labels of an atlas are looked up: less bent than ``sphere``. Single
        triangles may be folded.
    """

    sphere: Mesh
    rotation: np.ndarray
    rigid_correlation: float
    correlation: float
    held: int
    parcel_sphere: Mesh


def register_sphere(
    sphere: Mesh,
    sulc: np.ndarray,
    curv: np.ndarray,
    target: FoldingTarget,
    stages: tuple[Stage, ...] = STAGES,
    landmarks: np.ndarray | None = None,
    parcel_stage: Stage = PARCEL_STAGE,
) -> SphericalRegistration:
    """Register a sphere to a target by its folding.

    Parameters
    ----------
    sphere : Mesh
        Sphere of the subject without folds, about the origin.
    sulc, curv : (V,) arrays
        Sulcal depth and mean curvature of the subject, positive in sulci, any unit.
    target : FoldingTarget
    stages : tuple of Stage
    landmarks : (V, K) array, optional
        What else tells places apart (:func:`deepprep.surface.landmarks.nearness`), if the target has
        it too: folds alone cannot tell the gyri of the medial temporal lobe from each other. Columns
        with NaN are left out.
    parcel_stage : Stage
        Takes the place of the stages with curvature for ``parcel_sphere``.

    Raises
    ------
    ValueError
        Where the sphere has folds or the features do not fit it or are constant.
    """
    folds = count_folds(sphere)
    if folds:
        raise ValueError(f"the sphere to register has {folds} folded triangles: unfold it first")
    columns = [standardised(sulc, sphere), standardised(curv, sphere)]
    fine = target.levels[max(target.levels)]
    theirs = [standardised(target.sulc, target.sphere), standardised(target.curv, target.sphere)]
    if landmarks is not None and target.landmarks is not None:
        if landmarks.shape != (sphere.n_vertices, target.landmarks.shape[1]):
            raise ValueError(
                f"landmarks of shape {landmarks.shape} for {sphere.n_vertices} vertices and a target "
                f"with {target.landmarks.shape[1]}"
            )
        for own, average in zip(landmarks.T, target.landmarks.T):
            if np.isfinite(own).all() and np.isfinite(average).all():
                columns.append(own)
                theirs.append(average)
    features, template = np.stack(columns, axis=1), np.stack(theirs, axis=1)
    template = locate(target.sphere, fine.vertices).interpolate(template)
    rotation = best_rotation(sphere, features[:, 0], template[:, 0], target.levels)
    radius = float(np.linalg.norm(sphere.vertices, axis=1).mean())
    unit = (sphere.vertices / np.linalg.norm(sphere.vertices, axis=1, keepdims=True)) @ rotation.T
    turned = sphere.moved(unit)
    on_grid = locate(turned, fine.vertices).interpolate(features)
    rigid_correlation = _correlation(on_grid[:, 0], template[:, 0])

    moved = _coarse_to_fine(on_grid, template, target.levels, stages)
    broad = [positions for stage, positions in zip(stages, moved) if stage.curvature == 0]
    calm = moved[-1]
    if broad and len(broad) < len(stages):
        calm = _coarse_to_fine(on_grid, template, target.levels, (parcel_stage,), broad[-1])[-1]
    where = locate(fine, unit)
    *stations, parcels = (
        unit_length(where.interpolate(_finest(positions, target.levels)))
        for positions in (*moved, calm)
    )
    registered, held = reach(turned, stations)
    warped = locate(registered, fine.vertices).interpolate(features[:, 0])
    return SphericalRegistration(
        sphere.moved(radius * registered.vertices),
        rotation,
        rigid_correlation,
        _correlation(warped, template[:, 0]),
        held,
        sphere.moved(radius * parcels),
    )


def _coarse_to_fine(
    on_grid: np.ndarray,
    template: np.ndarray,
    levels: dict[int, Mesh],
    stages: tuple[Stage, ...],
    moved: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Where the vertices of each stage's level are after it, on the unit sphere; from ``moved``, if given."""
    if not stages:
        raise ValueError("a registration needs at least one stage")
    fine = levels[max(levels)]
    results: list[np.ndarray] = []
    for stage in stages:
        if moved is None:
            moved = unit_length(levels[stage.level].vertices)
        moved = _refined(moved, levels, stage.level)
        n_smooth = smoothing_steps(fine, stage.smoothing_mm)
        here = _rescaled(smoothed(on_grid, fine, n_smooth))[: len(moved)]
        there = _rescaled(smoothed(template, fine, n_smooth))
        moved = _register_level(moved, levels[stage.level], here, fine, there, stage)
        results.append(moved)
    return results


def _refined(moved: np.ndarray, levels: dict[int, Mesh], level: int) -> np.ndarray:
    """Positions of the vertices of a finer level from those of a coarser one."""
    for finer in sorted(levels):
        if finer <= level and levels[finer].n_vertices > len(moved):
            moved = midpoints(moved, levels[finer])
    return moved


def _finest(moved: np.ndarray, levels: dict[int, Mesh]) -> np.ndarray:
    return _refined(moved, levels, max(levels))


def standardised(values: np.ndarray, sphere: Mesh) -> np.ndarray:
    """Values of mean 0 and standard deviation 1 over the sphere, far ones drawn in.

    Raises
    ------
    ValueError
        Where they are not one finite number per vertex or all the same.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (sphere.n_vertices,):
        raise ValueError(f"{values.shape} feature values for a sphere of {sphere.n_vertices}")
    if not np.isfinite(values).all():
        raise ValueError("folding features must be finite everywhere; some are not")
    weights = sphere.vertex_areas / sphere.vertex_areas.sum()
    # Median and quartiles: a few wild curvatures do not set the scale.
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if high <= low:
        raise ValueError("a folding feature is constant: there is nothing to register by")
    scaled = (values - middle) / (0.7413 * (high - low))
    beyond = np.abs(scaled) > CLIP_SD
    drawn = np.sign(scaled) * (CLIP_SD + 1 - np.exp(CLIP_SD - np.abs(scaled)))
    scaled = np.where(beyond, drawn, scaled)
    scaled -= (weights * scaled).sum()
    return scaled / np.sqrt((weights * scaled**2).sum())


def smoothing_steps(grid: Mesh, smoothing_mm: float) -> int:
    """Steps of :func:`smoothed` that make a Gaussian of this standard deviation (mm)."""
    first, second = grid.vertices[grid.edges.T]
    edge2 = ((first - second) ** 2).sum(axis=1).mean()
    # Half a step to the mean of the neighbours spreads by half a squared edge, in two dimensions.
    return round(4 * smoothing_mm**2 / edge2)


def smoothed(values: np.ndarray, grid: Mesh, n_steps: int) -> np.ndarray:
    """Values (V, C) after ``n_steps`` half steps to the mean of the neighbours."""
    adjacency = grid.adjacency
    count = np.asarray(adjacency.sum(axis=1)).ravel()
    step = 0.5 * (sparse.identity(grid.n_vertices) + sparse.diags(1 / count) @ adjacency)
    step = step.tocsr()
    for _ in range(n_steps):
        values = step @ values
    return values


def best_rotation(
    sphere: Mesh, feature: np.ndarray, template: np.ndarray, levels: dict[int, Mesh]
) -> np.ndarray:
    """Rotation of a sphere after which a feature agrees best with a template.

    Parameters
    ----------
    sphere : Mesh
    feature : (V,) array
        Of the sphere.
    template : (W,) array
        Of the finest of ``levels``.
    levels : dict of int to Mesh

    Returns
    -------
    (3, 3) array
        R, for ``vertices @ R.T``.
    """
    fine = levels[max(levels)]
    n_smooth = smoothing_steps(fine, 5.0)
    there = _rescaled(smoothed(template[:, None], fine, n_smooth))[:, 0]
    here = locate(sphere, fine.vertices).interpolate(feature)[:, None]
    here = _rescaled(smoothed(here, fine, n_smooth))[:, 0]
    # A picture of the template in longitude and latitude: looked up by arithmetic alone.
    n_lat, n_lon = 181, 361
    latitude = np.linspace(0, np.pi, n_lat)[:, None]
    longitude = np.linspace(-np.pi, np.pi, n_lon)[None]
    points = np.stack(
        [
            np.sin(latitude) * np.cos(longitude),
            np.sin(latitude) * np.sin(longitude),
            np.cos(latitude) + 0 * longitude,
        ],
        axis=-1,
    )
    picture = locate(fine, points.reshape(-1, 3)).interpolate(there).reshape(n_lat, n_lon)
    coarse = levels[4]
    directions = unit_length(coarse.vertices)
    values = here[: coarse.n_vertices]

    def mismatch(rotation: np.ndarray) -> float:
        x, y, z = (directions @ rotation.T).T
        rows = np.arccos(np.clip(z, -1, 1)) * ((n_lat - 1) / np.pi)
        columns = (np.arctan2(y, x) + np.pi) * ((n_lon - 1) / (2 * np.pi))
        seen = ndimage.map_coordinates(picture, [rows, columns], order=1, mode="nearest")
        return float(((seen - values) ** 2).mean())

    best, least = np.eye(3), mismatch(np.eye(3))
    span = ROTATION_SPAN_DEG
    while span > ROTATION_LAST_DEG:
        centre = best
        steps = np.linspace(-span, span, 9) if span == ROTATION_SPAN_DEG else [-span, 0.0, span]
        for a in steps:
            for b in steps:
                for c in steps:
                    trial = _rotation(a, b, c) @ centre
                    value = mismatch(trial)
                    if value < least:
                        best, least = trial, value
        span = span / 8 if span == ROTATION_SPAN_DEG else span / 2
    return best


def _rotation(a_deg: float, b_deg: float, c_deg: float) -> np.ndarray:
    (ca, cb, cc), (sa, sb, sc) = (
        np.cos(np.radians([a_deg, b_deg, c_deg])),
        np.sin(np.radians([a_deg, b_deg, c_deg])),
    )
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def unit_length(points: np.ndarray) -> np.ndarray:
    """Points (N, 3) on the unit sphere."""
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _rescaled(values: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1; a constant one becomes 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def midpoints(moved: np.ndarray, finer: Mesh) -> np.ndarray:
    """Positions of the next level's vertices: midpoints of the parents, which are the two older
    neighbours of each new vertex."""
    old = len(moved)
    edges = finer.edges
    mixed = edges[(edges[:, 0] < old) & (edges[:, 1] >= old)]
    out = np.zeros((finer.n_vertices, 3))
    out[:old] = moved
    for axis in range(3):
        out[:, axis] += np.bincount(mixed[:, 1], moved[mixed[:, 0], axis], finer.n_vertices)
    return unit_length(out)


def _register_level(
    moved: np.ndarray,
    grid: Mesh,
    here: np.ndarray,
    fine: Mesh,
    there: np.ndarray,
    stage: Stage,
) -> np.ndarray:
    ring, size = neighbour_rings(grid)
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    neighbour = ring[np.arange(ring.shape[1])[None, :] < size[:, None]]
    cotangents, area = rest_shape(unit_length(grid.vertices), start, neighbour)
    weights = grid.vertex_areas * (4 * np.pi / grid.vertex_areas.sum())
    channels = np.full(here.shape[1], float(stage.landmarks))
    channels[:2] = 1.0, stage.curvature
    channels /= channels[:2].sum()
    out = moved.copy()
    unit = unit_length(fine.vertices)
    first = locate(fine, out).faces.copy()
    _match(
        out,
        start,
        neighbour,
        cotangents,
        area,
        AREA_WEIGHT,
        stage.stiffness,
        np.ascontiguousarray(here),
        weights,
        channels,
        unit,
        fine.faces,
        face_neighbours(fine.faces),
        np.ascontiguousarray(there),
        first,
        stage.sweeps,
    )
    return out


@compiled()
def _match(
    sphere: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    cotangents: np.ndarray,
    area: np.ndarray,
    area_weight: float,
    stiffness: float,
    features: np.ndarray,
    weights: np.ndarray,
    channels: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    neighbours: np.ndarray,
    template: np.ndarray,
    at: np.ndarray,
    n_sweeps: int,
) -> None:
    gradient, hessian, step = np.empty(3), np.empty((3, 3)), np.empty(3)
    bary, slope, normal = np.empty(3), np.empty(3), np.empty(3)
    n, n_channels = len(sphere), len(channels)
    edge = np.sqrt(4 * np.pi / max(2 * n, 1))
    for sweep in range(n_sweeps):
        for index in range(n):
            v = index if sweep % 2 == 0 else n - 1 - index
            x, y, z = sphere[v, 0], sphere[v, 1], sphere[v, 2]
            ring_step(v, sphere, start, neighbour, cotangents, area, area_weight, gradient, hessian)
            for i in range(3):
                gradient[i] *= stiffness
                for j in range(3):
                    hessian[i, j] *= stiffness
            face = walk(vertices, faces, neighbours, x, y, z, at[v], bary)
            at[v] = face
            before = stiffness * ring_energy(
                v, x, y, z, sphere, start, neighbour, cotangents, area, area_weight
            )
            # Slope of the template: each weight is the point times the normal of a side.
            total = 0.0
            for k in range(3):
                p, q = faces[face, (k + 1) % 3], faces[face, (k + 2) % 3]
                for i in range(3):
                    c, d = (i + 1) % 3, (i + 2) % 3
                    normal[i] = vertices[p, c] * vertices[q, d] - vertices[p, d] * vertices[q, c]
                total += x * normal[0] + y * normal[1] + z * normal[2]
            for channel in range(n_channels):
                if channels[channel] == 0:
                    continue
                value = 0.0
                for k in range(3):
                    value += bary[k] * template[faces[face, k], channel]
                slope[:] = 0.0
                for k in range(3):
                    p, q = faces[face, (k + 1) % 3], faces[face, (k + 2) % 3]
                    for i in range(3):
                        c, d = (i + 1) % 3, (i + 2) % 3
                        slope[i] += (template[faces[face, k], channel] - value) * (
                            vertices[p, c] * vertices[q, d] - vertices[p, d] * vertices[q, c]
                        )
                for i in range(3):
                    slope[i] /= total
                off = value - features[v, channel]
                scale = weights[v] * channels[channel]
                before += scale * off * off
                for i in range(3):
                    gradient[i] += 2 * scale * off * slope[i]
                    for j in range(3):
                        hessian[i, j] += 2 * scale * slope[i] * slope[j]
            tangent_step(sphere[v], gradient, hessian, edge, step)
            if step[0] ** 2 + step[1] ** 2 + step[2] ** 2 < (1e-3 * edge) ** 2:
                continue
            t = 1.0
            for _ in range(5):
                nx, ny, nz = x + t * step[0], y + t * step[1], z + t * step[2]
                norm = np.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / norm, ny / norm, nz / norm
                after = stiffness * ring_energy(
                    v, nx, ny, nz, sphere, start, neighbour, cotangents, area, area_weight
                )
                if after < before:
                    face = walk(vertices, faces, neighbours, nx, ny, nz, at[v], bary)
                    for channel in range(n_channels):
                        value = 0.0
                        for k in range(3):
                            value += bary[k] * template[faces[face, k], channel]
                        off = value - features[v, channel]
                        after += weights[v] * channels[channel] * off * off
                    if after < before:
                        sphere[v, 0], sphere[v, 1], sphere[v, 2] = nx, ny, nz
                        at[v] = face
                        break
                t *= 0.4
