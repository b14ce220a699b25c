"""Head motion: rigid alignment of every frame to the reference.

Gauss-Newton on intensities with gain and offset free (Friston et al. 1995; Cox & Jesmanowicz
1999), in the inverse-compositional form (Baker & Matthews 2004): gradients are those of the
reference, which is an average and so has little noise; they are computed once for all frames.
Frames and reference are smoothed alike, coarse to fine, and interpolated by a cubic B-spline.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from deepprep.bold.bspline import spline_coefficients, spline_value
from deepprep.bold.motion_parameters import motion_parameters
from deepprep.image.compiled import compiled, threads
from deepprep.image.volume import Volume

BATCH_BYTES = 400_000_000
"""Memory for the coefficients of the frames aligned together."""


@dataclass(frozen=True)
class Level:
    """One resolution of the pyramid: smoothing (mm FWHM), spacing of points (mm), iterations."""

    fwhm_mm: float
    spacing_mm: float
    iterations: int


COARSE = Level(fwhm_mm=10.0, spacing_mm=6.0, iterations=25)
FINE = Level(fwhm_mm=5.0, spacing_mm=2.5, iterations=15)
LEVELS = (COARSE, FINE)
"""5 mm as SPM's realignment; 10 mm reaches displacements of a centimetre and more."""

MIN_FIT = 0.8
"""Frames whose correlation with the reference stays below this are tried again from their
neighbours' positions."""

MIN_POINTS = 30
"""Points that must stay inside a frame's field of view."""

MAX_STEP_MM, MAX_STEP_RAD = 10.0, 0.15
"""Longest single Gauss-Newton step."""

DONE_MM, DONE_RAD = 2e-3, 3e-5
"""Steps below both end the iteration (50 mm from the centre that turn is 1.5 um)."""


@dataclass(frozen=True)
class HeadMotion:
    """Rigid motion of a run.

    Parameters
    ----------
    affines : (T, 4, 4) float64 array
        Map boldref RAS mm to RAS mm in frame t.
    parameters : (T, 6) float64 array
        trans_x, trans_y, trans_z in mm and rot_x, rot_y, rot_z in radians, in the
        convention of fMRIPrep's confounds (:mod:`deepprep.bold.motion_parameters`).
    correlation : (T,) float64 array
        Correlation of the aligned frame with the reference inside the mask.
    iterations : (T,) int array
        Gauss-Newton steps taken at the finest level.
    """

    affines: np.ndarray
    parameters: np.ndarray
    correlation: np.ndarray
    iterations: np.ndarray


