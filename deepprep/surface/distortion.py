"""How much a map to a sphere changes areas and angles, and how to make it change less.

Every triangle has a shape and an area it had on the cortex, and three points on the unit sphere.
Its energy is

    A0 * ( D / (2 A)  +  w * ((r^2 + r^-2) / 8  +  (r^4 + r^-4) / 100) ),   r = A / A0

with D the Dirichlet energy of the map, A0 the area it should have and A the area it has: the
first term is 1 where no angle changes (MIPS, Hormann & Greiner 2000), the second least where the
area is kept, its higher powers there against tears. Both are infinite for a triangle without area,
so that no step can fold one. A is taken as half the determinant of the three corners, which is the
area for small triangles and vanishes exactly where the spherical triangle does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.mesh import Mesh

AREA_WEIGHT = 2.0
"""Weight of kept areas beside kept angles."""
SLIVER = 0.08
"""A triangle's area counts as at least this share of an equilateral one of the same edge lengths,
so that the needles of a meshed level set do not dictate their shape to the sphere."""
LEAST_AREA = 1e-6
"""A triangle is never made smaller than this share of the area it should have."""


@dataclass(frozen=True)
class Distortion:
    """Summary of a map from a surface to a sphere.

    Parameters
    ----------
    areal : (F,) float64 array
        log2 of the area on the sphere over the area on the surface, both surfaces scaled to the
        same total area.
    angular : (F,) float64 array
        Mean absolute change of a triangle's three angles, degrees.
    weights : (F,) float64 array
        Share of each triangle in the area of the surface.
    folded : int
        Triangles of the sphere that face inwards.
    """

    areal: np.ndarray
    angular: np.ndarray
    weights: np.ndarray
    folded: int

    @property
    def mean_areal(self) -> float:
        """Mean of abs(log2 area ratio) over the surface."""
        return float((np.abs(self.areal) * self.weights).sum())

    @property
    def mean_angular_deg(self) -> float:
        """Mean change of angles over the surface, degrees."""
        return float((self.angular * self.weights).sum())


def measure_distortion(surface: Mesh, sphere: Mesh) -> Distortion:
    """Compare the triangles of a surface and of its sphere.

    Parameters
    ----------
    surface, sphere : Mesh
        The same triangles.

    Raises
    ------
    ValueError
        Where the triangles differ.
    """
    if not np.array_equal(surface.faces, sphere.faces):
        raise ValueError("a surface and its sphere have the same triangles; these two do not")
    before = np.maximum(surface.face_areas, 1e-12)
    after = np.maximum(sphere.face_areas, 1e-12)
    weights = before / before.sum()
    areal = np.log2((after / after.sum()) / weights)
    angular = np.degrees(np.abs(_angles(surface) - _angles(sphere))).mean(axis=1)
    return Distortion(areal, angular, weights, count_folds(sphere))


def signed_volumes(sphere: Mesh) -> np.ndarray:
    """(F,) determinants of the corners of each triangle, positive where it faces outwards, mm^3."""
    a, b, c = (sphere.vertices[sphere.faces[:, k]] for k in range(3))
    return np.einsum("ij,ij->i", a, np.cross(b, c))


def count_folds(sphere: Mesh) -> int:
    """Number of triangles that face inwards or have no area."""
    return int((signed_volumes(sphere) <= 0).sum())


def areal_expansion(before: Mesh, after: Mesh) -> np.ndarray:
    """(V,) log2 of the area around each vertex after over before, for two spheres of one radius."""
    return np.log2(np.maximum(after.vertex_areas, 1e-12) / np.maximum(before.vertex_areas, 1e-12))


def _angles(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices[mesh.faces]
    out = np.empty((mesh.n_faces, 3))
    for k in range(3):
        first = corners[:, (k + 1) % 3] - corners[:, k]
        second = corners[:, (k + 2) % 3] - corners[:, k]
        out[:, k] = np.arctan2(
            np.linalg.norm(np.cross(first, second), axis=1), np.einsum("ij,ij->i", first, second)
        )
    return out


def rest_shape(
    points: np.ndarray, start: np.ndarray, neighbour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shape and area that each triangle should keep, for each vertex and neighbour.

    Parameters
    ----------
    points : (V, 3) float64 array
        Positions of the surface whose metric counts, mm.
    start : (V + 1,) int64 array
    neighbour : (N,) int32 array
        Rings of the vertices, counter-clockwise, one after the other.

    Returns
    -------
    cotangents : (N, 3) float64 array
        Of the triangle (vertex, neighbour i, neighbour i + 1): at its three corners.
    area : (N,) float64 array
        Its area, mm^2, slivers counted as in ``SLIVER``.
    """
    cotangents = np.empty((len(neighbour), 3))
    area = np.empty(len(neighbour))
    _fill_rest(points, start, neighbour, cotangents, area)
    return cotangents, area


