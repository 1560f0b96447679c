"""
Waiting for a key that is at its limit of requests in flight: in turn, not for long, not too many.

Theory of operation: whoever finds the pool full waits in line; every permit that comes back wakes
the first. One who is woken and then cancelled passes the wake on, so that none is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection

from ccproxy.errors import Problem
from ccproxy.keys.pool import KeyPool, Lease

LONGEST_LINE = 100
LONGEST_WAIT = 30.0


class Turns:
    """Takes keys out of a pool, waiting where only permits are missing."""

    def __init__(self, pool: KeyPool, *, longest_wait: float = LONGEST_WAIT) -> None:
        self._pool = pool
        self._longest_wait = longest_wait
        self._line: deque[asyncio.Future[None]] = deque()
        pool.on_release = self._wake

    async def take(self, model: str, *, skip: Collection[str] = ()) -> Lease:
        """
        Return a key as soon as there is one.

        Raises:
            Problem: If there is none and waiting would not help, or was too long.

        """
        if not self._line:
            try:
                return self._pool.take(model, skip=skip)
            except Problem:
                if not self._pool.is_full(model, skip=skip):
                    raise
        if len(self._line) >= LONGEST_LINE:
            raise self._pool.refusal(model, skip=skip)
        try:
            async with asyncio.timeout(self._longest_wait):
                return await self._wait(model, skip)
        except TimeoutError:
            raise self._pool.refusal(model, skip=skip) from None

    def give_back(self, lease: Lease) -> None:
        """Give a permit back and let the next one in line have it."""
        self._pool.release(lease)
        self._wake()

    async def _wait(self, model: str, skip: Collection[str]) -> Lease:
        at_the_end = True
        while True:
            await self._stand(at_the_end=at_the_end)
            try:
                lease = self._pool.take(model, skip=skip)
            except Problem:
                if not self._pool.is_full(model, skip=skip):
                    self._wake()
                    raise
            else:
                self._wake()  # several permits may have come back at once, in other processes
                return lease
            at_the_end = False

    async def _stand(self, *, at_the_end: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._line.append if at_the_end else self._line.appendleft)(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._line:
                self._line.remove(turn)
            elif turn.done() and not turn.cancelled():
                self._wake()
            raise

    def _wake(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
