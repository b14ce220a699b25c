import asyncio

import pytest

from deepprep.execution.resources import Resources
from deepprep.execution.slots import MAX_OVERTAKEN, Grant, Slots


def run(coroutine):
    return asyncio.run(coroutine)


async def settle() -> None:
    """Let everything that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_tasks_share_the_stock_and_wait_when_it_is_used_up():
    async def scenario():
        slots = Slots(n_cpus=2, mem_gb=4)
        first = await slots.acquire(Resources(1, 1.0))
        second = await slots.acquire(Resources(1, 1.0))
        third = asyncio.create_task(slots.acquire(Resources(1, 1.0)))
        await settle()
        assert not third.done()
        slots.release(first)
        assert await third == Grant(1, 1.0, None)
        slots.release(second)

    run(scenario())


def test_memory_alone_makes_a_task_wait():
    async def scenario():
        slots = Slots(n_cpus=8, mem_gb=4)
        first = await slots.acquire(Resources(1, 3.0))
        second = asyncio.create_task(slots.acquire(Resources(1, 1.5)))
        await settle()
        assert not second.done()
        slots.release(first)
        await second

    run(scenario())


def test_a_task_bigger_than_the_run_runs_alone():
    async def scenario():
        slots = Slots(n_cpus=2, mem_gb=4)
        small = await slots.acquire(Resources(1, 0.5))
        giant = asyncio.create_task(slots.acquire(Resources(16, 100.0)))
        await settle()
        assert not giant.done()
        slots.release(small)
        grant = await giant
        assert grant == Grant(2, 4.0, None)
        other = asyncio.create_task(slots.acquire(Resources(1, 0.1)))
        await settle()
        assert not other.done()
        slots.release(grant)
        await other

    run(scenario())


def test_clamp_says_what_it_reduced():
    slots = Slots(n_cpus=2, mem_gb=4, gpus=["0"])
    assert slots.clamp(Resources(2, 4.0, gpu=True)) == (Resources(2, 4.0, gpu=True), [])
    reduced, notes = slots.clamp(Resources(3, 5.0))
    assert reduced == Resources(2, 4.0)
    assert len(notes) == 2


def test_priority_comes_before_arrival():
    async def scenario():
        slots = Slots(n_cpus=1, mem_gb=4)
        grant = await slots.acquire(Resources())
        order = []

        async def want(name, priority):
            got = await slots.acquire(Resources(), priority)
            order.append(name)
            slots.release(got)

        tasks = [
            asyncio.create_task(want(name, (p,))) for name, p in [("c", 2), ("a", 0), ("b", 0)]
        ]
        await settle()
        slots.release(grant)
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c"]

    run(scenario())


def test_a_big_task_is_overtaken_but_not_starved():
    async def scenario():
        slots = Slots(n_cpus=2, mem_gb=4)
        held = [await slots.acquire(Resources(1, 0.1))]
        big = asyncio.create_task(slots.acquire(Resources(2, 0.1)))
        await settle()
        for _ in range(MAX_OVERTAKEN):
            held.append(await asyncio.wait_for(slots.acquire(Resources(1, 0.1)), 1))
            slots.release(held.pop(0))  # one is always held: the big one cannot start
        late = asyncio.create_task(slots.acquire(Resources(1, 0.1)))
        await settle()
        assert not late.done(), "now all wait for the big one"
        slots.release(held.pop())
        slots.release(await asyncio.wait_for(big, 1))
        await asyncio.wait_for(late, 1)

    run(scenario())


def test_a_cancelled_wait_takes_nothing():
    async def scenario():
        slots = Slots(n_cpus=1, mem_gb=4)
        grant = await slots.acquire(Resources())
        waiting = asyncio.create_task(slots.acquire(Resources()))
        await settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        slots.release(grant)
        await asyncio.wait_for(slots.acquire(Resources()), 1)

    run(scenario())


def test_a_wait_cancelled_just_after_it_was_served_gives_back():
    async def scenario():
        slots = Slots(n_cpus=1, mem_gb=4)
        grant = await slots.acquire(Resources())
        waiting = asyncio.create_task(slots.acquire(Resources()))
        await settle()
        slots.release(grant)  # serves it, but it has not woken up
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(slots.acquire(Resources()), 1)

    run(scenario())


def test_a_gpu_name_given_twice_is_two_slots():
    async def scenario():
        slots = Slots(n_cpus=8, mem_gb=4, gpus=["0", "0"])
        want = Resources(1, 0.1, gpu=True)
        grants = [await slots.acquire(want), await slots.acquire(want)]
        assert [grant.gpu for grant in grants] == ["0", "0"]
        third = asyncio.create_task(slots.acquire(want))
        await settle()
        assert not third.done()
        third.cancel()

    run(scenario())


def test_an_empty_stock_is_refused():
    with pytest.raises(ValueError):
        Slots(n_cpus=0, mem_gb=4)
    with pytest.raises(ValueError):
        Slots(n_cpus=1, mem_gb=0)
