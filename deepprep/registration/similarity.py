"""Image values and their derivatives at moving points, and what they say of an alignment.

Compiled, single-threaded and in a fixed order: some milliseconds for 40,000 points, and the
same sums on every run. A similarity returns its value and its derivatives with respect to the
sampled values and to the weights of the points; ``pose_gradient`` turns these into the
derivative with respect to the 4x4 pose.
"""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled

BINS = 32
"""Bins of each margin of the joint histogram."""

MARGIN_BINS = 2
"""Bins left free at both ends, so that the spline kernel stays within the histogram."""


@compiled()
def sample_points(image, to_vox, points):
    """Trilinear values at mapped points, with slopes.

    Parameters
    ----------
    image : (X, Y, Z) float32 array
    to_vox : (4, 4) float64 array
        Maps a point to a voxel coordinate of ``image``.
    points : (N, 3) float64 array

    Returns
    -------
    value : (N,) array
        The border's value outside.
    slope : (N, 3) array
        Derivative of ``value`` with respect to the voxel coordinate.
    weight : (N,) array
        One inside the image, fading to zero one voxel beyond its border.
    weight_slope : (N, 3) array
        Derivative of ``weight``.
    """
    n = points.shape[0]
    value = np.zeros(n)
    slope = np.zeros((n, 3))
    weight = np.zeros(n)
    weight_slope = np.zeros((n, 3))
    shape = image.shape
    base = np.zeros(3, np.int64)
    part = np.zeros(3)
    for k in range(n):
        depth = 1e9
        side = 0
        direction = 1.0
        clamped = np.zeros(3, np.bool_)
        for axis in range(3):
            x = to_vox[axis, 3]
            for other in range(3):
                x += to_vox[axis, other] * points[k, other]
            last = shape[axis] - 1
            if x < depth:
                depth, side, direction = x, axis, 1.0
            if last - x < depth:
                depth, side, direction = last - x, axis, -1.0
            if x < 0.0:
                x = 0.0
                clamped[axis] = True
            elif x > last:
                x = float(last)
                clamped[axis] = True
            low = min(int(x), max(last - 1, 0))
            base[axis] = low
            part[axis] = x - low
        if depth <= -1.0:
            continue
        if depth < 0.0:
            weight[k] = 1.0 + depth
            weight_slope[k, side] = direction
        else:
            weight[k] = 1.0
        i, j, m = base[0], base[1], base[2]
        fx, fy, fz = part
        i1, j1, m1 = min(i + 1, shape[0] - 1), min(j + 1, shape[1] - 1), min(m + 1, shape[2] - 1)
        a000, a001 = image[i, j, m], image[i, j, m1]
        a010, a011 = image[i, j1, m], image[i, j1, m1]
        a100, a101 = image[i1, j, m], image[i1, j, m1]
        a110, a111 = image[i1, j1, m], image[i1, j1, m1]
        b00, b01 = a000 + fz * (a001 - a000), a010 + fz * (a011 - a010)
        b10, b11 = a100 + fz * (a101 - a100), a110 + fz * (a111 - a110)
        c0, c1 = b00 + fy * (b01 - b00), b10 + fy * (b11 - b10)
        value[k] = c0 + fx * (c1 - c0)
        if not clamped[0]:
            slope[k, 0] = c1 - c0
        if not clamped[1]:
            slope[k, 1] = (1 - fx) * (b01 - b00) + fx * (b11 - b10)
        if not clamped[2]:
            slope[k, 2] = (1 - fx) * ((1 - fy) * (a001 - a000) + fy * (a011 - a010)) + fx * (
                (1 - fy) * (a101 - a100) + fy * (a111 - a110)
            )
    return value, slope, weight, weight_slope


def pose_gradient(
    points: np.ndarray,
    ras2vox: np.ndarray,
    slope: np.ndarray,
    by_value: np.ndarray,
    weight_slope: np.ndarray | None = None,
    by_weight: np.ndarray | None = None,
) -> np.ndarray:
    """(4, 4) derivative with respect to the pose matrix; its last row is zero.

    Parameters
    ----------
    points : (N, 3) array
        Fixed points; the voxel coordinate is ``ras2vox @ pose @ point``.
    ras2vox : (4, 4) array
        Of the sampled image.
    slope, weight_slope : (N, 3) arrays
        From ``sample_points``.
    by_value, by_weight : (N,) arrays
        Derivatives of the cost with respect to each value and weight.
    """
    by_vox = slope * by_value[:, None]
    if weight_slope is not None and by_weight is not None:
        by_vox = by_vox + weight_slope * by_weight[:, None]
    out = np.zeros((4, 4))
    by_ras = by_vox @ ras2vox[:3, :3]
    out[:3, :3] = np.einsum("ni,nj->ij", by_ras, points)
    out[:3, 3] = by_ras.sum(axis=0)
    return out


