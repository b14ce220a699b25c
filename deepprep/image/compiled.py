"""numba's compiler with a disk cache that never stands in the way, and its number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numba

T = TypeVar("T")


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


@contextmanager
def threads(n_threads: int | None) -> Iterator[int]:
    """Bound numba's threads inside a ``with`` block; ``None`` leaves them as they are.

    Yields the number of threads in use.
    """
    before = numba.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if n_threads is not None:
        numba.set_num_threads(max(1, min(int(n_threads), most)))
    try:
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(before)


def each(function: Callable[..., T], *items: Iterable[Any]) -> list[T]:
    """``[function(*one) for one in zip(*items)]``, as many at once as numba may use threads.

    For work that NumPy and SciPy do without holding Python's lock.
    """
    with ThreadPoolExecutor(numba.get_num_threads()) as pool:
        return list(pool.map(function, *items))
