"""Arrival time of a front that starts at a surface, slower where the image is dark."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled
from deepprep.surface.priority_queue import pop, push


def march_front(
    start_mm: np.ndarray, speed: np.ndarray, spacing_mm: float, reach: float
) -> np.ndarray:
    """First-order fast marching (Sethian 1996) outward from given times.

    Parameters
    ----------
    start_mm : (X, Y, Z) float array
        Arrival times that are known; infinity elsewhere; minus infinity where the front must not
        go.
    speed : (X, Y, Z) float array
        Positive; 1 makes time a distance in mm.
    spacing_mm : float
    reach : float
        Latest time wanted.

    Returns
    -------
    (X, Y, Z) float32 array
        Times; infinity where the front did not come.
    """
    return _march(
        start_mm.astype(np.float32), speed.astype(np.float32), np.float32(spacing_mm),
        np.float32(reach),
    )  # fmt: skip


@compiled()
def _solve(a: float, b: float, c: float, cost: float) -> float:
    """Upwind time from the smallest neighbour time along each axis."""
    if a > b:
        a, b = b, a
    if b > c:
        b, c = c, b
    if a > b:
        a, b = b, a
    t = a + cost
    if t > b:
        t = 0.5 * (a + b + np.sqrt(max(2 * cost * cost - (a - b) ** 2, 0.0)))
        if t > c:
            s = a + b + c
            t = (s + np.sqrt(max(s * s - 3 * (a * a + b * b + c * c - cost * cost), 0.0))) / 3
    return t


@compiled()
def _march(start: np.ndarray, speed: np.ndarray, spacing: float, reach: float) -> np.ndarray:
    nx, ny, nz = start.shape
    times = start.copy().ravel()
    flow = speed.ravel()
    known = np.isfinite(times)
    closed = times == -np.inf
    strides = np.array([ny * nz, nz, 1])
    capacity = 1 << 20
    keys = np.empty(capacity, dtype=np.float32)
    items = np.empty(capacity, dtype=np.int64)
    n = 0
    done = closed.copy()
    for at in range(len(times)):
        if known[at]:
            i, j, k = at // (ny * nz), (at // nz) % ny, at % nz
            border = False
            for axis in range(3):
                size = nx if axis == 0 else ny if axis == 1 else nz
                place = i if axis == 0 else j if axis == 1 else k
                if place > 0 and times[at - strides[axis]] == np.inf:
                    border = True
                if place < size - 1 and times[at + strides[axis]] == np.inf:
                    border = True
            if border:
                if n == capacity:
                    capacity *= 2
                    keys, items = _grown(keys, items, capacity)
                n = push(keys, items, n, times[at], at)
            else:
                done[at] = True
    best = np.empty(3)
    while n > 0:
        at, time = items[0], keys[0]
        n = pop(keys, items, n)
        if done[at] or time > reach:
            continue
        done[at] = True
        i, j, k = at // (ny * nz), (at // nz) % ny, at % nz
        for axis in range(3):
            size = nx if axis == 0 else ny if axis == 1 else nz
            place = i if axis == 0 else j if axis == 1 else k
            for way in (-1, 1):
                if place + way < 0 or place + way >= size:
                    continue
                to = at + way * strides[axis]
                if done[to] or known[to]:
                    continue
                best[:] = np.inf
                ti, tj, tk = to // (ny * nz), (to // nz) % ny, to % nz
                for other in range(3):
                    size2 = nx if other == 0 else ny if other == 1 else nz
                    place2 = ti if other == 0 else tj if other == 1 else tk
                    if place2 > 0:
                        m = to - strides[other]
                        if (done[m] or known[m]) and not closed[m]:
                            best[other] = min(best[other], times[m])
                    if place2 < size2 - 1:
                        m = to + strides[other]
                        if (done[m] or known[m]) and not closed[m]:
                            best[other] = min(best[other], times[m])
                new = _solve(best[0], best[1], best[2], spacing / flow[to])
                if new < times[to]:
                    times[to] = new
                    if n == capacity:
                        capacity *= 2
                        keys, items = _grown(keys, items, capacity)
                    n = push(keys, items, n, new, to)
    for at in range(len(times)):
        if not done[at] and not known[at]:
            times[at] = np.inf
    return times.reshape(start.shape)


@compiled()
def _grown(keys: np.ndarray, items: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    k = np.empty(capacity, dtype=np.float32)
    i = np.empty(capacity, dtype=np.int64)
    k[: len(keys)] = keys
    i[: len(items)] = items
    return k, i
