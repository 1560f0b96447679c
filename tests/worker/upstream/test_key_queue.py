"""Waiting for a lease: in turn and bounded; no lease and no wake-up is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from ccproxy.errors import Problem
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.pool import KeyPool
from ccproxy.worker.upstream import key_queue as turns
from ccproxy.worker.upstream.key_queue import KeyQueue


def pool_of(keys=1, in_flight=1):
    return KeyPool(
        [f"sk-key-number-{n}" for n in range(keys)],
        provider="Test",
        clock=lambda: 100.0,
        wall=lambda: 1_700_000_000.0,
        jitter=lambda: 0.5,
        limits=KeyLimits(in_flight=in_flight),
    )


def in_flight(pool):
    return [key.in_flight for key in pool.snapshot()]


async def settle_down():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_request_waits_while_a_key_is_free():
    line = KeyQueue(pool_of(keys=2))
    first, second = await line.take("m"), await line.take("m")
    assert {first.id, second.id} == {"k1", "k2"}


async def test_waiting_requests_are_served_in_order():
    pool = pool_of()
    line = KeyQueue(pool)
    lease = await line.take("m")
    served = []

    async def wait(name):
        lease = await line.take("m")
        served.append(name)
        line.release(lease)

    tasks = []
    for name in range(5):
        tasks.append(asyncio.create_task(wait(name)))
        await settle_down()
    line.release(lease)
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]
    assert in_flight(pool) == [0]


async def test_a_new_request_does_not_overtake():
    line = KeyQueue(pool_of())
    lease = await line.take("m")
    first = asyncio.create_task(line.take("m"))
    await settle_down()
    line.release(lease)
    newcomer = asyncio.create_task(line.take("m"))
    await settle_down()
    assert first.done()
    assert not newcomer.done()
    line.release(await first)
    line.release(await newcomer)


async def test_the_queue_is_limited_to_a_hundred():
    line = KeyQueue(pool_of())
    lease = await line.take("m")
    waiting = [asyncio.create_task(line.take("m")) for _ in range(turns.MAX_WAITING)]
    await settle_down()
    with pytest.raises(Problem) as caught:
        await line.take("m")
    assert (caught.value.status, caught.value.retry_after) == (429, 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    line.release(lease)


async def test_the_wait_ends_with_the_reason():
    line = KeyQueue(pool_of(), wait_seconds=0.01)
    await line.take("m")
    with pytest.raises(Problem) as caught:
        await line.take("m")
    assert caught.value.status == 429
    assert "in flight" in caught.value.message


async def test_a_waiter_that_is_cancelled_when_woken_wakes_the_next():
    pool = pool_of()
    line = KeyQueue(pool)
    lease = await line.take("m")
    first = asyncio.create_task(line.take("m"))
    second = asyncio.create_task(line.take("m"))
    await settle_down()
    line.release(lease)  # wakes the first ...
    first.cancel()  # ... which is cancelled before it gets the lease
    line.release(await asyncio.wait_for(second, 30))
    assert in_flight(pool) == [0]


async def test_only_leased_keys_are_waited_for():
    pool = pool_of(keys=2)
    for key in pool.snapshot():
        pool.disable(key.id)
    with pytest.raises(Problem):
        await KeyQueue(pool).take("m")


async def test_40_requests_at_once_never_hold_more_than_4_leases():
    pool = pool_of(keys=2, in_flight=2)
    line = KeyQueue(pool)
    most = 0

    async def work():
        nonlocal most
        lease = await line.take("m")
        most = max(most, *in_flight(pool))
        await asyncio.sleep(0)
        line.release(lease)

    await asyncio.gather(*(work() for _ in range(40)))
    assert most == 2
    assert in_flight(pool) == [0, 0]


async def test_leases_are_returned_after_10_000_random_cancels():
    pool = pool_of(keys=3, in_flight=2)
    line = KeyQueue(pool)
    chance = random.Random(1)

    async def work(rounds):
        lease = await line.take("m")
        try:
            for _ in range(rounds):
                await asyncio.sleep(0)
        finally:
            line.release(lease)

    running: set[asyncio.Task[None]] = set()
    for _ in range(10_000):
        task = asyncio.create_task(work(chance.randrange(4)))
        running.add(task)
        task.add_done_callback(running.discard)
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        if running and chance.random() < 0.5:
            chance.choice(list(running)).cancel()
        while len(running) > 60:
            await asyncio.sleep(0)
    await asyncio.gather(*running, return_exceptions=True)
    assert in_flight(pool) == [0, 0, 0]
    line.release(await asyncio.wait_for(line.take("m"), 30))
