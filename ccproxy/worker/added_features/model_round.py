"""Requests to a provider of any dialect, as sources of Messages events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

from ccproxy.convert.added_features.server_tool_loop import ServerToolLoop, add_usage
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.worker.server import direct_mode
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import converted, sent
from ccproxy.worker.server.stream_relay import StreamSource, read_to_end
from ccproxy.worker.upstream.provider_client import ProviderAnswer
from ccproxy.worker.upstream.recorded_answer import RecordedAnswer

Take = Callable[[bytes], bool]
"""Accepts bytes of a stream; returns False to pause the source."""


class AnswerSource(StreamSource, Protocol):
    """A source that reports the usage of its answer."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The token counts so far."""

    @property
    def stop_reason(self) -> str | None:
        """The stop reason, or None before the end of the answer."""

    async def close(self) -> None:
        """Discard the rest of the answer."""


def model_exchange(request: ClientRequest, body: bytes) -> Exchange | Passthrough:
    """Return the exchange for a request with *body* to this worker's provider."""
    if request.worker.config.api == "messages":
        return direct_mode.passthrough(request, body)
    return converted(request, body)


def model_answer(
    request: ClientRequest, exchange: Exchange | Passthrough
) -> AbstractAsyncContextManager[ProviderAnswer | RecordedAnswer]:
    """Return a context manager that sends the request of *exchange* and yields the answer."""
    if isinstance(exchange, Exchange):
        return sent(request, exchange)
    return direct_mode.sent_directly(request, exchange)


class ModelRound:
    """A streamed request and its answer; call `pump` until it returns True."""

    is_over = True

    def __init__(self, request: ClientRequest, body: bytes) -> None:
        self._request = request
        self._body = body
        self._stack = AsyncExitStack()
        self._source: StreamSource | None = None
        self.exchange = model_exchange(request, body)

    @property
    def usage(self) -> Mapping[str, Any]:
        """The token counts so far."""
        return self.exchange.usage

    @property
    def stop_reason(self) -> str | None:
        """The stop reason, or None before the end of the answer."""
        return self.exchange.stop_reason

    async def _open(self) -> StreamSource:
        exchange = self.exchange
        answer = await self._stack.enter_async_context(model_answer(self._request, exchange))
        if isinstance(exchange, Exchange) or answer.is_stream:
            return answer
        return direct_mode.MessageAsStream(await answer.read())

    async def pump(self, take: Take) -> bool:
        """Pass the client's events to *take*. Call again after *take* has paused."""
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
        """Discard the rest of the answer."""
        await self._stack.aclose()


class ModelRounds(ABC):
    """A source that alternates between the model and a tool run by ccproxy."""

    is_over = True

    def __init__(self, request: ClientRequest, loop: ServerToolLoop) -> None:
        self._request = request
        self._loop = loop
        self._round: AnswerSource | None = None
        self._ended_usage: Mapping[str, Any] = {}
        self.stop_reason: str | None = None

    @abstractmethod
    def _open(self, body: bytes) -> AnswerSource:
        """Return the source for the answer to a round's request *body*."""

    @abstractmethod
    async def _search(self) -> bytes:
        """Run the searches of the round, and return their result blocks."""

    @property
    def usage(self) -> Mapping[str, Any]:
        """The token counts of all rounds so far."""
        return add_usage(self._ended_usage, self._round.usage if self._round else {})

    async def pump(self, take: Take) -> bool:
        """Run the rounds. Call again after *take* has paused."""
        loop = self._loop

        def feed(data: bytes) -> bool:
            events = loop.feed(data)
            return take(events) if events else True

        while True:
            model = self._round = self._round or self._open(loop.body)
            if not await model.pump(feed):
                return False
            loop.end_round()
            await self.close()
            continues = loop.needs_round
            if loop.searches:
                take(await self._search())
            if not continues:
                break
        take(loop.close())
        return True

    async def close(self) -> None:
        """Discard the rest of the round's answer."""
        self._ended_usage = self.usage
        model, self._round = self._round, None
        if model is not None:
            self.stop_reason = model.stop_reason
            await model.close()
