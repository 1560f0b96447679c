"""
Web searches that ccproxy answers: Claude Code's WebSearch without a model, others with rounds.

Without a search engine WebSearch gets the API's error block and a text that says what to set; the
model is not asked, because it would answer from memory under the name of search results.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from msgspec import Raw

from ccproxy.convert.abilities.search_answer import USE_PREFIX, side_message
from ccproxy.convert.abilities.search_loop import PendingSearch, SearchLoop
from ccproxy.convert.abilities.search_results import SearchOutcome, failed
from ccproxy.convert.abilities.search_tool import SEARCH_TYPE, SearchTool, search_tool, side_query
from ccproxy.convert.chat.answer import fold
from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.messages import read_request
from ccproxy.worker.abilities.search_client import SearchTarget
from ccproxy.worker.peers.forward import fall_back, route_headers
from ccproxy.worker.peers.peer_stream import ForwardedEvents
from ccproxy.worker.server import direct_mode
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeResponse
from ccproxy.worker.server.provider_exchange import (
    ModelExchange,
    begin_exchange,
    converted,
    end_exchange,
    passed_key,
    sent,
)
from ccproxy.worker.server.stream_relay import StreamSource, relay_stream

PARALLEL_SEARCHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedSearch:
    """A request whose searches ccproxy answers."""

    body: bytes = field(repr=False)
    tool: SearchTool
    target: SearchTarget | None
    query: str | None = field(repr=False)
    """The query of Claude Code's WebSearch; None: a model decides what to search for."""
    exchange: ModelExchange


def requested_search(request: ClientRequest, exchange: Exchange) -> RequestedSearch | None:
    """Return the search of a converted request; None if the provider's model searches itself."""
    found = search_tool(exchange.request.tools)
    if found is None:
        return None
    tool, is_only = found
    target = _target(request, exchange.model)
    query = side_query(exchange.request) if is_only else None
    if target is None and (query is None or exchange.own_search):
        return None
    if query is None and exchange.own_search:
        return None
    return RequestedSearch(
        body=exchange.asked, tool=tool, target=target, query=query, exchange=exchange
    )


def requested_direct_search(request: ClientRequest, body: bytes) -> RequestedSearch | None:
    """Return the search of a request in direct mode, if the user has named who searches."""
    abilities = request.worker.config.abilities
    named = abilities.search is not None or abilities.always_own_search
    if not named or SEARCH_TYPE.encode() not in body:
        return None
    found = search_tool((fields_of(body) or {}).get("tools", Raw(b"[]")))
    if found is None:
        return None
    exchange = direct_mode.passthrough(request, body)
    target = _target(request, exchange.model)
    if target is None:
        return None
    tool, is_only = found
    query = side_query(read_request(body)) if is_only else None
    return RequestedSearch(body=body, tool=tool, target=target, query=query, exchange=exchange)


def _target(request: ClientRequest, model: str) -> SearchTarget | None:
    worker = request.worker
    key = passed_key(request) or worker.pool.peek(model) or ""
    return worker.search.target(model, key)


async def answer_search(request: ClientRequest, search: RequestedSearch) -> web.StreamResponse:
    """Answer a request whose searches ccproxy makes."""
    begin_exchange(request, search.exchange)
    turn = _turn(request, search)
    if not search.exchange.streams:
        try:
            async with turn as source:
                pieces: list[bytes] = []

                def keep(data: bytes) -> bool:
                    pieces.append(data)
                    return True

                await source.pump(keep)
        except Problem as problem:
            if (response := await fall_back(request, problem)) is None:
                raise
            return response
        headers = {"Content-Type": JSON} | dict(route_headers(request))
        body = request.dialect.whole(b"".join(pieces))
        return WholeResponse(body, request_id=request.record.request_id, headers=headers)
    async with EventStream(request, commit_after=request.worker.config.early_commit) as events:
        events.add_headers(route_headers(request))
        forwarded = ForwardedEvents(request.record.request_id)
        converter = request.dialect.stream(forwarded)
        return await relay_stream(request, events, converter, turn, fallback=fall_back)


@asynccontextmanager
async def _turn(request: ClientRequest, search: RequestedSearch) -> AsyncIterator[StreamSource]:
    if search.query is not None:
        yield _SideSearch(request, search, search.query)
        return
    async with AsyncExitStack() as stack:
        yield _SearchRounds(request, search, stack)


