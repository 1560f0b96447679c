"""
Answer web searches: Claude Code's WebSearch without a model, all others in rounds with the model.

Without a search engine, WebSearch receives the API's error block and a message with the settings to
change. The model is not used, because it would present answers from memory as search results.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Raw

from ccproxy.convert.added_features.search_answer import USE_PREFIX, side_message
from ccproxy.convert.added_features.search_results import SearchOutcome, failed
from ccproxy.convert.added_features.search_tool import SearchTool, search_tool, side_query
from ccproxy.convert.added_features.server_tool_loop import PendingSearch
from ccproxy.convert.added_features.web_search_loop import WebSearchLoop
from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.messages import read_request
from ccproxy.worker.added_features.model_round import AnswerSource, ModelRounds, Take
from ccproxy.worker.added_features.search_client import SearchClient, SearchTarget
from ccproxy.worker.added_features.tool_search import model_rounds
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import ModelExchange, passed_key
from ccproxy.worker.worker import Worker

PARALLEL_SEARCHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedSearch:
    """A request with searches that ccproxy answers."""

    body: bytes = field(repr=False)
    tool: SearchTool
    target: SearchTarget | None
    query: str | None = field(repr=False)
    """The query of Claude Code's WebSearch, or None if the model writes the queries."""
    exchange: ModelExchange


def requested_search(request: ClientRequest, exchange: Exchange) -> RequestedSearch | None:
    """Return the search of a converted request, or None if ccproxy does not run it."""
    searching_tool = search_tool(exchange.request.tools)
    if searching_tool is None:
        return None
    tool, is_only = searching_tool
    target = _target(request, exchange.model)
    query = side_query(exchange.request) if is_only else None
    if target is None and (query is None or exchange.own_search):
        return None
    if query is None and exchange.own_search:
        return None
    return RequestedSearch(
        body=exchange.asked, tool=tool, target=target, query=query, exchange=exchange
    )


def requested_direct_search(
    request: ClientRequest, exchange: Passthrough, body: bytes
) -> RequestedSearch | None:
    """Return the search of a request in direct mode, or None if ccproxy does not run it."""
    if not request.worker.config.added_features.searches_directly:
        return None
    searching_tool = search_tool((fields_of(body) or {}).get("tools", Raw(b"[]")))
    if searching_tool is None:
        return None
    target = _target(request, exchange.model)
    if target is None:
        return None
    tool, is_only = searching_tool
    query = side_query(read_request(body)) if is_only else None
    return RequestedSearch(body=body, tool=tool, target=target, query=query, exchange=exchange)


def _target(request: ClientRequest, model: str) -> SearchTarget | None:
    worker = request.worker
    key = passed_key(request) or worker.pool.peek(model) or ""
    return search_client(worker).target(model, key)


def search_client(worker: Worker) -> SearchClient:
    """Return the search client of *worker*, creating it for the first search."""
    client = worker.search = worker.search or SearchClient(worker.config)
    return client


async def _find(request: ClientRequest, search: RequestedSearch, query: str) -> SearchOutcome:
    worker = request.worker
    if search.target is None:
        env_file = worker.config.env_file
        return failed(not_configured(worker.config.label, str(env_file) if env_file else ""))
    started = time.monotonic()
    outcome = await search_client(worker).search(search.target, query, search.tool)
    tokens = worker.session.usage.cost(search.target.model, outcome.usage)
    request.record.add_fee(outcome.fee + (tokens or 0.0))
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
    """Return the error text for an entry without a search engine."""
    where = f" in {env_file}" if env_file else ""
    return (
        f"Web search is not available: {label} has no search engine. Set WEB_SEARCH{where} to "
        "searxng:URL, or to brave, tavily, exa or serper with WEB_SEARCH_KEY. Do not answer from "
        "memory as if it were a search result."
    )


class SideSearch:
    """A source for the answer to Claude Code's WebSearch: one search without a model."""

    is_over = True
    usage: Mapping[str, Any] = {}
    stop_reason: str | None = "end_turn"

    def __init__(self, request: ClientRequest, search: RequestedSearch, query: str) -> None:
        self._request = request
        self._search = search
        self._query = query

    async def pump(self, take: Take) -> bool:
        """Run the search, and pass the whole answer to *take*."""
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
        take(message_events(message))
        return True

    async def close(self) -> None:
        """Do nothing, because the search has ended."""


class SearchRounds(ModelRounds):
    """A source that alternates between the model and web searches."""

    def __init__(self, request: ClientRequest, search: RequestedSearch) -> None:
        self._requested = search
        self._searches = WebSearchLoop(
            search.body, search.tool, new_id=lambda: request.worker.new_id(USE_PREFIX)
        )
        super().__init__(request, self._searches)

    def _open(self, body: bytes) -> AnswerSource:
        return model_rounds(self._request, body)

    async def _search(self) -> bytes:
        return self._searches.resolve(await self._outcomes(self._searches.allowed()))

    async def _outcomes(self, searches: list[PendingSearch]) -> list[SearchOutcome]:
        turn = asyncio.Semaphore(PARALLEL_SEARCHES)

        async def one(search: PendingSearch) -> SearchOutcome:
            async with turn:
                return await _find(self._request, self._requested, search.query)

        return await asyncio.gather(*(one(search) for search in searches))