@compiled()
def _fill_rest(
    points: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    cotangents: np.ndarray,
    area: np.ndarray,
) -> None:
    for v in range(len(start) - 1):
        for s in range(start[v], start[v + 1]):
            t = s + 1 if s + 1 < start[v + 1] else start[v]
            p, q = neighbour[s], neighbour[t]
            lv, lp, lq = 0.0, 0.0, 0.0
            for k in range(3):
                lv += (points[p, k] - points[q, k]) ** 2
                lp += (points[v, k] - points[q, k]) ** 2
                lq += (points[v, k] - points[p, k]) ** 2
            inside = 2 * (lv * lp + lp * lq + lq * lv) - lv * lv - lp * lp - lq * lq
            true = 0.25 * np.sqrt(max(inside, 0.0))
            round_one = (lv + lp + lq) / (4 * np.sqrt(3.0))
            # Mixed with an equilateral triangle until it is fat enough.
            if true < SLIVER * round_one:
                mean = (lv + lp + lq) / 3
                low, high = 0.0, 1.0
                for _ in range(12):
                    mix = 0.5 * (low + high)
                    a, b, c = (
                        lv + mix * (mean - lv),
                        lp + mix * (mean - lp),
                        lq + mix * (mean - lq),
                    )
                    inside = 2 * (a * b + b * c + c * a) - a * a - b * b - c * c
                    if 0.25 * np.sqrt(max(inside, 0.0)) < SLIVER * round_one:
                        low = mix
                    else:
                        high = mix
                lv, lp, lq = (
                    lv + high * (mean - lv),
                    lp + high * (mean - lp),
                    lq + high * (mean - lq),
                )
                inside = 2 * (lv * lp + lp * lq + lq * lv) - lv * lv - lp * lp - lq * lq
                true = 0.25 * np.sqrt(max(inside, 0.0))
            true = max(true, 1e-10)
            area[s] = true
            cotangents[s, 0] = (lp + lq - lv) / (4 * true)
            cotangents[s, 1] = (lv + lq - lp) / (4 * true)
            cotangents[s, 2] = (lv + lp - lq) / (4 * true)


