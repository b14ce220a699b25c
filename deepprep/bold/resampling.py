"""One interpolation from the original BOLD frames to any output lattice.

Head motion, distortion, coregistration and normalisation are composed as point maps and the
series is interpolated once, with a cubic B-spline, as in fMRIPrep (Esteban et al. 2019).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from deepprep.bold.bspline import BORDER_VOX, spline_coefficients, spline_value
from deepprep.image.compiled import compiled, threads
from deepprep.image.resample import CHUNK_POINTS, PointTransform
from deepprep.image.volume import Grid, Volume


@dataclass(frozen=True)
class ShiftField:
    """Displacement of the BOLD signal along one voxel axis (susceptibility distortion).

    Parameters
    ----------
    shift_vox : (X, Y, Z) array
        On the *target* lattice: voxels of the BOLD image to add along ``axis``.
    axis : {0, 1, 2}
        Voxel axis of the BOLD image (the phase-encoding axis).
    jacobian : (X, Y, Z) array, optional
        Intensity factor on the target lattice.
    """

    shift_vox: np.ndarray
    axis: int
    jacobian: np.ndarray | None = None


def resample_bold(
    bold: Volume,
    motion_affines: np.ndarray | None,
    target: Grid,
    target_to_boldref: PointTransform | None = None,
    *,
    mask: np.ndarray | None = None,
    shift_field: ShiftField | None = None,
    fill: float = 0.0,
    dtype: type | str = np.float32,
    device: str = "cpu",
    n_threads: int | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Volume:
    """Resample a BOLD series once, through head motion and any map to the reference.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) original frames, after slice timing correction if any; (X, Y, Z) is a
        series of one frame.
    motion_affines : (T, 4, 4) array or None
        Map boldref RAS mm to RAS mm in frame t (:func:`estimate_head_motion`); ``None`` for
        no motion.
    target : Grid
        Lattice of the result.
    target_to_boldref : PointTransform, optional
        Maps target RAS mm to boldref RAS mm; identity when absent.
    mask : (X', Y', Z') bool array, optional
        On the target lattice; only these voxels are computed, the others get ``fill``.
    shift_field : ShiftField, optional
        Susceptibility distortion on the target lattice.
    fill : float
        Value outside the field of view. Voxels reach half their width beyond the outermost
        centres; there the edge value holds.
    dtype : numpy dtype
        float32, or an integer type (rounded and clipped to its range).
    device : str
        Accepted for symmetry with other stages; the kernel runs on CPU threads.
    n_threads : int, optional
        Threads of the kernel; all that numba was given by default.
    on_chunk : callable, optional
        Called as ``on_chunk(frames_done, frames_in_all)``.

    Returns
    -------
    Volume
        (X', Y', Z', T) in Fortran order (frame after frame, as NIfTI stores it).

    Raises
    ------
    ValueError
        When the number of affines is not the number of frames.

    Notes
    -----
    Memory: the result, 12 bytes per target voxel inside the field of view, and the
    coefficients of a few frames.
    """
    frames, to_voxel = _frames(bold, motion_affines)
    n_frames = frames.shape[3]
    wanted = np.dtype(dtype)
    out = np.empty((*target.shape, n_frames), dtype=wanted, order="F")
    flat = out.reshape(-1, n_frames, order="F")

    index, points = _points_in_view(bold.grid, to_voxel, target, target_to_boldref, mask,
                                    shift_field)  # fmt: skip
    shift, gain, axis = _distortion(shift_field, target, index)
    values = np.empty(len(index), dtype=np.float32)
    with threads(n_threads) as used, ThreadPoolExecutor(used) as pool:
        for t, coefs in enumerate(_coefficients_ahead(frames, pool, 2 * used)):
            _sample(coefs, points, to_voxel[t], shift, gain, axis, np.float32(fill), values)
            column = flat[:, t]
            column[:] = fill
            if np.issubdtype(wanted, np.integer):
                info = np.iinfo(wanted)
                column[index] = np.rint(np.clip(values, info.min, info.max))
            else:
                column[index] = values
            if on_chunk is not None:
                on_chunk(t + 1, n_frames)
    data = out if bold.data.ndim == 4 else out[..., 0]
    return Volume(data, target.affine)


def sample_frames(
    bold: Volume,
    motion_affines: np.ndarray | None,
    points: np.ndarray,
    *,
    fill: float = 0.0,
    n_threads: int | None = None,
) -> Iterator[np.ndarray]:
    """Value of each frame at points, interpolated once through head motion.

    Parameters
    ----------
    bold, motion_affines, fill, n_threads
        See :func:`resample_bold`.
    points : (N, 3) array
        Boldref RAS mm.

    Yields
    ------
    (N,) float32 array
        Of each frame in turn; the same array, filled anew.

    Raises
    ------
    ValueError
        When the number of affines is not the number of frames.
    """
    frames, to_voxel = _frames(bold, motion_affines)
    where = np.ascontiguousarray(points, dtype=np.float32)
    none = np.empty(0, dtype=np.float32)
    values = np.empty(len(where), dtype=np.float32)
    with threads(n_threads) as used, ThreadPoolExecutor(used) as pool:
        for t, coefs in enumerate(_coefficients_ahead(frames, pool, 2 * used)):
            _sample(coefs, where, to_voxel[t], none, none, 0, np.float32(fill), values)
            yield values


def _frames(bold: Volume, motion_affines: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Frames (X, Y, Z, T), and maps (T, 4, 4) from boldref RAS mm to their voxels."""
    frames = bold.data if bold.data.ndim == 4 else bold.data[..., np.newaxis]
    n_frames = frames.shape[3]
    if motion_affines is None:
        motion_affines = np.broadcast_to(np.eye(4), (n_frames, 4, 4))
    if motion_affines.shape != (n_frames, 4, 4):
        raise ValueError(
            f"{n_frames} frames need ({n_frames}, 4, 4) motion affines, not {motion_affines.shape}"
        )
    return frames, bold.grid.ras2vox @ motion_affines


def _coefficients_ahead(
    frames: np.ndarray, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[np.ndarray]:
    """Coefficients of all frames in order, prepared a few frames ahead of their use."""
    waiting: deque[Future[np.ndarray]] = deque()
    for t in range(frames.shape[3] + ahead):
        if t < frames.shape[3]:
            waiting.append(pool.submit(spline_coefficients, frames[..., t]))
        if t >= ahead:
            yield waiting.popleft().result()


def _points_in_view(
    source: Grid,
    to_voxel: np.ndarray,
    target: Grid,
    transform: PointTransform | None,
    mask: np.ndarray | None,
    shift_field: ShiftField | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Fortran-order indices of target voxels seen by some frame, and their boldref points."""
    # How far any frame moves the corners of the field of view bounds how far it moves what
    # lies inside (affine maps are convex).
    size = np.array(source.shape, dtype=float)
    corners = np.array(np.meshgrid(*((-1.0, n) for n in size), indexing="ij")).reshape(3, -1)
    corners_ras = source.vox2ras @ np.vstack([corners, np.ones(8)])
    moved = (to_voxel @ corners_ras)[:, :3]
    slack = np.abs(moved - corners).max(axis=(0, 2)) + 1.0
    if shift_field is not None:
        slack[shift_field.axis] += np.abs(shift_field.shift_vox).max()
    low, high = -slack, size - 1 + slack

    n_voxels = int(np.prod(target.shape))
    inside = None if mask is None else np.asarray(mask, dtype=bool).reshape(-1, order="F")
    indices, kept = [], []
    for start in range(0, n_voxels, CHUNK_POINTS):
        index = np.arange(start, min(n_voxels, start + CHUNK_POINTS))
        if inside is not None:
            index = index[inside[index]]
        ijk = np.stack(np.unravel_index(index, target.shape, order="F"), axis=1)
        points = ijk @ target.affine[:3, :3].T + target.affine[:3, 3]
        if transform is not None:
            points = np.asarray(transform.map_points(points))
        vox = points @ source.ras2vox[:3, :3].T + source.ras2vox[:3, 3]
        seen = np.all((vox >= low) & (vox <= high), axis=1)
        indices.append(index[seen])
        kept.append(points[seen].astype(np.float32))
    return np.concatenate(indices), np.ascontiguousarray(np.concatenate(kept))


def _distortion(
    field: ShiftField | None, target: Grid, index: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    none = np.empty(0, dtype=np.float32)
    if field is None:
        return none, none, 0
    for name in ("shift_vox", "jacobian"):
        values = getattr(field, name)
        if values is not None and values.shape != target.shape:
            raise ValueError(f"{name} has shape {values.shape}, the target lattice {target.shape}")
    shift = field.shift_vox.reshape(-1, order="F")[index].astype(np.float32)
    if field.jacobian is None:
        return shift, none, field.axis
    return shift, field.jacobian.reshape(-1, order="F")[index].astype(np.float32), field.axis


@compiled(parallel=True, fastmath=True, nogil=True)
def _sample(coefs, points, to_voxel, shift, gain, axis, fill, out):  # type: ignore[no-untyped-def]
    stride_x, stride_y = np.uintp(coefs.shape[1] * coefs.shape[2]), np.uintp(coefs.shape[2])
    flat = coefs.ravel()
    last_x, last_y, last_z = coefs.shape[0] - 4, coefs.shape[1] - 4, coefs.shape[2] - 4
    m = to_voxel
    for n in numba.prange(points.shape[0]):
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
        y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
        z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
        if shift.size > 0:
            if axis == 0:
                x += shift[n]
            elif axis == 1:
                y += shift[n]
            else:
                z += shift[n]
        outside = (
            x < -BORDER_VOX or y < -BORDER_VOX or z < -BORDER_VOX
            or x > last_x + BORDER_VOX or y > last_y + BORDER_VOX or z > last_z + BORDER_VOX
        )  # fmt: skip
        if outside:
            out[n] = fill
        else:
            x = min(max(x, 0.0), float(last_x))
            y = min(max(y, 0.0), float(last_y))
            z = min(max(z, 0.0), float(last_z))
            value = spline_value(flat, stride_x, stride_y, x, y, z)
            if gain.size > 0:
                value *= gain[n]
            out[n] = value
