"""One worker's view of a pool and a ledger in Redis, without the worker."""

from __future__ import annotations

import asyncio

from ccproxy.keys.key_state import KeyLimits
from ccproxy.keys.pool import KeyPool
from ccproxy.keys.verdict import WORKS
from ccproxy.worker.redis.redis_queue import RedisQueue
from tests.redis_server import redis_backend

KEYS = ("sk-first-key-aaaa", "sk-second-key-bbbb", "sk-third-key-cccc")


class Replica:
    """The pool and the ledger of one worker in Redis."""

    def __init__(self, server, prefix, *, keys=KEYS, limits=None, **options):
        limits = limits or KeyLimits()
        self.backend = redis_backend(server.address, prefix=prefix, limits=limits, **options)
        self.ledger = self.backend.ledger(f"{prefix}:sums")
        clock = self.backend.clock
        self.pool = KeyPool(
            keys,
            provider="Kimi",
            clock=clock,
            wall=clock,
            jitter=lambda: 0.5,
            limits=limits,
            backend=self.backend,
        )
        assert self.pool.counts()[1] == len(keys)
        self.queue = RedisQueue(self.pool, self.backend, wait_seconds=20)

    async def join(self):
        self.backend.start()
        await self.backend.has_contact.wait()
        return self

    async def ask(self, verdict=WORKS):
        """Lease a key for a request with *verdict*; return the key's id."""
        lease = await self.queue.take("big")
        self.pool.settle(lease, verdict)
        self.queue.release(lease)
        return lease.id

    async def has_no_lease(self):
        """Return True if a request would have to wait."""

        def take(state):
            return self.pool.take_in_line(state, "big", (), None)

        return await self.backend.commit(take, undo=lambda _: None) is None

    async def settled(self):
        """Wait until nothing is pending, and read the commits of other replicas."""
        self.ledger.refresh()
        await self.backend.commit(lambda state: None, undo=lambda _: None)

    async def until_shared(self):
        while not self.backend.is_shared:
            await asyncio.sleep(0.01)

    async def uses(self):
        """Return the uses of each key on this day."""
        await self.settled()
        return [key.used_today for key in self.pool.snapshot()]

    async def in_flight(self):
        """Return the requests in flight of each key."""
        await self.settled()
        return [key.in_flight for key in self.pool.snapshot()]
