"""One request to the provider as a source of Messages events, for providers of any dialect."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.worker.server import direct_mode
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import converted, sent
from ccproxy.worker.server.stream_relay import StreamSource, read_to_end

Take = Callable[[bytes], bool]
"""Takes a piece of a stream; returns False if it wants no more for now."""


class ModelRound:
    """A streamed request and its answer; `open` it, then `pump` until that returns True."""

    is_over = True

    def __init__(self, request: ClientRequest, body: bytes) -> None:
        self._request = request
        self._body = body
        self._stack = AsyncExitStack()
        self._source: StreamSource | None = None
        self.exchange: Exchange | Passthrough
        if request.worker.config.api == "messages":
            self.exchange = direct_mode.passthrough(request, body)
        else:
            self.exchange = converted(request, body)

    async def _open(self) -> StreamSource:
        exchange, enter = self.exchange, self._stack.enter_async_context
        if isinstance(exchange, Exchange):
            return await enter(sent(self._request, exchange))
        answer = await enter(direct_mode.sent_directly(self._request, exchange))
        return answer if answer.is_stream else direct_mode.MessageAsStream(await answer.read())

    async def pump(self, take: Take) -> bool:
        """Pass the client's events to *take*; resumes where *take* stopped."""
        exchange = self.exchange
        source = self._source = self._source or await self._open()

        def feed(data: bytes) -> bool:
            converted = exchange.feed(data)
            keeps_up = take(converted) if converted else True
            return keeps_up and not exchange.ended

        if not await source.pump(feed) and not exchange.ended:
            return False
        if rest := exchange.close():
            take(rest)
        if exchange.ended and not exchange.stopped:
            await read_to_end(source)
        return True

    async def close(self) -> None:
        """Drop the rest of the answer."""
        await self._stack.aclose()
