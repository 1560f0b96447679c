"""
Relays a stream from its source to the client: every streamed answer takes this path.

The source is the provider, a peer or the bypass; the converter translates it for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol

from aiohttp import web

from ccproxy.convert.stream_converter import StreamConverter
from ccproxy.errors import Problem
from ccproxy.worker.server.error_response import unexpected
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import noted, shutdown_as_problem

LINGER_SECONDS = 0.1
"""How long to wait for the end of a body once the answer in it has ended."""


class StreamSource(Protocol):
    """The stream of a provider or a peer."""

    @property
    def is_over(self) -> bool:
        """Whether the stream was read to its end."""

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """
        Pass every piece to *take*; return True at the end, or False as soon as *take* does.

        Raises:
            Problem: If the stream is interrupted or stalls.
        """


Fallback = Callable[[ClientRequest, Problem, EventStream], Awaitable[web.StreamResponse | Problem]]
"""Returns a fallback's answer in place of a problem, or else the problem to report to the
client."""


async def relay_stream(
    request: ClientRequest,
    events: EventStream,
    converter: StreamConverter,
    source: AbstractAsyncContextManager[StreamSource],
    *,
    fallback: Fallback | None = None,
) -> web.StreamResponse:
    """
    Open *source* and answer with its stream, converted by *converter*.

    Before the first content, *fallback* may answer in place of a failure; otherwise the failure has
    an HTTP status, unless a ping was sent. After that, a failure is one error event.

    Raises:
        Problem: If the stream fails before the client has received anything.
    """
    try:
        with shutdown_as_problem(request.worker):
            async with source as stream:
                await _relay(stream, events, converter)
                if converter.ended and not converter.stopped:
                    await events.finish()
                    await read_to_end(stream)
    except Problem as problem:
        result = problem if fallback is None else await fallback(request, problem, events)
        if not isinstance(result, Problem):
            return result
        if not events.is_open:
            raise result  # noqa: B904 - it may be the same problem
        await events.write(converter.fail(noted(request, result)))
    except ConnectionError:  # the client has disconnected
        raise
    except Exception as error:
        # Before the first byte, the connection answers the error with a status; see `handle_error`.
        if not events.is_open:
            raise
        await events.write(converter.fail(noted(request, unexpected(error))))
    return await events.finish()


async def _relay(source: StreamSource, events: EventStream, converter: StreamConverter) -> None:
    """
    Send every piece as it arrives, without a task switch in between.

    Only if the client falls behind does this task wait for it, and the source for this task.
    """

    def take(data: bytes) -> bool:
        converted = converter.feed(data)
        keeps_up = events.send(converted) if converted else True
        return keeps_up and not converter.ended

    while not await source.pump(take) and not converter.ended:
        await events.drain()
    if rest := converter.close():
        await events.write(rest)


async def read_to_end(source: StreamSource) -> None:
    """
    Read the rest of the body after the answer in it has ended.

    The connection can then be reused. Some providers keep the body open for a while.
    """
    if source.is_over:
        return
    with suppress(TimeoutError, Problem):
        async with asyncio.timeout(LINGER_SECONDS):
            await source.pump(lambda _: True)
