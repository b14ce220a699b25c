"""Compilation without a cache folder, and bounded threads."""

import numba
import pytest

from deepprep.image import compiled as module


def test_read_only_installation_compiles_without_cache(monkeypatch):
    asked = []

    def njit(cache=False, **options):
        asked.append((cache, options))
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(module.numba, "njit", njit)
    double = module.compiled(fastmath=True)(lambda x: 2 * x)
    assert double(4) == 8
    assert asked == [(True, {"fastmath": True}), (False, {"fastmath": True})]


@pytest.mark.parametrize(("asked", "expected"), [(1, 1), (0, 1), (10_000, None)])
def test_threads_are_bounded_and_given_back(asked, expected):
    before = numba.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS
    with module.threads(asked) as used:
        assert used == numba.get_num_threads() == (expected or most)
    assert numba.get_num_threads() == before


def test_each_keeps_the_order_and_raises_what_was_raised():
    assert module.each(lambda x, y: x - y, range(9), range(0, 18, 2)) == [-x for x in range(9)]
    assert module.each(len, []) == []
    with pytest.raises(ZeroDivisionError):
        module.each(lambda x: 1 / x, [1, 0, 2])
