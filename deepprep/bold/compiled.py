"""numba's compiler with a disk cache that never stands in the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """``numba.njit`` with ``cache=True`` where a cache folder can be written.

    A read-only installation without a writable user cache makes numba refuse to decorate;
    the function is then compiled anew in every process, which costs seconds and nothing else.

    Parameters
    ----------
    **options
        Passed to :func:`numba.njit` (``parallel``, ``fastmath`` ...).
    """

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate


class threads:  # noqa: N801 - reads as a statement: ``with threads(2):``
    """Bound numba's threads inside a ``with`` block; ``None`` leaves them as they are."""

    def __init__(self, n_threads: int | None) -> None:
        self._wanted = n_threads

    def __enter__(self) -> int:
        self._before = numba.get_num_threads()
        if self._wanted is not None:
            numba.set_num_threads(max(1, min(int(self._wanted), numba.config.NUMBA_NUM_THREADS)))
        return numba.get_num_threads()

    def __exit__(self, *exc: object) -> None:
        numba.set_num_threads(self._before)
