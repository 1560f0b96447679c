"""
Requests that an exchange converts, or passes on in the client's own API.

Direct mode, which relays the bytes of the Messages API without conversion, is in `direct_mode.py`.
"""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.peers.forward import answer_or_fall_back, fall_back, success_headers
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeResponse
from ccproxy.worker.server.provider_exchange import (
    ConvertedExchange,
    begin_exchange,
    end_converted,
    sent,
)
from ccproxy.worker.server.stream_relay import relay_stream


async def answer(request: ClientRequest, exchange: ConvertedExchange) -> web.StreamResponse:
    """Answer with the provider's answer, converted by *exchange*, whole or as a stream."""
    begin_exchange(request, exchange)
    if exchange.streams:
        return await _stream(request, exchange)
    return await answer_or_fall_back(request, _whole(request, exchange))


async def _whole(request: ClientRequest, exchange: ConvertedExchange) -> web.StreamResponse:
    async with sent(request, exchange) as answer:
        body = request.dialect.whole(exchange.whole(await answer.read()))
    end_converted(request, exchange)
    headers = {"Content-Type": JSON} | dict(success_headers(request))
    return WholeResponse(body, request_id=request.record.request_id, headers=headers)


async def _stream(request: ClientRequest, exchange: ConvertedExchange) -> web.StreamResponse:
    worker = request.worker
    try:
        async with EventStream(request, commit_after=worker.config.early_commit) as events:
            events.add_headers(success_headers(request))
            source, converter = sent(request, exchange), request.dialect.stream(exchange)
            return await relay_stream(request, events, converter, source, fallback=fall_back)
    finally:
        end_converted(request, exchange)
