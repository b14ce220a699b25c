"""BOLD series on a cortical surface: the mean of points between white and pial, interpolated once.

As in FreeSurfer's ``mri_vol2surf --projfrac-avg 0 1 0.2``, which fMRIPrep calls, but from the original
frames: head motion and coregistration move the points, and no volume is resampled before.
"""

from __future__ import annotations

import numpy as np

from deepprep.bold.resampling import sample_frames
from deepprep.image.resample import PointTransform
from deepprep.image.volume import Volume
from deepprep.surface.mesh import Mesh

DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Where between white (0) and pial surface (1) the series is sampled."""
OUTSIDE = float(np.finfo(np.float32).min)
"""Marks points outside the field of view."""


def sample_on_surface(
    bold: Volume,
    motion_affines: np.ndarray | None,
    white: Mesh,
    pial: Mesh,
    t1w_to_boldref: PointTransform | None = None,
    *,
    n_threads: int | None = None,
) -> np.ndarray:
    """Mean signal across the cortex at each vertex.

    Parameters
    ----------
    bold : Volume
        (X, Y, Z, T) original frames, after slice timing correction if any.
    motion_affines : (T, 4, 4) array or None
        Map boldref RAS mm to RAS mm in frame t.
    white, pial : Mesh
        The same triangles, RAS mm of the T1w.
    t1w_to_boldref : PointTransform, optional
        Maps T1w RAS mm to boldref RAS mm; identity when absent.
    n_threads : int, optional
        Threads of the kernel.

    Returns
    -------
    (V, T) float32 array
        0 where no depth of a vertex lies in the field of view; else the mean of those that do.
    """
    points = np.concatenate(
        [white.vertices + depth * (pial.vertices - white.vertices) for depth in DEPTHS]
    )
    if t1w_to_boldref is not None:
        points = np.asarray(t1w_to_boldref.map_points(points))
    n_frames = bold.data.shape[3] if bold.data.ndim == 4 else 1
    out = np.zeros((white.n_vertices, n_frames), dtype=np.float32)
    sampled = sample_frames(bold, motion_affines, points, fill=OUTSIDE, n_threads=n_threads)
    for t, values in enumerate(sampled):
        layers = values.reshape(len(DEPTHS), -1)
        seen = layers > OUTSIDE
        total = np.where(seen, layers, 0.0).sum(axis=0)
        out[:, t] = total / np.maximum(seen.sum(axis=0), 1)
    return out
