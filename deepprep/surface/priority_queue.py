"""A binary heap in two arrays, for compiled front propagation: smallest key first."""

from __future__ import annotations

import numpy as np

from deepprep.image.compiled import compiled


@compiled()
def push(keys: np.ndarray, items: np.ndarray, n: int, key: float, item: int) -> int:
    """Add an entry to ``n``; the new number of entries."""
    hole = n
    while hole > 0:
        parent = (hole - 1) >> 1
        if keys[parent] <= key:
            break
        keys[hole], items[hole] = keys[parent], items[parent]
        hole = parent
    keys[hole], items[hole] = key, item
    return n + 1


@compiled()
def pop(keys: np.ndarray, items: np.ndarray, n: int) -> int:
    """Take away the first of ``n`` entries, which the caller has read; the new number."""
    n -= 1
    key, item = keys[n], items[n]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= n:
            break
        if child + 1 < n and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[hole], items[hole] = keys[child], items[child]
        hole = child
    keys[hole], items[hole] = key, item
    return n
