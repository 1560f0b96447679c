"""
Leases keys from a pool in Redis, waiting while all of them are in use.

The requests of one replica wait in order of arrival, and only the first one polls. The replicas
share one queue: a key that becomes free goes to the replica with the longest-waiting first request,
so that a busy replica cannot starve the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from ccproxy.keys.backends.backend import PoolState
from ccproxy.keys.pool import KeyPool, Lease
from ccproxy.keys.sessions import SessionRef
from ccproxy.worker.redis.redis_backend import RedisBackend
from ccproxy.worker.upstream.key_queue import MAX_WAITING

POLL_SECONDS = 0.03
"""Interval at which the first waiting request polls."""


class RedisQueue:
    """Leases the keys of a pool, first come, first served."""

    def __init__(self, pool: KeyPool, backend: RedisBackend, *, wait_seconds: float) -> None:
        self._pool = pool
        self._backend = backend
        self._wait_seconds = wait_seconds
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()
        self._waiting = 0

    async def take(
        self, model: str, *, skip: Collection[str] = (), session: SessionRef | None = None
    ) -> Lease:
        """
        Lease a key as soon as one is available.

        Raises:
            Problem: If no key is available, and waiting would not help or took too long.
        """
        if not self._waiting and (lease := await self._ask(model, skip, session)) is not None:
            return lease
        if self._waiting >= MAX_WAITING:
            raise self._pool.refusal(model, skip=skip)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds), self._turn:
                return await self._wait(model, skip, session)
        except TimeoutError:
            raise self._pool.refusal(model, skip=skip) from None
        finally:
            self._waiting -= 1

    def release(self, lease: Lease) -> None:
        """Release a key; the first waiting request polls at once."""
        self._pool.release(lease)
        self._released.set()

    async def _wait(self, model: str, skip: Collection[str], session: SessionRef | None) -> Lease:
        while True:
            self._released.clear()
            if (lease := await self._ask(model, skip, session)) is not None:
                return lease
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._released.wait()

    async def _ask(
        self, model: str, skip: Collection[str], session: SessionRef | None
    ) -> Lease | None:
        """Return a lease, or None if the request must wait for a key that is in use."""

        def take(state: PoolState) -> Lease | None:
            return self._pool.take_in_line(state, model, skip, session)

        lease = await self._backend.commit(take, undo=self._give_back)
        if lease is not None:
            self._backend.note_start(lease)
            self._pool.on_change()
        return lease

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self.release(lease)
