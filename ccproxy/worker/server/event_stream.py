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
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.protocol.sse import PING
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import StreamedAnswer
from ccproxy.worker.upstream.answer import Answer

STALL_SECONDS = 300.0
LINGER_SECONDS = 0.1

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_OURS = frozenset(("request-id", *(name.lower() for name in _HEADERS)))


class EventStream:
    """
    The answer to one streaming request; use it in `async with`, then return `finish()`.

    `between_events` says whether a ping may be written now: whoever writes half an event sets it
    to False until the rest is written.
    """

    def __init__(self, request: ClientRequest, *, commit_after: float, ping: bytes = PING) -> None:
        self.between_events = True
        self._request = request
        self._response = StreamedAnswer(request_id=request.record.request_id)
        self._response.headers.update(_HEADERS)
        self._ping = ping
        self._silence = request.worker.ping_seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._commit_at = self._last + commit_after if commit_after > 0 else float("inf")
        self._waiting = False
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

    def send(self, data: bytes) -> bool:
        """
        Send *data*, a part of the answer, at once; False: the client does not keep up.

        Then `drain` must be awaited. Raises ConnectionError if the client has left.
        """
        record = self._request.record
        record.first_byte()
        if record.keeps:
            record.hear(data)
        self._send(data)
        return not self._response.is_full

    async def drain(self) -> None:
        """Wait while the client does not take what it was sent."""
        self._waiting = True
        await self._response.drain()
        self._waiting = False

    async def write(self, data: bytes) -> None:
        """Send *data* and wait while the client does not take it."""
        if not self.send(data):
            await self.drain()

    async def finish(self) -> web.StreamResponse:
        """End the body; the result is what the endpoint returns."""
        await self._response.prepare(self._request)
        self._waiting = True
        await self._response.write_eof()
        self._waiting = False
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

    def _send(self, data: bytes) -> None:
        self._last = self._loop.time()
        if not self._response.prepared:
            if self._request.worker.draining:
                self._response.force_close()
            self._response.begin(self._request)
        self._response.send(data)

    # What happens while nothing is written...

    def _tick(self) -> None:
        now = self._loop.time()
        if self._waiting and now - self._last >= STALL_SECONDS:
            self._cut_off()
            return
        if not self._waiting and self.between_events and now >= self._due():
            with suppress(ConnectionError):  # the client's leaving is told to the endpoint's task
                self._send(self._ping)
        # Never later than in one silence, since what is due changes with every write.
        soon, late = now + self._silence / 10, now + self._silence
        self._timer = self._loop.call_at(min(max(self._due(), soon), late), self._tick)

    def _due(self) -> float:
        """Return when the next ping is due if nothing else is written."""
        return self._last + self._silence if self.is_open else self._commit_at

    def _cut_off(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


async def relay(
    answer: Answer,
    events: EventStream,
    convert: Callable[[bytes], bytes],
    *,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """
    Send the client what *convert* makes of every piece of the *answer*, until that has ended.

    It does so while the pieces come in, without a task in between; only when the client does not
    keep up the task waits for it, and the provider for the task.
    """

    def take(data: bytes) -> bool:
        written = convert(data)
        keeps_up = events.send(written) if written else True
        return keeps_up and not until()

    while not await answer.pump(take) and not until():
        await events.drain()


async def let_end(answer: Answer) -> None:
    """
    Read on behind the end of an answer, where only the body's own end should be left.

    A connection can be used again when its body was read to the end, and some providers keep
    theirs open for a while.
    """
    if answer.is_over:
        return
    with suppress(TimeoutError, Problem):
        async with asyncio.timeout(LINGER_SECONDS):
            await answer.pump(lambda _: True)
