"""Answer requests that need added features of ccproxy; see `answer_assisted`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
from aiohttp import web

from ccproxy.convert.chat.answer import fold
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import fields_of, object_of
from ccproxy.protocol.messages import blocks_of, read_request
from ccproxy.worker.added_features.auto_mode import Judged, RequestedJudgement, requested_judgement
from ccproxy.worker.added_features.media import MediaNeeds, as_text, media_needs
from ccproxy.worker.added_features.model_round import AnswerSource
from ccproxy.worker.added_features.tool_search import model_rounds
from ccproxy.worker.added_features.web_search import (
    RequestedSearch,
    SearchRounds,
    SideSearch,
    requested_direct_search,
    requested_search,
)
from ccproxy.worker.peers.forward import answer_or_fall_back, fall_back, success_headers
from ccproxy.worker.peers.peer_stream import ForwardedEvents
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeResponse
from ccproxy.worker.server.provider_exchange import ModelExchange, begin_exchange
from ccproxy.worker.server.stream_relay import StreamSource, relay_stream
from ccproxy.worker.upstream.provider_answer import MAX_WHOLE


class Assistance(msgspec.Struct, frozen=True, kw_only=True):
    """The added features that one request needs."""

    exchange: ModelExchange
    body: bytes
    """The client's body, without filtered tools."""
    search: RequestedSearch | None = None
    judgement: RequestedJudgement | None = None
    media: MediaNeeds | None = None
    """The media to convert into text, because the model cannot read them."""


def requested_assistance(request: ClientRequest, exchange: Exchange) -> Assistance | None:
    """Return the added features that a converted request needs, or None."""
    search = requested_search(request, exchange) if exchange.searches else None
    judgement = requested_judgement(request, exchange)
    media = None
    if exchange.has_media:
        quirks = exchange.target.quirks
        media = media_needs(request, exchange.asked, quirks, exchange.model)
    if search is None and judgement is None and media is None and not exchange.defers_tools:
        return None
    return Assistance(
        exchange=exchange,
        body=exchange.asked,
        search=search,
        judgement=judgement,
        media=media,
    )


def requested_direct_assistance(
    request: ClientRequest, exchange: Passthrough, body: bytes
) -> Assistance | None:
    """
    Return the added features that the *exchange* for a request with *body* needs, or None.

    Raises:
        Problem: If *body* is not a request with messages.
    """
    rules = request.worker.rules
    body = rules.cache.scans.scan(rules.without_tools(body)[0]).body
    search = requested_direct_search(request, exchange, body)
    media = media_needs(request, body, rules.target_of(exchange.model).quirks, exchange.model)
    if search is None and media is None:
        return None
    for message in read_request(body, counting=True).messages:  # direct mode does not validate them
        blocks_of(message.content)
    return Assistance(exchange=exchange, body=body, search=search, media=media)


async def answer_assisted(request: ClientRequest, added: Assistance) -> web.StreamResponse:
    """
    Answer a request with the features in *added*.

    The provider's answer is always streamed. If the client does not stream, it receives the events
    folded into one message.
    """
    if added.search is not None:
        request.read_prompt = None  # the model receives other prompts, or none
    begin_exchange(request, added.exchange)
    if not added.exchange.streams:
        return await answer_or_fall_back(request, _whole(request, added))
    async with EventStream(request, commit_after=request.worker.config.early_commit) as events:
        events.add_headers(success_headers(request))
        converter = request.dialect.stream(ForwardedEvents(request.record.request_id))
        source = _source(request, added)
        return await relay_stream(request, events, converter, source, fallback=fall_back)


@asynccontextmanager
async def _source(request: ClientRequest, added: Assistance) -> AsyncIterator[StreamSource]:
    search, body = added.search, added.body
    if added.media is not None:
        body = await as_text(request, body, added.media)
        search = search and replace(search, body=body)
    base: AnswerSource
    if search is None:
        base = model_rounds(request, _streamed(body))
    elif search.query is None:
        base = SearchRounds(request, search)
    else:
        base = SideSearch(request, search, search.query)
    try:
        yield base if added.judgement is None else Judged(request, base, added.judgement)
    finally:
        # Count the tokens even if the client has disconnected.
        request.record.end_model_request(base.usage, base.stop_reason)
        await base.close()


async def _whole(request: ClientRequest, added: Assistance) -> web.StreamResponse:
    body = request.dialect.whole(await _whole_message(request, added))
    headers = {"Content-Type": JSON} | dict(success_headers(request))
    return WholeResponse(body, request_id=request.record.request_id, headers=headers)


async def _whole_message(request: ClientRequest, added: Assistance) -> bytes:
    stream = bytearray()

    def keep(data: bytes) -> bool:
        stream.extend(data)
        if len(stream) > MAX_WHOLE:
            raise BadAnswer(f"The provider's answer is larger than {MAX_WHOLE >> 20} MiB")
        return True

    async with _source(request, added) as source:
        await source.pump(keep)
    events = sse.Decoder(limit=max(sse.LIMIT, len(stream))).feed(bytes(stream))
    return msgspec.json.encode(fold(object_of(event.data) or {} for event in events))


def _streamed(body: bytes) -> bytes:
    fields = fields_of(body) or {}
    return msgspec.json.encode({**fields, "stream": True})
