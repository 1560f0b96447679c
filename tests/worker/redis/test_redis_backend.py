"""Replicas that share a pool's state in a real Redis, and replicas without Redis."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.errors import Problem
from ccproxy.keys.backends import partition
from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.verdict import Effect, Next, Verdict
from ccproxy.worker.redis.server_clock import ServerClock
from tests.fleet import eventually, pause
from tests.redis_server import change_something
from tests.worker.redis.replica import KEYS, Replica

LIMITED = Verdict(
    effect=Effect.COOLDOWN,
    next=Next.OTHER_KEY,
    cause=Cause.RATE_LIMIT,
    status=429,
    seconds=100.0,
    is_per_model=True,
)

# One state.


async def test_turns_are_taken_across_replicas(fleet):
    one, two = await fleet(2)
    assert [await replica.ask() for replica in (one, one, two, one, two, two)] == [
        "k1", "k2", "k3", "k1", "k2", "k3",
    ]  # fmt: skip


async def test_a_cooldown_applies_immediately_to_all_replicas(fleet):
    one, two = await fleet(2)
    assert await one.ask(LIMITED) == "k1"
    assert {await two.ask() for _ in range(4)} == {"k2", "k3"}


async def test_actions_of_the_user_apply_to_all_replicas(fleet):
    one, two = await fleet(2)
    one.pool.disable("k2")
    await one.settled()
    assert {await two.ask() for _ in range(4)} == {"k1", "k3"}


async def test_many_requests_at_all_replicas_never_exceed_a_limit(fleet):
    replicas = await fleet(3, limits=KeyLimits(in_flight=2, per_day=40))
    in_use, most = Counter(), Counter()

    async def client(replica):
        while True:
            try:
                lease = await replica.queue.take("big")
            except Problem:
                return
            in_use[lease.id] += 1
            most[lease.id] = max(most[lease.id], in_use[lease.id])
            await asyncio.sleep(0.001)
            in_use[lease.id] -= 1
            replica.queue.release(lease)

    await asyncio.gather(*[client(replica) for replica in replicas for _ in range(6)])
    assert most == {"k1": 2, "k2": 2, "k3": 2}
    assert await replicas[0].uses() == [40, 40, 40]
    assert sum(replica.backend.errors for replica in replicas) == 0


async def test_a_quiet_replica_is_not_starved(fleet):
    busy, quiet = await fleet(2, keys=KEYS[:1], limits=KeyLimits(in_flight=1))
    served = Counter()

    async def client(replica):
        while served["quiet"] < 5:
            lease = await replica.queue.take("big")
            served["quiet" if replica is quiet else "busy"] += 1
            await asyncio.sleep(0.001)
            replica.queue.release(lease)

    await asyncio.gather(client(quiet), *[client(busy) for _ in range(8)])
    assert served["busy"] < 60


async def test_a_replica_that_is_always_too_late_gets_a_key(fleet, monkeypatch):
    fast, slow = await fleet(2)
    for replica in (fast, slow):
        replica.backend._task.cancel()  # no beats
    tasks, write = [], slow.backend._write

    async def write_too_late(*call):
        fast.backend.run(change_something)
        fast.backend._send()
        await eventually(lambda: fast.backend._sent is None)
        write(*call)

    def write_later(*call):
        tasks.append(asyncio.ensure_future(write_too_late(*call)))

    await slow.settled()
    before = slow.backend.repeated_calls
    monkeypatch.setattr(slow.backend, "_write", write_later)
    assert await slow.queue.take("big")
    # Once, or more often if the machine is so busy that a turn of 250 ms expires.
    assert 1 <= slow.backend.repeated_calls - before <= 3
    assert slow.backend.is_shared
    monkeypatch.undo()


async def test_a_request_costs_two_calls(fleet):
    (replica,) = await fleet()
    replica.backend._task.cancel()  # no beats
    await replica.settled()
    before = replica.backend.calls
    for _ in range(10):
        await replica.ask()
        await replica.settled()
    assert replica.backend.calls - before == 20


async def test_a_lease_confirmed_after_its_request_was_cancelled_is_returned(fleet):
    (replica,) = await fleet(limits=KeyLimits(in_flight=1))
    asking = asyncio.ensure_future(replica.queue.take("big"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await replica.settled()
    assert await replica.in_flight() == [0, 0, 0]


async def test_a_replica_that_exits_returns_its_leases(fleet):
    one, two = await fleet(2)
    await one.queue.take("big")
    await one.backend.close()
    assert await two.in_flight() == [0, 0, 0]


async def test_the_leases_of_a_killed_replica_expire(fleet):
    one, two = await fleet(2)
    await one.queue.take("big")
    one.backend._task.cancel()  # it renews no leases
    await two.backend._connection.call("ZADD", two.backend._keys[3], 1, one.backend.process)
    await two.settled()
    while two.pool.snapshot()[0].in_flight:
        await asyncio.sleep(0.01)


# Without Redis.


async def test_a_replica_continues_with_its_share_without_redis(fleet, own_server):
    one, two = await fleet(2, server=own_server, keys=KEYS[:1], limits=KeyLimits(per_day=10))
    for replica in (one, two):
        await replica.settled()
    assert [await replica.ask() for replica in (one, two)] == ["k1", "k1"]
    for replica in (one, two):
        await replica.settled()
    own_server.stop()
    served = 0
    for replica in (one, two):
        while True:
            try:
                served += bool(await replica.ask())
            except Problem:
                break
        assert (replica.backend.is_shared, replica.backend.reason != "") == (False, True)
    assert served == 8

    own_server.start()
    for replica in (one, two):
        await replica.until_shared()
    for replica in (one, two):
        with pytest.raises(Problem, match="per day"):
            await replica.ask()
        assert await replica.uses() == [10]


async def test_a_request_waits_for_a_silent_redis_no_longer_than_the_deadline(fleet, own_server):
    (replica,) = await fleet(server=own_server, timeout=0.05)
    pause(own_server.process.pid)
    try:
        assert await replica.ask() == "k1"
        assert "no reply within 50 ms" in replica.backend.reason
    finally:
        own_server.process.send_signal(signal.SIGCONT)
    await replica.until_shared()
    assert (await replica.uses())[0] >= 1
    assert await replica.in_flight() == [0, 0, 0]


@pytest.mark.parametrize(
    ("handover", "leased"),
    [
        pytest.param(3600.0, 0, id="at first none of a key in full use"),
        pytest.param(0.0, 1, id="then the share of the replica"),
    ],
)
async def test_requests_that_wait_at_the_deadline_get(
    handover, leased, fleet, own_server, monkeypatch
):
    monkeypatch.setattr(partition, "HANDOVER_SECONDS", handover)
    options = {"keys": KEYS[:1], "limits": KeyLimits(in_flight=2)}
    busy, stalled = await fleet(2, server=own_server, **options)
    leases = [await busy.queue.take("big") for _ in range(2)]
    await stalled.settled()
    stalled.backend._timeout = 0.05
    pause(own_server.process.pid)
    try:
        asking = [asyncio.ensure_future(stalled.queue.take("big")) for _ in range(3)]
        while stalled.backend.is_shared:
            await asyncio.sleep(0.01)
        assert [key.in_flight for key in stalled.pool.snapshot()] == [leased]
        assert await stalled.has_no_lease()
    finally:
        own_server.process.send_signal(signal.SIGCONT)
    stalled.backend._timeout = 5.0
    for replica in (stalled, busy):
        await replica.until_shared()
        assert await replica.in_flight() == [2 + leased]
    for lease in leases:
        busy.queue.release(lease)
    for served in asyncio.as_completed(asking):
        stalled.queue.release(await served)
    assert await stalled.in_flight() == await busy.in_flight() == [0]


async def test_leases_and_cooldowns_survive_the_loss_of_all_redis_data(fleet, own_server):
    one, two = await fleet(2, server=own_server)
    lease = await one.queue.take("big")
    await two.ask(LIMITED)
    await one.settled()
    lost = one.backend._epoch
    own_server.stop()
    own_server.start()
    for replica in (one, two):
        while replica.backend._epoch == lost:
            await asyncio.sleep(0.01)
        await replica.until_shared()
    await two.settled()
    states = [(key.in_flight, key.state) for key in two.pool.snapshot()]
    assert states == [(1, "ready"), (0, "cooldown"), (0, "ready")]
    one.queue.release(lease)
    await one.settled()
    assert await two.in_flight() == [0, 0, 0]


async def test_a_flushed_redis_is_detected(fleet, own_server):
    (replica,) = await fleet(server=own_server)
    await replica.ask()
    own_server.ask("FLUSHALL")
    await replica.ask()
    await replica.until_shared()
    assert sum(await replica.uses()) == 2


async def test_a_full_redis_is_treated_as_unavailable(fleet, own_server):
    (replica,) = await fleet(server=own_server)
    own_server.ask("CONFIG", "SET", "maxmemory", 1)
    await replica.ask()
    assert "OOM" in replica.backend.reason
    own_server.ask("CONFIG", "SET", "maxmemory", 0)
    await replica.until_shared()
    assert sum(await replica.uses()) == 1


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("SCRIPT", "FLUSH"), id="the script is unknown"),
        pytest.param(("CLIENT", "KILL", "TYPE", "normal"), id="the connection is closed"),
    ],
)
async def test_no_request_notices_that(fleet, own_server, command):
    (replica,) = await fleet(server=own_server)
    await replica.ask()
    own_server.ask(*command)
    await replica.ask()
    await replica.until_shared()
    assert sum(await replica.uses()) == 2


async def test_foreign_content_is_never_trusted(fleet, own_server):
    one, two = await fleet(2, server=own_server)
    await one.ask()
    await one.settled()
    key = two.backend._keys[1]
    own_server.ask("HSET", key, "common", "rubbish")
    assert await two.ask()
    assert "not from this version" in two.backend.reason


async def test_a_new_replica_is_alone_with_its_part_of_the_limits(own_server):
    own_server.stop()
    replica = Replica(own_server, "alone", limits=KeyLimits(in_flight=4), replicas=4)
    replica.backend.start()
    for _ in range(3):
        assert await replica.queue.take("big")
    asking = asyncio.ensure_future(replica.queue.take("big"))
    await asyncio.sleep(0.05)
    assert not asking.done()
    asking.cancel()
    await replica.backend.close()


async def test_redis_contains_no_key(fleet, own_server):
    (replica,) = await fleet(server=own_server)
    await replica.ask(LIMITED)
    await replica.settled()
    text = b"".join(own_server.ask("HGETALL", key) for key in replica.backend._keys[:2])
    assert b"k:" in text
    assert not [key for key in KEYS if key[3:].encode() in text]


def test_the_clock_prefers_short_round_trips():
    clock = ServerClock()
    clock.note(1000.0, 10.0, 10.2)
    exact = clock._offset
    clock.note(2000.0, 11.0, 12.0)
    assert clock._offset == exact
    clock.note(2000.0, 21.0, 22.0)
    assert clock._offset == 2000.0 - 21.5