def estimate_head_motion(
    bold: Volume,
    reference: Volume,
    mask: Volume | np.ndarray | None = None,
    device: str = "cpu",
    *,
    levels: tuple[Level, ...] = LEVELS,
    n_threads: int | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> HeadMotion:
    """Align every frame to the reference with six degrees of freedom.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) frames; they may lie on another lattice than the reference.
    reference : Volume
        3D reference.
    mask : Volume or bool array, optional
        Brain on the reference's lattice; it is widened by one voxel so that the outline
        counts. Without it, voxels above a fifth of the reference's 98th percentile.
    device : str
        Accepted for symmetry with other stages; the kernel runs on CPU threads.
    levels : tuple of Level
        Coarse to fine.
    n_threads : int, optional
        Threads; all that numba was given by default.
    on_chunk : callable, optional
        Called as ``on_chunk(frames_done, frames_in_all)``.

    Returns
    -------
    HeadMotion

    Raises
    ------
    ValueError
        When the mask is empty or the reference is flat.
    """
    frames = bold.data if bold.data.ndim == 4 else bold.data[..., np.newaxis]
    n_frames = frames.shape[3]
    inside = _points_mask(reference, mask)
    designs = [_design(reference, inside, level) for level in levels]

    affines = np.tile(np.eye(4), (n_frames, 1, 1))
    fit = np.zeros(n_frames)
    steps = np.zeros(n_frames, dtype=np.int64)
    per_batch = max(1, int(BATCH_BYTES / (4 * np.prod([n + 3 for n in frames.shape[:3]]))))

    def align(which: np.ndarray, chosen: tuple[int, ...]) -> None:
        for n in chosen:
            for start in range(0, len(which), per_batch):
                batch = which[start : start + per_batch]
                coefs = _prepare(frames, batch, bold.zooms_mm, levels[n].fwhm_mm, used)
                margin = _margin_vox(levels[n].fwhm_mm, bold.zooms_mm, frames.shape)
                affines[batch], fit[batch], steps[batch] = _align(
                    coefs, *designs[n], bold.grid.ras2vox, margin, levels[n].iterations,
                    affines[batch],
                )  # fmt: skip
                if on_chunk is not None and n == chosen[-1] and len(which) == n_frames:
                    on_chunk(int(batch[-1]) + 1, n_frames)

    everything = tuple(range(len(levels)))
    with threads(n_threads) as used:
        align(np.arange(n_frames), everything)
        poor = np.flatnonzero(fit < MIN_FIT)
        good = np.flatnonzero(fit >= MIN_FIT)
        if len(poor) and len(good):
            before_affines, before_fit, before_steps = affines.copy(), fit.copy(), steps.copy()
            nearest = good[np.abs(good[np.newaxis] - poor[:, np.newaxis]).argmin(axis=1)]
            affines[poor] = affines[nearest]
            align(poor, everything)
            worse = fit < before_fit
            affines[worse], fit[worse] = before_affines[worse], before_fit[worse]
            steps[worse] = before_steps[worse]
    return HeadMotion(affines, motion_parameters(affines, reference), fit, steps)


def _points_mask(reference: Volume, mask: Volume | np.ndarray | None) -> np.ndarray:
    if mask is None:
        level = np.percentile(np.nan_to_num(reference.data), 98) * 0.2
        inside = np.nan_to_num(reference.data) > level
    else:
        inside = np.asarray(mask.data if isinstance(mask, Volume) else mask) > 0
        if inside.shape != reference.shape[:3]:
            raise ValueError(f"mask {inside.shape} and reference {reference.shape} differ")
    if not inside.any():
        raise ValueError("head motion needs a reference with a non-empty mask")
    return ndimage.binary_dilation(inside, iterations=1)


def _sigma_vox(fwhm_mm: float, zooms_mm: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    sigma = fwhm_mm / np.sqrt(8 * np.log(2)) / zooms_mm
    return np.where(np.array(shape[:3]) > 1, sigma, 0.0)


def _margin_vox(fwhm_mm: float, zooms_mm: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Voxels at the border where smoothing saw data end; they are left out."""
    return np.minimum(_sigma_vox(fwhm_mm, zooms_mm, shape), (np.array(shape[:3]) - 1) / 4)


def _smooth(frame: np.ndarray, zooms_mm: np.ndarray, fwhm_mm: float) -> np.ndarray:
    values = np.nan_to_num(np.asarray(frame, dtype=np.float32), posinf=0.0, neginf=0.0)
    sigma = _sigma_vox(fwhm_mm, zooms_mm, values.shape)
    return ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0)


def _design(
    reference: Volume, inside: np.ndarray, level: Level
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) RAS mm, columns (N, 8) of the linear model, and the centre (3,) RAS mm."""
    smooth = _smooth(reference.data, reference.zooms_mm, level.fwhm_mm).astype(np.float64)
    spread = smooth[inside].std()
    if not spread > 0:
        raise ValueError("the reference is flat inside the mask: head motion cannot be estimated")
    stride = np.maximum(1, np.rint(level.spacing_mm / reference.zooms_mm)).astype(int)
    keep = np.zeros_like(inside)
    keep[:: stride[0], :: stride[1], :: stride[2]] = True
    margin = np.floor(_margin_vox(level.fwhm_mm, reference.zooms_mm, reference.shape)).astype(int)
    for axis, width in enumerate(margin):
        border = np.moveaxis(keep, axis, 0)
        border[:width] = False
        border[border.shape[0] - width :] = False
    keep &= inside
    if keep.sum() < 50:
        keep = inside
    gradient_vox = [
        np.gradient(smooth, axis=axis)[keep] if smooth.shape[axis] > 1 else np.zeros(keep.sum())
        for axis in range(3)
    ]
    # Chain rule: d/dRAS = d/dvox . dvox/dRAS.
    gradient = np.stack(gradient_vox, axis=1) @ reference.grid.ras2vox[:3, :3]
    ijk = np.argwhere(keep)
    points = ijk @ reference.affine[:3, :3].T + reference.affine[:3, 3]
    centre = points.mean(axis=0)
    # A small rotation w moves x by w x (x - centre): its column is (x - centre) x gradient.
    turning = np.cross(points - centre, gradient)
    level_of = smooth[keep]
    columns = np.column_stack([np.ones(len(points)), level_of, gradient, turning])
    columns[:, 1:] /= spread
    return points, np.ascontiguousarray(columns), centre


def _prepare(
    frames: np.ndarray, which: np.ndarray, zooms_mm: np.ndarray, fwhm_mm: float, n_threads: int
) -> np.ndarray:
    shape = tuple(n + 3 for n in frames.shape[:3])
    coefs = np.empty((len(which), *shape), dtype=np.float32)

    def one(n: int) -> None:
        coefs[n] = spline_coefficients(_smooth(frames[..., which[n]], zooms_mm, fwhm_mm))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(one, range(len(which))))
    return coefs


def _align(
    coefs: np.ndarray,
    points: np.ndarray,
    columns: np.ndarray,
    centre: np.ndarray,
    ras2vox: np.ndarray,
    margin: np.ndarray,
    n_iterations: int,
    start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Newton for a batch of frames: (T, 4, 4) affines, correlations, steps taken."""
    matrices = start.copy()
    fit = np.zeros(len(coefs))
    steps = np.zeros(len(coefs), dtype=np.int64)
    active = np.arange(len(coefs))
    for step in range(n_iterations + 1):
        normal, right, square = _normal_equations(
            coefs, active, points, columns, ras2vox @ matrices[active], margin
        )
        usable = normal[:, 0, 0] >= MIN_POINTS
        active, normal, right, square = (a[usable] for a in (active, normal, right, square))
        fit[active] = _correlation(normal, right, square)
        if step == n_iterations or len(active) == 0:
            break
        # A direction that the image does not determine stays where it is.
        strongest = np.diagonal(normal, axis1=1, axis2=2)[:, 2:].max(axis=1)
        normal[:, range(2, 8), range(2, 8)] += 1e-9 * strongest[:, np.newaxis] + 1e-30
        solution = np.linalg.solve(normal, right[..., np.newaxis])[..., 0]
        gain = solution[:, 1]
        move = np.divide(solution[:, 2:], gain[:, None], out=np.zeros((len(gain), 6)),
                         where=np.abs(gain[:, None]) > 1e-9)  # fmt: skip
        size = np.linalg.norm(move[:, :3], axis=1)
        turn = np.linalg.norm(move[:, 3:], axis=1)
        # Beyond these the linear model says nothing.
        limit = np.minimum(1.0, np.minimum(MAX_STEP_MM / np.maximum(size, 1e-9),
                                           MAX_STEP_RAD / np.maximum(turn, 1e-9)))  # fmt: skip
        steps[active] = step + 1
        matrices[active] = matrices[active] @ np.linalg.inv(_rigid(move * limit[:, None], centre))
        active = active[(size > DONE_MM) | (turn > DONE_RAD)]
        if len(active) == 0:
            break
    return matrices, fit, steps


def _correlation(normal: np.ndarray, right: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Correlation of frame and reference from sums over points (columns 0 and 1)."""
    count = normal[:, 0, 0]
    mean_v, mean_r = right[:, 0] / count, normal[:, 1, 0] / count
    variance_v, variance_r = square / count - mean_v**2, normal[:, 1, 1] / count - mean_r**2
    shared = right[:, 1] / count - mean_v * mean_r
    scale = np.sqrt((variance_v * variance_r).clip(min=0))
    return np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)


def _rigid(move: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(T, 4, 4) maps x -> R(w) (x - centre) + centre + v of ``move`` (T, 6) = (v, w)."""
    out = np.tile(np.eye(4), (len(move), 1, 1))
    rotation = Rotation.from_rotvec(move[:, 3:]).as_matrix()
    out[:, :3, :3] = rotation
    out[:, :3, 3] = centre - rotation @ centre + move[:, :3]
    return out


@compiled(parallel=True, fastmath=True)
def _normal_equations(coefs, which, points, columns, to_voxel, margin):  # type: ignore[no-untyped-def]
    """Sums over points: (T, 8, 8) of columns by columns, (T, 8) by values, (T,) of squares."""
    n_frames = which.shape[0]
    normal = np.zeros((n_frames, 8, 8))
    right = np.zeros((n_frames, 8))
    square = np.zeros(n_frames)
    high_x = coefs.shape[1] - 4 - margin[0]
    high_y = coefs.shape[2] - 4 - margin[1]
    high_z = coefs.shape[3] - 4 - margin[2]
    stride_x, stride_y = np.uintp(coefs.shape[2] * coefs.shape[3]), np.uintp(coefs.shape[3])
    for t in numba.prange(n_frames):
        frame = coefs[which[t]].ravel()
        m = to_voxel[t]
        for n in range(points.shape[0]):
            p0, p1, p2 = points[n, 0], points[n, 1], points[n, 2]
            x = m[0, 0] * p0 + m[0, 1] * p1 + m[0, 2] * p2 + m[0, 3]
            y = m[1, 0] * p0 + m[1, 1] * p1 + m[1, 2] * p2 + m[1, 3]
            z = m[2, 0] * p0 + m[2, 1] * p1 + m[2, 2] * p2 + m[2, 3]
            inside = (
                x >= margin[0] and y >= margin[1] and z >= margin[2]
                and x <= high_x and y <= high_y and z <= high_z
            )  # fmt: skip
            if inside:
                value = float(spline_value(frame, stride_x, stride_y, x, y, z))
                square[t] += value * value
                for a in range(8):
                    column = columns[n, a]
                    right[t, a] += column * value
                    for b in range(a + 1):
                        normal[t, a, b] += column * columns[n, b]
        for a in range(8):
            for b in range(a):
                normal[t, b, a] = normal[t, a, b]
    return normal, right, square
