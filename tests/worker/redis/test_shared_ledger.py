"""Sums of budgets over replicas in a real Redis: exact, even after an outage or data loss."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import pytest
import structlog

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import Problem
from ccproxy.store.spending_ledger import Periods, SpendingLedger, Spent
from ccproxy.store.usage_totals import Used
from ccproxy.worker.accounting.budget_guard import BudgetGuard
from ccproxy.worker.accounting.payers import confirm
from ccproxy.worker.redis import redis_backend as redis_backend_module
from ccproxy.worker.redis.connection import RedisError
from tests.fleet import eventually
from tests.messages import prompt
from tests.provider import completion
from tests.worker.redis.replica import Replica

A, B = b"a" * 16, b"b" * 16
TODAY = Periods(739_000, 24_323)
TOMORROW = Periods(739_001, 24_323)
NEXT_MONTH = Periods(739_031, 24_324)
CLIENT = "ccp_alice_0123456789"

# Common rules for ledgers in files and in Redis.


class Files:
    """Two processes on one host."""

    def __init__(self, folder):
        clock = count()
        self.ledgers = [
            SpendingLedger(folder / "x.budgets", clock=lambda: float(next(clock))) for _ in range(2)
        ]

    async def settled(self):
        """Do nothing, because files are shared immediately."""

    async def close(self, index):
        self.ledgers[index].close()


class Replicas:
    """Two processes on different hosts."""

    def __init__(self, replicas):
        self.replicas = replicas
        self.ledgers = [replica.ledger for replica in replicas]

    async def settled(self):
        for replica in (*self.replicas, *self.replicas):
            if replica.backend.is_shared:
                await replica.settled()

    async def close(self, index):
        await self.replicas[index].backend.close()


@pytest.fixture(params=["files", "redis"])
async def pair(request, tmp_path, fleet):
    """Two processes that share a ledger."""
    if request.param == "files":
        yield Files(tmp_path)
    else:
        yield Replicas(await fleet(2))


async def test_amounts_add_up_per_day_and_month(pair):
    one, two = pair.ledgers
    for ledger in pair.ledgers:
        for name in (A, B):
            ledger.reserve(name, 0)  # like budgets
    one.add(A, 5, TODAY)
    two.add(A, 7, TODAY)
    two.add(B, 1, TODAY)
    await pair.settled()
    for ledger in (one, two):
        assert ledger.spent(A, TODAY) == Spent(12, 12, 0)
        assert ledger.spent(B, TODAY) == Spent(1, 1, 0)
    one.add(A, 1, TOMORROW)
    await pair.settled()
    for ledger in (one, two):
        assert ledger.spent(A, TOMORROW) == Spent(1, 13, 0)
        assert ledger.spent(A, NEXT_MONTH) == Spent(0, 0, 0)


async def test_reservations_are_shared_and_end_with_their_process(pair):
    one, two = pair.ledgers
    one.reserve(A, 100)
    two.reserve(A, 10)
    await pair.settled()
    assert two.spent(A, TODAY) == Spent(0, 0, 110, own=10)
    two.reserve(A, -10)
    await pair.settled()
    assert one.spent(A, TODAY) == Spent(0, 0, 100, own=100)
    one.add(A, 3, TODAY)
    await pair.settled()
    await pair.close(0)
    await pair.settled()
    assert two.spent(A, TODAY) == Spent(3, 3, 0)


# Budgets.


def guard_of(replica, budget):
    environ = {
        "PROVIDER_BASE_URL": "https://api.example.com/v1",
        "PROVIDER_API_KEY": "sk-provider-0123456789",
        "BUDGET": budget,
    }
    config = load_worker(
        None, entry=Entry(port=1, env_file=Path("x.env"), label="Test"), environ=environ
    )
    return BudgetGuard(
        config,
        replica.ledger,
        secret=b"secret",
        price=lambda _: None,
        log=structlog.get_logger(),
        wall=lambda: 1_700_000_000.0,
    )


def used(tokens):
    return Used(
        at=0.0, label="Test", model="m", key="", failed=False, input=tokens, output=0, cached=0,
        written=0, reasoning=0, ttfb=0.1, cost=None,
    )  # fmt: skip


async def admit(guard):
    """Admit one request; return its reservation, or None if a budget does not allow it."""
    try:
        reservation = guard.reserve(None, model="m", size=4000)
    except Problem:
        return None
    try:
        await confirm([(guard, reservation)])
    except Problem:
        guard.settle(reservation, None)
        return None
    return reservation


async def spend_all(guard):
    """Return the number of successive requests of 2,000 tokens that are admitted."""
    served = 0
    while (reservation := await admit(guard)) is not None:
        guard.settle(reservation, used(2000))
        served += 1
    return served


async def refuse():
    raise RedisError("cut off")


async def test_only_concurrent_requests_within_the_budget_are_admitted(fleet):
    replicas = await fleet(3)
    guards = [guard_of(replica, "10k tokens/day") for replica in replicas]
    # Each reserves 2,000 tokens; the last one may exceed the budget.
    admitted = await asyncio.gather(*[admit(guard) for guard in guards for _ in range(4)])
    assert sum(reservation is not None for reservation in admitted) == 5
    for guard, reservation in zip([one for one in guards for _ in range(4)], admitted, strict=True):
        if reservation is not None:
            guard.settle(reservation, used(1900))
    for replica in (*replicas, *replicas):
        await replica.settled()
    assert [guard.rows()[0].spent for guard in guards] == [9500] * 3
    assert [guard.rows()[0].reserved for guard in guards] == [0] * 3
    assert await admit(guards[1]) is not None
    assert await admit(guards[2]) is None


async def test_replicas_share_a_budget_without_additional_calls(
    start, provider, own_server, monkeypatch
):
    monkeypatch.setattr(redis_backend_module, "SETTLE_SECONDS", 1000.0)
    settings = {
        "REDIS_URL": f"unix://{own_server.path}",
        "REDIS_TIMEOUT": "5",
        "BUDGET": "50k tokens/day",
        "ANTHROPIC_API_KEY": CLIENT,
        "CLIENT_BUDGETS": "*=100k tokens/month",
    }
    one, two = [await start(**settings) for _ in range(2)]
    provider.script(completion("Hello", usage={"prompt_tokens": 4000, "completion_tokens": 1000}))
    headers = {"x-api-key": CLIENT}
    backend = one.worker.shared_pool.backend
    backend._task.cancel()  # no beats

    async def settle():
        if backend._late is not None:
            backend._send()
        await eventually(lambda: backend._sent is None and backend._late is None)

    async def ask():
        """Return the calls of a request."""
        await settle()
        before = backend.calls
        assert (await one.ask(prompt(), headers=headers)).status == 200
        await eventually(lambda: not one.worker.requests.tasks)
        await settle()
        return backend.calls - before

    await ask()  # which must first detect the other replica
    assert await ask() == 2
    monkeypatch.undo()
    backend._task = asyncio.ensure_future(backend._maintain())
    for proxy in (two, two, two, two, two, two, two, one):
        assert (await proxy.ask(prompt(), headers=headers)).status == 200
        await eventually(lambda: not two.worker.requests.tasks and not one.worker.requests.tasks)
    for proxy in (one, two):
        await eventually(lambda proxy=proxy: proxy.worker.payers.rows()[1].spent == 50_000)
        usage = proxy.worker.shared_pool.usage
        await eventually(lambda usage=usage: usage.as_json()["today"]["requests"] == 10)
        async with proxy.get("/v1/stats", headers=headers) as answer:
            sums = (await answer.json())["all_replicas"]
        assert sums["today"] == sums["month"]
        assert sums["today"]["input_tokens"] == 40_000
    refused = await two.ask(prompt(), headers=headers)
    assert (refused.status, refused.error["type"]) == (429, "billing_error")
    text = own_server.ask("HGETALL", "ccproxy:1:{test}:sums")
    assert CLIENT.encode() not in text
    assert CLIENT[-4:].encode() not in text


async def test_without_redis_each_replica_has_its_share_of_the_rest(fleet, own_server):
    replicas = await fleet(2, server=own_server)
    guards = [guard_of(replica, "20k tokens/day") for replica in replicas]
    guards[0].settle(await admit(guards[0]), used(4000))
    for replica in (*replicas, *replicas):
        await replica.settled()
    own_server.stop()
    for replica in replicas:
        await replica.backend.commit(lambda state: None, undo=lambda _: None)
        await eventually(lambda backend=replica.backend: not backend.is_shared)
    served = [await spend_all(guard) for guard in guards]
    assert served == [4, 4], "16,000 were left, 8,000 for each"

    own_server.start()
    for replica in replicas:
        await replica.until_shared()
    for replica in (*replicas, *replicas):
        await replica.settled()
    assert [guard.rows()[0].spent for guard in guards] == [20_000, 20_000]
    assert [await admit(guard) for guard in guards] == [None, None]


async def test_a_disconnected_replica_spends_at_most_its_share(fleet):
    replicas = await fleet(2)
    guards = [guard_of(replica, "20k tokens/day") for replica in replicas]
    for replica in (*replicas, *replicas):
        await replica.settled()
    backend = replicas[0].backend
    connect, backend._connect = backend._connect, refuse
    backend._leave("cut off")
    assert [await spend_all(guard) for guard in guards] == [5, 10]
    backend._connect = connect
    await replicas[0].until_shared()
    for replica in (*replicas, *replicas):
        await replica.settled()
    assert [guard.rows()[0].spent for guard in guards] == [30_000, 30_000]
    assert [await admit(guard) for guard in guards] == [None, None]


async def test_a_replica_that_was_never_connected_has_its_share(own_server):
    own_server.stop()
    replica = Replica(own_server, "alone", replicas=4)
    replica.backend.start()
    guard = guard_of(replica, "8k tokens/day")
    assert await admit(guard) is not None
    assert await admit(guard) is None
    await replica.backend.close()


async def test_sums_lost_by_redis_are_restored(fleet, own_server):
    one, two = await fleet(2, server=own_server)
    one.ledger.add(A, 100, TODAY)
    await one.settled()
    await two.settled()  # has read 100
    one.ledger.add(A, 10, TODAY)
    await one.settled()  # has read 110
    own_server.ask("FLUSHALL")
    one.ledger.add(A, 1, TODAY)
    two.ledger.add(A, 2, TODAY)
    for replica in (two, one, two, one, two):
        await replica.until_shared()
        await replica.settled()
    assert one.ledger.spent(A, TODAY) == two.ledger.spent(A, TODAY) == Spent(113, 113, 0)


async def test_a_batch_whose_reply_was_lost_is_counted_once(fleet):
    (one,) = await fleet()
    one.ledger.add(A, 5, TODAY)
    one.backend._call(b"", -1, {}, lambda _reply: None)
    one.backend._connection.close()  # Redis has the batch, but its reply is lost
    one.backend._leave("the reply was lost")
    one.ledger.add(A, 2, TODAY)
    await one.until_shared()
    await one.settled()
    assert one.ledger.spent(A, TODAY) == Spent(7, 7, 0)


async def test_a_command_that_arrives_late_changes_nothing(fleet, monkeypatch):
    one, two = await fleet(2)
    sent, write = [], one.backend._write
    monkeypatch.setattr(
        one.backend,
        "_write",
        lambda command, on_reply: write(sent.append(command) or command, on_reply),
    )
    for amount in (5, 2):
        one.ledger.reserve(A, amount)
        one.ledger.add(A, amount, TODAY)
        await one.settled()
    for command in sent:
        await one.backend._connection.call(*command)
    two.ledger.reserve(A, 0)
    await two.settled()
    assert two.ledger.spent(A, TODAY) == Spent(7, 7, 7)


async def test_the_reservation_of_a_killed_replica_expires(fleet):
    one, two = await fleet(2)
    one.ledger.reserve(A, 100)
    await one.settled()
    await one.settled()
    one.ledger.refresh()
    one.backend._call(b"", -1, {}, lambda _reply: None, life=0.001)
    one.backend._task.cancel()  # it renews no leases
    await one.backend._connection.call("PING")
    await asyncio.sleep(0.002)  # by Redis's clock
    two.ledger.reserve(A, 0)
    await two.settled()
    assert two.ledger.spent(A, TODAY).reserved == 0
