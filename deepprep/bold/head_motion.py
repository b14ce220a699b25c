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

from deepprep.bold.bspline import spline_coefficients, spline_value
from deepprep.bold.compiled import compiled, threads
from deepprep.bold.motion_parameters import motion_parameters
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
                matrices = affines[batch]
                margin = _margin_vox(levels[n].fwhm_mm, bold.zooms_mm, frames.shape)
                fit[batch], steps[batch] = _align(
                    coefs, *designs[n], bold.grid.ras2vox, margin, levels[n].iterations, matrices
                )
                affines[batch] = matrices
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


@compiled(parallel=True, fastmath=True)
def _align(  # type: ignore[no-untyped-def]
    coefs, points, columns, centre, ras2vox, margin, n_iterations, matrices
):
    """Gauss-Newton for a batch of frames; ``matrices`` (T, 4, 4) hold start and result."""
    n_frames = coefs.shape[0]
    n_points = points.shape[0]
    correlation = np.zeros(n_frames)
    taken = np.zeros(n_frames, dtype=np.int64)
    last = np.empty(3)
    for axis in range(3):
        last[axis] = coefs.shape[axis + 1] - 4
    for t in numba.prange(n_frames):
        frame = coefs[t]
        current = matrices[t].copy()
        for step in range(n_iterations + 1):
            m = ras2vox @ current
            normal = np.zeros((8, 8))
            right = np.zeros(8)
            square = 0.0
            count = 0
            for n in range(n_points):
                p0, p1, p2 = points[n, 0], points[n, 1], points[n, 2]
                x = m[0, 0] * p0 + m[0, 1] * p1 + m[0, 2] * p2 + m[0, 3]
                y = m[1, 0] * p0 + m[1, 1] * p1 + m[1, 2] * p2 + m[1, 3]
                z = m[2, 0] * p0 + m[2, 1] * p1 + m[2, 2] * p2 + m[2, 3]
                if (
                    x < margin[0] or y < margin[1] or z < margin[2]
                    or x > last[0] - margin[0] or y > last[1] - margin[1]
                    or z > last[2] - margin[2]
                ):  # fmt: skip
                    continue
                value = float(spline_value(frame, x, y, z))
                count += 1
                square += value * value
                for a in range(8):
                    ca = columns[n, a]
                    right[a] += ca * value
                    for b in range(a + 1):
                        normal[a, b] += ca * columns[n, b]
            if count < 30:
                break
            # Correlation of frame and reference from the sums already at hand.
            mean_v, mean_r = right[0] / count, normal[1, 0] / count
            var_v, var_r = square / count - mean_v**2, normal[1, 1] / count - mean_r**2
            if var_v <= 0 or var_r <= 0:
                break
            correlation[t] = (right[1] / count - mean_v * mean_r) / np.sqrt(var_v * var_r)
            if step == n_iterations:
                break
            ridge = 0.0
            for a in range(8):
                for b in range(a):
                    normal[b, a] = normal[a, b]
            for a in range(2, 8):
                ridge = max(ridge, normal[a, a])
            for a in range(2, 8):
                normal[a, a] += 1e-9 * ridge
            solution = np.linalg.solve(normal, right)
            gain = solution[1]
            if not abs(gain) > 1e-12:
                break
            move = solution[2:] / gain
            size = np.sqrt((move[:3] ** 2).sum())
            turn = np.sqrt((move[3:] ** 2).sum())
            # A step of more than a smoothing width leaves the range of the linear model.
            limit = min(1.0, 10.0 / max(size, 1e-12), 0.15 / max(turn, 1e-12))
            step_matrix = _rigid(move * limit, centre)
            current = current @ np.linalg.inv(step_matrix)
            taken[t] = step + 1
            if size < 2e-3 and turn < 3e-5:
                break
        matrices[t] = current
    return correlation, taken


@compiled()
def _rigid(move, centre):  # type: ignore[no-untyped-def]
    """x -> R(w) (x - centre) + centre + v of ``move`` = (v, w), by Rodrigues' formula."""
    v, w = move[:3], move[3:]
    angle = np.sqrt((w**2).sum())
    k = np.zeros((3, 3))
    k[0, 1], k[0, 2], k[1, 2] = -w[2], w[1], -w[0]
    k[1, 0], k[2, 0], k[2, 1] = w[2], -w[1], w[0]
    if angle < 1e-8:
        rotation = np.eye(3) + k
    else:
        rotation = (
            np.eye(3) + np.sin(angle) / angle * k + (1 - np.cos(angle)) / angle**2 * (k @ k)
        )
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = centre - rotation @ centre + v
    return out
