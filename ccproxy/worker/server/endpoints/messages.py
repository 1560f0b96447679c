"""POST /v1/messages: ask the provider, and answer as the Messages API does."""

from __future__ import annotations

from contextlib import AsyncExitStack

from aiohttp import web

from ccproxy.convert.exchange import Exchange
from ccproxy.errors import Problem
from ccproxy.worker.peers.forward import answer_elsewhere, choose, route_headers, stand_in
from ccproxy.worker.server import direct_mode as direct
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream, let_end, relay
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeAnswer
from ccproxy.worker.server.provider_exchange import (
    ask_converted,
    ending_as_problem,
    note_asked,
    note_converted_end,
    telling_mistakes,
    told,
)


async def messages(request: ClientRequest) -> web.StreamResponse:
    """Ask the provider and relay its answer, whole or as a stream."""
    return await answer(request, await request.body())


async def answer(request: ClientRequest, body: bytes) -> web.StreamResponse:
    """Ask the provider for *body*, which is what the client sent or what was made of it."""
    worker = request.worker
    chosen = choose(request, body)
    if chosen.place is not None:
        return await answer_elsewhere(request, chosen)
    if worker.config.api == "messages":
        return await direct.messages(request, body)
    exchange = Exchange(
        body,
        rules=worker.rules,
        message_id=worker.new_id("msg"),
        model=chosen.model,
        requested=chosen.requested,
    )
    note_asked(request, exchange)
    if exchange.streams:
        return await _stream(request, exchange)
    try:
        return await _whole(request, exchange)
    except Problem as problem:
        if (instead := await stand_in(request, problem)) is None:
            raise
        return instead


async def _whole(request: ClientRequest, exchange: Exchange) -> web.StreamResponse:
    async with AsyncExitStack() as stack:
        answer = await ask_converted(stack, request, exchange)
        body = exchange.whole(await answer.read())
    note_converted_end(request, exchange)
    headers = {"Content-Type": JSON} | dict(route_headers(request))
    return WholeAnswer(body, request_id=request.record.request_id, headers=headers)


async def _stream(request: ClientRequest, exchange: Exchange) -> web.StreamResponse:
    worker = request.worker
    async with EventStream(request, commit_after=worker.config.early_commit) as events:
        events.add_headers(route_headers(request))
        try:
            with ending_as_problem(worker):
                async with telling_mistakes(request, events):
                    await _relay(request, exchange, events)
        except Problem as problem:
            if (instead := await stand_in(request, problem, events)) is not None:
                return instead
            if not events.is_open:
                raise
            # The status line is gone: from here on, errors can only be events.
            await events.write(exchange.fail(told(request, problem)))
        finally:
            note_converted_end(request, exchange)
        return await events.finish()


async def _relay(request: ClientRequest, exchange: Exchange, events: EventStream) -> None:
    async with AsyncExitStack() as stack:
        answer = await ask_converted(stack, request, exchange)
        await relay(answer, events, exchange.feed, until=lambda: exchange.ended)
        if written := exchange.close():
            await events.write(written)
        if not exchange.stopped:
            await events.finish()
            await let_end(answer)