@compiled()
def ring_energy(
    v: int,
    x: float,
    y: float,
    z: float,
    sphere: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    cotangents: np.ndarray,
    area: np.ndarray,
    weight: float,
) -> float:
    """Energy of the triangles around vertex ``v`` placed at (x, y, z); infinite if one folds."""
    total = 0.0
    for s in range(start[v], start[v + 1]):
        t = s + 1 if s + 1 < start[v + 1] else start[v]
        p, q = neighbour[s], neighbour[t]
        px, py, pz = sphere[p, 0], sphere[p, 1], sphere[p, 2]
        qx, qy, qz = sphere[q, 0], sphere[q, 1], sphere[q, 2]
        now = 0.5 * (x * (py * qz - pz * qy) + y * (pz * qx - px * qz) + z * (px * qy - py * qx))
        a0 = area[s]
        if now <= LEAST_AREA * a0:
            return np.inf
        dirichlet = 0.5 * (
            cotangents[s, 0] * ((px - qx) ** 2 + (py - qy) ** 2 + (pz - qz) ** 2)
            + cotangents[s, 1] * ((x - qx) ** 2 + (y - qy) ** 2 + (z - qz) ** 2)
            + cotangents[s, 2] * ((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2)
        )
        ratio2 = (now / a0) ** 2
        areal = 0.125 * (ratio2 + 1 / ratio2) + 0.01 * (ratio2**2 + 1 / ratio2**2)
        total += a0 * (0.5 * dirichlet / now + weight * areal)
    return total


@compiled()
def ring_step(
    v: int,
    sphere: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    cotangents: np.ndarray,
    area: np.ndarray,
    weight: float,
    gradient: np.ndarray,
    hessian: np.ndarray,
) -> None:
    """Gradient (3,) and positive Hessian (3, 3) of :func:`ring_energy` at the vertex's place."""
    x, y, z = sphere[v, 0], sphere[v, 1], sphere[v, 2]
    gradient[:] = 0.0
    hessian[:] = 0.0
    n, d = np.empty(3), np.empty(3)
    for s in range(start[v], start[v + 1]):
        t = s + 1 if s + 1 < start[v + 1] else start[v]
        p, q = neighbour[s], neighbour[t]
        px, py, pz = sphere[p, 0], sphere[p, 1], sphere[p, 2]
        qx, qy, qz = sphere[q, 0], sphere[q, 1], sphere[q, 2]
        n[0] = 0.5 * (py * qz - pz * qy)
        n[1] = 0.5 * (pz * qx - px * qz)
        n[2] = 0.5 * (px * qy - py * qx)
        a0 = area[s]
        now = max(x * n[0] + y * n[1] + z * n[2], LEAST_AREA * a0)
        cp, cq = cotangents[s, 1], cotangents[s, 2]
        dirichlet = 0.5 * (
            cotangents[s, 0] * ((px - qx) ** 2 + (py - qy) ** 2 + (pz - qz) ** 2)
            + cp * ((x - qx) ** 2 + (y - qy) ** 2 + (z - qz) ** 2)
            + cq * ((x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2)
        )
        d[0] = cp * (x - qx) + cq * (x - px)
        d[1] = cp * (y - qy) + cq * (y - py)
        d[2] = cp * (z - qz) + cq * (z - pz)
        first = a0 * 0.5 / now
        ratio = now / a0
        areal = 0.25 * (ratio - 1 / ratio**3) + 0.04 * (ratio**3 - 1 / ratio**5)
        along = -0.5 * a0 * dirichlet / now**2 + weight * areal
        cross = -a0 * 0.5 / now**2
        bend = 0.25 + 0.75 / ratio**4 + 0.12 * ratio**2 + 0.2 / ratio**6
        twice = a0 * dirichlet / now**3 + weight * bend / a0
        for i in range(3):
            gradient[i] += first * d[i] + along * n[i]
            hessian[i, i] += first * (cp + cq)
            for j in range(3):
                hessian[i, j] += cross * (d[i] * n[j] + n[i] * d[j]) + twice * n[i] * n[j]


@compiled()
def tangent_step(
    point: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, most: float, step: np.ndarray
) -> None:
    """Newton step in the tangent plane of the unit sphere, at most ``most`` long."""
    x, y, z = point[0], point[1], point[2]
    e, f = np.empty(3), np.empty(3)
    if abs(z) < 0.8:
        length = np.sqrt(x * x + y * y)
        e[0], e[1], e[2] = -y / length, x / length, 0.0
    else:
        length = np.sqrt(y * y + z * z)
        e[0], e[1], e[2] = 0.0, -z / length, y / length
    f[0] = y * e[2] - z * e[1]
    f[1] = z * e[0] - x * e[2]
    f[2] = x * e[1] - y * e[0]
    ge, gf, radial = 0.0, 0.0, 0.0
    hee, hef, hff = 0.0, 0.0, 0.0
    for i in range(3):
        ge += gradient[i] * e[i]
        gf += gradient[i] * f[i]
        radial += gradient[i] * point[i]
        for j in range(3):
            hee += e[i] * hessian[i, j] * e[j]
            hef += e[i] * hessian[i, j] * f[j]
            hff += f[i] * hessian[i, j] * f[j]
    # The sphere bends away from its tangent plane.
    hee -= radial
    hff -= radial
    # Eigenvalues made positive: a step that always goes down.
    half = 0.5 * (hee + hff)
    root = np.sqrt(0.25 * (hee - hff) ** 2 + hef * hef)
    low, high = half - root, half + root
    floor = 1e-3 * max(abs(low), abs(high)) + 1e-300
    lift = floor - low if low < floor else 0.0
    hee += lift
    hff += lift
    det = hee * hff - hef * hef
    se = -(hff * ge - hef * gf) / det
    sf = -(hee * gf - hef * ge) / det
    size = np.sqrt(se * se + sf * sf)
    scale = most / size if size > most else 1.0
    for i in range(3):
        step[i] = scale * (se * e[i] + sf * f[i])


@compiled()
def relax(
    sphere: np.ndarray,
    start: np.ndarray,
    neighbour: np.ndarray,
    cotangents: np.ndarray,
    area: np.ndarray,
    weight: float,
    n_sweeps: int,
) -> float:
    """Move each vertex in turn to where its triangles change less; ``sphere`` changes.

    Parameters
    ----------
    sphere : (V, 3) float64 array
        Points on the unit sphere, no triangle folded: none will be.
    start, neighbour, cotangents, area
        As in :func:`rest_shape`, the areas scaled to a total of 4 pi.
    weight : float
        As ``AREA_WEIGHT``.
    n_sweeps : int

    Returns
    -------
    float
        Mean length of the last sweep's moves over the mean edge.
    """
    gradient, hessian, step = np.empty(3), np.empty((3, 3)), np.empty(3)
    n = len(sphere)
    edge = np.sqrt(4 * np.pi / max(2 * n, 1))
    moved = 0.0
    for sweep in range(n_sweeps):
        moved = 0.0
        for index in range(n):
            # Forwards and backwards in turn, so that no side is served last for ever.
            v = index if sweep % 2 == 0 else n - 1 - index
            x, y, z = sphere[v, 0], sphere[v, 1], sphere[v, 2]
            ring_step(v, sphere, start, neighbour, cotangents, area, weight, gradient, hessian)
            tangent_step(sphere[v], gradient, hessian, 2 * edge, step)
            length = np.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
            if length < 1e-4 * edge:
                continue
            before = ring_energy(v, x, y, z, sphere, start, neighbour, cotangents, area, weight)
            t = 1.0
            for _ in range(8):
                nx, ny, nz = x + t * step[0], y + t * step[1], z + t * step[2]
                norm = np.sqrt(nx * nx + ny * ny + nz * nz)
                nx, ny, nz = nx / norm, ny / norm, nz / norm
                after = ring_energy(
                    v, nx, ny, nz, sphere, start, neighbour, cotangents, area, weight
                )
                if after < before:
                    sphere[v, 0], sphere[v, 1], sphere[v, 2] = nx, ny, nz
                    moved += t * length
                    break
                t *= 0.4
        moved /= n * edge
    return moved
