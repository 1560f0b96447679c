"""POST /v1/messages: answer with the provider's model, as the Messages API does."""

from __future__ import annotations

from aiohttp import web

from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.worker.peers.forward import answer_by_peer, choose, fall_back, route_headers
from ccproxy.worker.server import direct_mode
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeResponse
from ccproxy.worker.server.provider_exchange import begin_exchange, end_converted, sent
from ccproxy.worker.server.stream_relay import relay_stream
from ccproxy.worker.server.threads import refuse_thread


async def messages(request: ClientRequest) -> web.StreamResponse:
    """Answer the request, whole or as a stream."""
    return await answer(request, await request.body())


async def answer(request: ClientRequest, body: bytes) -> web.StreamResponse:
    """Answer a request with this *body*, which is the client's or was made from it."""
    worker = request.worker
    chosen = choose(request, body)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen)
    refuse_thread(request, body)
    if worker.config.api == "messages":
        return await direct_mode.messages(request, body)
    exchange = Exchange(
        body,
        rules=worker.rules,
        message_id=worker.new_id("msg"),
        model=chosen.model,
        requested=chosen.requested,
        request_id=request.record.request_id,
    )
    begin_exchange(request, exchange)
    if exchange.streams:
        return await _stream(request, exchange)
    try:
        return await _whole(request, exchange)
    except Problem as problem:
        if (response := await fall_back(request, problem)) is None:
            raise
        return response


async def _whole(request: ClientRequest, exchange: Exchange) -> web.StreamResponse:
    async with sent(request, exchange) as answer:
        body = exchange.whole(await answer.read())
    end_converted(request, exchange)
    headers = {"Content-Type": JSON} | dict(route_headers(request))
    return WholeResponse(body, request_id=request.record.request_id, headers=headers)


async def _stream(request: ClientRequest, exchange: Exchange) -> web.StreamResponse:
    worker = request.worker
    try:
        async with EventStream(request, commit_after=worker.config.early_commit) as events:
            events.add_headers(route_headers(request))
            source = sent(request, exchange)
            return await relay_stream(request, events, exchange, source, fallback=fall_back)
    finally:
        end_converted(request, exchange)
