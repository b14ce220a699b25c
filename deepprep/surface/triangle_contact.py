"""Do two triangles touch? Exact answers, in integer arithmetic.

Coordinates are integers of at most 20 bits relative to a corner of the pair, so that every
determinant fits in 64 bits and its sign is exact: no tolerance, no missed or invented contact.
Triangles that touch in a single point count as touching.
"""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled

COORDINATE_BITS = 20
"""Largest relative coordinate of a pair is 2**20: the determinant stays below 2**63."""


@compiled()
def _side(p: np.ndarray, a: int, b: int, c: int, d: int) -> int:
    """Sign of the volume of (a, b, c, d): on which side of the plane abc the point d lies."""
    ax, ay, az = p[a, 0] - p[d, 0], p[a, 1] - p[d, 1], p[a, 2] - p[d, 2]
    bx, by, bz = p[b, 0] - p[d, 0], p[b, 1] - p[d, 1], p[b, 2] - p[d, 2]
    cx, cy, cz = p[c, 0] - p[d, 0], p[c, 1] - p[d, 1], p[c, 2] - p[d, 2]
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return 1 if volume > 0 else (-1 if volume < 0 else 0)


@compiled()
def _turn(p: np.ndarray, a: int, b: int, c: int, u: int, v: int) -> int:
    """Sign of the area of (a, b, c) projected on the coordinates u and v."""
    area = (p[b, u] - p[a, u]) * (p[c, v] - p[a, v]) - (p[b, v] - p[a, v]) * (p[c, u] - p[a, u])
    return 1 if area > 0 else (-1 if area < 0 else 0)


@compiled()
def _between(p: np.ndarray, a: int, b: int, c: int, u: int, v: int) -> bool:
    """Whether c, on the line through a and b, lies between them."""
    return min(p[a, u], p[b, u]) <= p[c, u] <= max(p[a, u], p[b, u]) and min(p[a, v], p[b, v]) <= p[
        c, v
    ] <= max(p[a, v], p[b, v])


@compiled()
def _segments_touch(p: np.ndarray, a: int, b: int, c: int, d: int, u: int, v: int) -> bool:
    first, second = _turn(p, a, b, c, u, v), _turn(p, a, b, d, u, v)
    third, fourth = _turn(p, c, d, a, u, v), _turn(p, c, d, b, u, v)
    if first * second < 0 and third * fourth < 0:
        return True
    return (
        (first == 0 and _between(p, a, b, c, u, v))
        or (second == 0 and _between(p, a, b, d, u, v))
        or (third == 0 and _between(p, c, d, a, u, v))
        or (fourth == 0 and _between(p, c, d, b, u, v))
    )


@compiled()
def _flat_axes(p: np.ndarray, a: int, b: int, c: int) -> tuple[int, int]:
    """The two coordinates on which the triangle's shadow is largest."""
    best, u, v = -1, 0, 1
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        area = abs(
            (p[b, j] - p[a, j]) * (p[c, k] - p[a, k]) - (p[b, k] - p[a, k]) * (p[c, j] - p[a, j])
        )
        if area > best:
            best, u, v = area, j, k
    return u, v


@compiled()
def _segment_in_plane(p: np.ndarray, a: int, b: int, c: int, d: int, e: int) -> bool:
    """Segment de against triangle abc when all five points lie in one plane."""
    u, v = _flat_axes(p, a, b, c)
    if (
        _segments_touch(p, d, e, a, b, u, v)
        or _segments_touch(p, d, e, b, c, u, v)
        or _segments_touch(p, d, e, c, a, u, v)
    ):
        return True
    first, second, third = _turn(p, a, b, d, u, v), _turn(p, b, c, d, u, v), _turn(p, c, a, d, u, v)
    return (first > 0 and second > 0 and third > 0) or (first < 0 and second < 0 and third < 0)


@compiled()
def segment_touches_triangle(p: np.ndarray, a: int, b: int, c: int, d: int, e: int) -> bool:
    """Whether the segment from point d to e meets the triangle (a, b, c).

    Parameters
    ----------
    p : (N, 3) int64 array
        Points, differences below 2**20.
    a, b, c, d, e : int
        Rows of ``p``.
    """
    start, end = _side(p, a, b, c, d), _side(p, a, b, c, e)
    if start * end > 0:
        return False
    if start == 0 and end == 0:
        return _segment_in_plane(p, a, b, c, d, e)
    first, second, third = _side(p, d, e, a, b), _side(p, d, e, b, c), _side(p, d, e, c, a)
    return (first >= 0 and second >= 0 and third >= 0) or (
        first <= 0 and second <= 0 and third <= 0
    )


@compiled()
def triangles_touch(p: np.ndarray) -> bool:
    """Whether the triangle of the first three points meets that of the last three.

    Parameters
    ----------
    p : (6, 3) int64 array
        Differences below 2**20.
    """
    first, second, third = _side(p, 0, 1, 2, 3), _side(p, 0, 1, 2, 4), _side(p, 0, 1, 2, 5)
    if first != 0 and first == second and second == third:
        return False
    first, second, third = _side(p, 3, 4, 5, 0), _side(p, 3, 4, 5, 1), _side(p, 3, 4, 5, 2)
    if first != 0 and first == second and second == third:
        return False
    for i in range(3):
        if segment_touches_triangle(p, 0, 1, 2, 3 + i, 3 + (i + 1) % 3):
            return True
        if segment_touches_triangle(p, 3, 4, 5, i, (i + 1) % 3):
            return True
    return False