async def _find(request: ClientRequest, search: RequestedSearch, query: str) -> SearchOutcome:
    worker = request.worker
    if search.target is None:
        env_file = worker.config.env_file
        return failed(not_configured(worker.config.label, str(env_file) if env_file else ""))
    started = time.monotonic()
    outcome = await worker.search.search(search.target, query, search.tool)
    log = worker.logs.events.warning if outcome.error else worker.logs.events.info
    log(
        "search.finished",
        request=request.record.request_id,
        backend=search.target.backend.title,
        results=len(outcome.results),
        ms=round(1000 * (time.monotonic() - started)),
        **({"error": outcome.error, "reason": outcome.reason} if outcome.error else {}),
    )
    return outcome


def not_configured(label: str, env_file: str) -> str:
    """Return the text for a request whose provider has no search."""
    where = f" in {env_file}" if env_file else ""
    return (
        f"Web search is not available: {label} has no search engine. Set WEB_SEARCH{where} to "
        "searxng:URL, or to brave, tavily, exa or serper with WEB_SEARCH_KEY. Do not answer from "
        "memory as if it were a search result."
    )


class _SideSearch:
    """The answer to Claude Code's WebSearch as a source: one search, and no model."""

    is_over = True

    def __init__(self, request: ClientRequest, search: RequestedSearch, query: str) -> None:
        self._request = request
        self._search = search
        self._query = query

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        search, worker = self._search, self._request.worker
        outcome = await _find(self._request, search, self._query)
        message = side_message(
            outcome,
            message_id=worker.new_id("msg"),
            model=search.exchange.requested,
            use_id=worker.new_id(USE_PREFIX),
            name=search.tool.name,
            query=self._query,
        )
        end_exchange(self._request, search.exchange)
        take(message_events(message) if search.exchange.streams else message)
        return True


class _SearchRounds:
    """Rounds of model and search as one source."""

    is_over = True

    def __init__(
        self, request: ClientRequest, search: RequestedSearch, stack: AsyncExitStack
    ) -> None:
        self._request = request
        self._search = search
        self._stack = stack
        self._loop = SearchLoop(
            search.body, search.tool, new_id=lambda: request.worker.new_id(USE_PREFIX)
        )
        self._round: tuple[Exchange | Passthrough, StreamSource] | None = None
        self._whole: list[bytes] = []

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Run the rounds; resumes where *take* wanted no more."""
        streams = self._search.exchange.streams
        send = take if streams else self._keep
        while True:
            exchange, source = self._round or await self._open()

            def feed(data: bytes, exchange: Exchange | Passthrough = exchange) -> bool:
                sent = self._loop.feed(exchange.feed(data))
                keeps_up = send(sent) if sent else True
                return keeps_up and not exchange.ended

            if not await source.pump(feed) and not exchange.ended:
                return False
            send(self._loop.feed(exchange.close()))
            self._loop.end_round()
            await self._stack.aclose()
            self._round = None
            continues = self._loop.needs_round
            if self._loop.searches:
                send(self._loop.resolve(await self._outcomes(self._loop.allowed())))
            if not continues:
                break
        send(self._loop.close())
        self._request.record.end_model_request(self._loop.usage, exchange.stop_reason)
        if not streams:
            take(_folded(b"".join(self._whole)))
        return True

    def _keep(self, data: bytes) -> bool:
        self._whole.append(data)
        return True

    async def _open(self) -> tuple[Exchange | Passthrough, StreamSource]:
        request, enter = self._request, self._stack.enter_async_context
        if request.worker.config.api != "messages":
            exchange = converted(request, self._loop.body)
            self._round = exchange, await enter(sent(request, exchange))
            return self._round
        direct = direct_mode.passthrough(request, self._loop.body)
        answer = await enter(direct_mode.sent_directly(request, direct))
        is_stream = answer.is_stream
        source = answer if is_stream else direct_mode.MessageAsStream(await answer.read())
        self._round = direct, source
        return self._round

    async def _outcomes(self, searches: list[PendingSearch]) -> list[SearchOutcome]:
        turn = asyncio.Semaphore(PARALLEL_SEARCHES)

        async def one(search: PendingSearch) -> SearchOutcome:
            async with turn:
                return await _find(self._request, self._search, search.query)

        return await asyncio.gather(*(one(search) for search in searches))


def _folded(stream: bytes) -> bytes:
    """Return the message of a whole *stream*."""
    events = sse.Decoder(limit=max(sse.LIMIT, len(stream))).feed(stream)
    return msgspec.json.encode(fold(msgspec.json.decode(event.data) for event in events))
