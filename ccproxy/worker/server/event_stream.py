"""
An event stream to the client: started late, kept alive, with one write per read.

The status line is sent with the first content, so that an earlier failure still has an HTTP status.
If there is no content within `commit_after` seconds, the stream starts with a ping, and a later
failure becomes an error event.

During a silence, pings are sent between events: Claude Code reports a stall after 20 s without a
byte and times out after 300 s. While the client does not read, writing to it and reading from the
provider both wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import StreamedResponse

PING_SECONDS = 15.0
"""Silence after which an open stream gets a keep-alive ping."""

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
_OWN_HEADERS = frozenset(("request-id", "x-request-id", *(name.lower() for name in _HEADERS)))


class EventStream:
    """
    The response to one streaming request; use it in `async with`, then return `finish()`.

    If *commit_after* is 0, the status is sent with the first content. If *pings* is False, no pings
    are sent while the provider is silent. Set `is_between_events` to False while an event is
    partly written.
    """

    def __init__(self, request: ClientRequest, *, commit_after: float, pings: bool = True) -> None:
        self.is_between_events = True
        self._request = request
        self._response = StreamedResponse(request_id=request.record.request_id)
        self._response.headers.update(_HEADERS)
        self._pings = pings
        self._ping_seconds = PING_SECONDS
        self._loop = asyncio.get_running_loop()
        self._last_write = self._loop.time()
        self._commit_at = self._last_write + commit_after if commit_after > 0 else float("inf")
        first = min(self._commit_at, self._last_write + self._ping_seconds)
        self._timer = self._loop.call_at(first, self._tick)

    @property
    def is_open(self) -> bool:
        """Whether the status line was sent."""
        return self._response.prepared

    def add_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Add the provider's headers to the response, unless its headers have already been sent."""
        if not self.is_open:
            self._response.headers.update(
                (name, value) for name, value in headers if name.lower() not in _OWN_HEADERS
            )

    def send(self, data: bytes) -> bool:
        """
        Send *data*, a part of the answer, at once; return False if the client does not keep up.

        In that case, await `drain`. Raises ConnectionError if the client has disconnected.
        """
        record = self._request.record
        record.write_chunk()
        if record.bodies is not None:
            record.bodies.add(data)
        self._write(data)
        return not self._response.is_full

    async def drain(self) -> None:
        """Wait until the client has read most of the data."""
        await self._response.drain()

    async def write(self, data: bytes) -> None:
        """Send *data* and wait until the client keeps up."""
        if not self.send(data):
            await self.drain()

    async def finish(self) -> web.StreamResponse:
        """End the body; return the response for the endpoint to return."""
        self._pings = False
        await self._response.prepare(self._request)
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

    def _write(self, data: bytes) -> None:
        self._last_write = self._loop.time()
        if not self._response.prepared:
            if self._request.worker.requests.draining:
                self._response.force_close()
            self._response.bind(self._request)
        self._response.send(data)

    # Keep-alive pings.

    def _tick(self) -> None:
        now = self._loop.time()
        may_ping = self._pings and self.is_between_events and not self._response.is_full
        if may_ping and now >= self._ping_due():
            with suppress(ConnectionError):  # a disconnect cancels the endpoint's task
                self._write(self._request.dialect.ping())
                self._request.record.pings += 1
        # Check again within one interval, because every write postpones the next ping.
        soonest, latest = now + self._ping_seconds / 10, now + self._ping_seconds
        self._timer = self._loop.call_at(min(max(self._ping_due(), soonest), latest), self._tick)

    def _ping_due(self) -> float:
        return self._last_write + self._ping_seconds if self.is_open else self._commit_at
