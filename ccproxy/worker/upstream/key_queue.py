"""
A bounded first-come, first-served queue for keys at their limit of requests in flight.

A request that finds every key in use waits. Each released key wakes the first waiter. A waiter that
is cancelled after it was woken wakes the next one, so that no wake-up is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Protocol

from ccproxy.errors import Problem
from ccproxy.keys.pool import KeyPool, Lease
from ccproxy.keys.sessions import SessionRef

MAX_WAITING = 100
WAIT_SECONDS = 30.0


class LeaseQueue(Protocol):
    """Leases the keys of a pool."""

    async def take(
        self, model: str, *, skip: Collection[str] = (), session: SessionRef | None = None
    ) -> Lease:
        """Lease a key as soon as one is free; raise Problem if none is usable."""

    def release(self, lease: Lease) -> None:
        """Release a leased key."""


class KeyQueue:
    """Leases keys from a pool, waiting only while every usable key is in use."""

    def __init__(self, pool: KeyPool, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self._pool = pool
        self._wait_seconds = wait_seconds
        self._waiters: deque[asyncio.Future[None]] = deque()
        pool.on_release = self._wake

    async def take(
        self, model: str, *, skip: Collection[str] = (), session: SessionRef | None = None
    ) -> Lease:
        """
        Lease a key as soon as one is free.

        Raises:
            Problem: If no key is free and waiting would not help or took too long.
        """
        if not self._waiters:
            try:
                return self._pool.take(model, skip=skip, session=session)
            except Problem:
                if not self._pool.is_full(model, skip=skip):
                    raise
        if len(self._waiters) >= MAX_WAITING:
            raise self._pool.refusal(model, skip=skip)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await self._wait(model, skip, session)
        except TimeoutError:
            raise self._pool.refusal(model, skip=skip) from None

    def release(self, lease: Lease) -> None:
        """Release a key and wake the first waiter."""
        self._pool.release(lease)
        self._wake()

    async def _wait(self, model: str, skip: Collection[str], session: SessionRef | None) -> Lease:
        at_end = True
        while True:
            await self._enqueue(at_end=at_end)
            try:
                lease = self._pool.take(model, skip=skip, session=session)
            except Problem:
                if not self._pool.is_full(model, skip=skip):
                    self._wake()
                    raise
            else:
                self._wake()  # several keys may have been released at once, in other processes
                return lease
            at_end = False

    async def _enqueue(self, *, at_end: bool) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._waiters.append if at_end else self._waiters.appendleft)(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled():
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
