"""The relay of a response in the client's own dialect, from a peer or in bypass mode."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp

from ccproxy.convert.direct.passthrough import WholeEvents
from ccproxy.errors import Problem
from ccproxy.worker.server.client_dialect import MESSAGES, ClientDialect
from ccproxy.worker.upstream.connections import explain
from ccproxy.worker.upstream.provider_answer import MAX_WHOLE

SSE = "text/event-stream"


class ForwardedStream:
    """The body of *response*; *broken* begins the error message if the body is interrupted."""

    def __init__(self, response: aiohttp.ClientResponse, broken: str) -> None:
        self._response = response
        self._broken = broken

    @property
    def is_over(self) -> bool:
        """Whether the whole body has been read."""
        return self._response.content.at_eof()

    async def read(self) -> bytes:
        """
        Wait for data and return all that has arrived; empty at the end.

        Raises:
            Problem: If it is interrupted.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise self._problem(error) from error

    async def read_whole(self) -> bytes:
        """Return the whole body; raise Problem if it is interrupted or too large."""
        whole = bytearray()
        while data := await self.read():
            whole += data
            if len(whole) > MAX_WHOLE:
                raise Problem("api_error", f"{self._broken}: it is too large", status=502)
        return bytes(whole)

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Pass every piece to *take*; return True at the end, False if *take* returns False."""
        while data := await self.read():
            if not take(data):
                return False
        return True

    def _problem(self, error: Exception) -> Problem:
        return Problem("overloaded_error", f"{self._broken}: {explain(error)}")


class ForwardedEvents:
    """Relays whole events unchanged, so that an error event can follow any of them."""

    ended = False
    """Always False, so that the stream is read to its end."""
    stopped = False

    def __init__(self, request_id: str, dialect: ClientDialect = MESSAGES) -> None:
        self._request_id = request_id
        self._dialect = dialect
        self._events = WholeEvents()

    def feed(self, data: bytes) -> bytes:
        """Return the events that *data* completes."""
        return self._events.feed(data)

    def close(self) -> bytes:
        """Return the remaining bytes."""
        return self._events.rest()

    def fail(self, problem: Problem) -> bytes:
        """Return an error event."""
        return self._dialect.error_event(problem, self._request_id)