def mutual_information(
    fixed_bins: np.ndarray, value: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Normalised mutual information, (H(f) + H(m)) / H(f, m) (Studholme et al. 1999).

    The moving image spreads over the histogram by cubic B-splines (Mattes et al. 2003), the
    fixed image, whose values never change, falls into one bin.

    Parameters
    ----------
    fixed_bins : (N,) int array
        From ``histogram_bins``.
    value, weight : (N,) arrays
        Moving values in 0..1 and weights of the points.

    Returns
    -------
    similarity, by_value, by_weight
        Between 1 and 2, and its derivatives.
    """
    position = np.clip(value, 0.0, 1.0) * (BINS - 1 - 2 * MARGIN_BINS) + MARGIN_BINS
    counts = _joint(fixed_bins, position, weight)
    total = max(counts.sum(), 1e-12)
    joint = counts / total
    tiny = 1e-12
    log_fixed = np.log(joint.sum(axis=1) + tiny)
    log_moving = np.log(joint.sum(axis=0) + tiny)
    log_joint = np.log(joint + tiny)
    h_joint = max(-(joint * log_joint).sum(), 1e-9)
    h_both = -(joint.sum(axis=1) @ log_fixed) - joint.sum(axis=0) @ log_moving
    similarity = h_both / h_joint
    table = (-(log_fixed[:, None] + log_moving[None]) + similarity * log_joint) / h_joint
    table = (table - (table * joint).sum()) / total
    by_value, by_weight = _lookup(table, fixed_bins, position, weight)
    return float(similarity), by_value * (BINS - 1 - 2 * MARGIN_BINS), by_weight


def histogram_bins(values: np.ndarray) -> np.ndarray:
    """Bin of each fixed value in 0..1."""
    position = np.clip(values, 0.0, 1.0) * (BINS - 1 - 2 * MARGIN_BINS) + MARGIN_BINS
    return np.rint(position).astype(np.int64)


def correlation(
    fixed: np.ndarray, value: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Weighted correlation coefficient and its derivatives by value and weight."""
    total = max(weight.sum(), 1e-12)
    # Plain sums: a BLAS dot product depends on the number of threads in its last digits
    a = fixed - (weight * fixed).sum() / total
    b = value - (weight * value).sum() / total
    aa, bb = (weight * a * a).sum() + 1e-12, (weight * b * b).sum() + 1e-12
    ab = (weight * a * b).sum()
    norm = np.sqrt(aa * bb)
    r = ab / norm
    by_value = weight * (a / norm - r * b / bb)
    by_weight = a * b / norm - 0.5 * r * (a * a / aa + b * b / bb)
    return float(r), by_value, by_weight


@compiled()
def _joint(fixed_bins, position, weight):
    counts = np.zeros((BINS, BINS))
    for k in range(position.size):
        if weight[k] <= 0.0:
            continue
        low = int(position[k])
        t = position[k] - low
        row = counts[fixed_bins[k]]
        w = weight[k] / 6.0
        row[low - 1] += w * (1 - t) ** 3
        row[low] += w * (3 * t**3 - 6 * t**2 + 4)
        row[low + 1] += w * (-3 * t**3 + 3 * t**2 + 3 * t + 1)
        row[low + 2] += w * t**3
    return counts


@compiled()
def _lookup(table, fixed_bins, position, weight):
    by_value = np.zeros(position.size)
    by_weight = np.zeros(position.size)
    for k in range(position.size):
        low = int(position[k])
        t = position[k] - low
        row = table[fixed_bins[k]]
        a, b, c, d = row[low - 1], row[low], row[low + 1], row[low + 2]
        by_weight[k] = (
            a * (1 - t) ** 3
            + b * (3 * t**3 - 6 * t**2 + 4)
            + c * (-3 * t**3 + 3 * t**2 + 3 * t + 1)
            + d * t**3
        ) / 6.0
        by_value[k] = (
            weight[k]
            * (-a * (1 - t) ** 2 + b * (3 * t**2 - 4 * t) + c * (-3 * t**2 + 2 * t + 1) + d * t**2)
            / 2.0
        )
    return by_value, by_weight
