"""
An event stream to the client: begun late, kept alive, written once per read.

The status line waits for the first bytes of the answer, so that a failure before them still has
an HTTP status of its own. When `commit_after` seconds pass without any, the stream begins with a
ping all the same, and a later failure is an event.

Silence is filled with pings, only between events: Claude Code gives up after 300 s without a byte.
A client that reads nothing for as long is cut off; until then `write` waits for it, and so does
the reading from the provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from types import TracebackType

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.protocol.sse import PING
from ccproxy.worker.http import ClientRequest

STALL_SECONDS = 300.0
LINGER_SECONDS = 0.1

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_OURS = frozenset(name.lower() for name in _HEADERS)


class EventStream:
    """
    The answer to one streaming request; use it in `async with`, then return `finish()`.

    `between_events` says whether a ping may be written now: whoever writes half an event sets it
    to False until the rest is written.
    """

    def __init__(self, request: ClientRequest, *, commit_after: float, ping: bytes = PING) -> None:
        self.between_events = True
        self._request = request
        self._response = web.StreamResponse(headers=_HEADERS)
        self._ping = ping
        self._silence = request.worker.ping_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._commit_at = self._last + commit_after if commit_after > 0 else float("inf")
        self._writing = False
        self._aside: asyncio.Task[None] | None = None
        first = min(self._commit_at, self._last + self._silence)
        self._timer = self._loop.call_at(first, self._tick)

    @property
    def is_open(self) -> bool:
        """Whether the status line has gone out."""
        return self._response.prepared

    def add_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Add the provider's headers to the answer's, unless they have gone out already."""
        if not self.is_open:
            self._response.headers.update(
                (name, value) for name, value in headers if name.lower() not in _OURS
            )

    async def write(self, data: bytes) -> None:
        """Send *data*, a part of the answer, and wait while the client does not take it."""
        record = self._request.record
        record.first_byte()
        if record.keeps:
            record.hear(data)
        await self._write(data)

    async def finish(self) -> web.StreamResponse:
        """End the body; the result is what the endpoint returns."""
        await self._response.write_eof()
        return self._response

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._aside is not None:
            self._aside.cancel()

    async def _write(self, data: bytes) -> None:
        self._last = self._loop.time()
        self._writing = True
        if not self._response.prepared:
            await self._open()
        await self._response.write(data)
        self._writing = False

    async def _open(self) -> None:
        if self._request.worker.draining:
            self._response.force_close()
        await self._response.prepare(self._request)

    # What happens while nothing is written...

    def _tick(self) -> None:
        now = self._loop.time()
        if not self._writing and self.between_events and now >= self._due():
            self._aside = self._loop.create_task(self._write_ping())
        elif self._writing and now - self._last >= STALL_SECONDS:
            self._cut_off()
            return
        # Never later than in one silence, since what is due changes with every write.
        soon, late = now + self._silence / 10, now + self._silence
        self._timer = self._loop.call_at(min(max(self._due(), soon), late), self._tick)

    def _due(self) -> float:
        """Return when the next ping is due if nothing else is written."""
        return self._last + self._silence if self.is_open else self._commit_at

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def _write_ping(self) -> None:
        # The client's leaving is told to the endpoint's own task.
        with suppress(ConnectionError):
            await self._write(self._ping)


async def let_end(chunks: AsyncIterator[bytes]) -> None:
    """
    Read on behind the end of an answer, where only the body's own end should be left.

    A connection can be used again when its body was read to the end, and some providers keep
    theirs open for a while.
    """
    with suppress(TimeoutError, Problem):
        async with asyncio.timeout(LINGER_SECONDS):
            async for _ in chunks:
                pass
