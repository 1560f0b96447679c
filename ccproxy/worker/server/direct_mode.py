"""
Direct mode: the provider serves the Messages API itself, so requests are not converted.

Keys, retries and relaying work as in chat mode. The differences: the client's Messages headers are
forwarded; the provider's status, error body and limit headers are returned; and a field that the
provider refuses is omitted from then on (`convert/direct/learning.py`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import web

from ccproxy.convert.content_headers import direct_headers
from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.errors import Problem
from ccproxy.protocol.headers import answer_headers
from ccproxy.worker.peers.forward import answer_or_fall_back, fall_back, success_headers
from ccproxy.worker.peers.peer_request import without_limits
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeResponse
from ccproxy.worker.server.provider_exchange import (
    begin_exchange,
    end_exchange,
    outgoing,
    sent_with_revisions,
)
from ccproxy.worker.server.stream_relay import StreamSource, relay_stream
from ccproxy.worker.upstream.provider_client import Outgoing, ProviderAnswer
from ccproxy.worker.upstream.recorded_answer import RecordedAnswer

_NOT_SUPPORTED = (404, 405, 501)
"""Statuses returned by a provider that does not count tokens."""
_MISSING_KINDS = ("not_found_error", "api_error", "invalid_request_error")
_COUNT = re.compile(rb'"input_tokens"\s*:\s*[0-9]')


async def answer(request: ClientRequest, exchange: Passthrough) -> web.StreamResponse:
    """Relay a request and its answer, whole or as a stream."""
    begin_exchange(request, exchange)
    if exchange.streams:
        return await _stream(request, exchange)
    return await answer_or_fall_back(request, _whole(request, exchange))


async def count_tokens(request: ClientRequest, body: bytes) -> web.Response | None:
    """
    Return the provider's token count, or None if it is unavailable for any reason.

    A failure does not affect messages, so it changes the state of neither the keys nor the
    breaker.
    """
    worker = request.worker
    if not worker.counting.provider_counts:
        return None
    exchange = _exchange(request, body)
    # No budget is reserved: counting is free, and Claude Code sends 25 such requests at once.
    request.record.begin_model_request(exchange.requested, exchange.model, stream=False)
    provider_request = outgoing(request, exchange, worker.config.count_url())
    try:
        count = await worker.upstream.request_aside(provider_request)
    except Problem as problem:
        # A 404 that names no model becomes an error that must not be retried.
        is_missing = problem.status in _NOT_SUPPORTED or problem.should_retry is False
        worker.counting.provider_counts = not (is_missing and problem.kind in _MISSING_KINDS)
        worker.logs.events.debug("count.failed", status=problem.status, reason=problem.message)
        return None
    return web.Response(body=count, content_type=JSON) if _COUNT.search(count) else None


def _exchange(request: ClientRequest, body: bytes, dropped: tuple[str, ...] = ()) -> Passthrough:
    chosen = request.chosen
    return Passthrough(
        body,
        rules=request.worker.rules,
        request_id=request.record.request_id,
        model=chosen.model if chosen else None,
        requested=chosen.requested if chosen else "",
        dropped=dropped,
        is_recorded=request.worker.session.recorder.is_on,
    )


def passthrough(request: ClientRequest, body: bytes, dropped: tuple[str, ...] = ()) -> Passthrough:
    """
    Return the exchange for *body*, without the fields that the provider refuses.

    *dropped* lists the parts of the client's request that *body* lacks.
    """
    exchange = _exchange(request, body, dropped)
    exchange.body = request.worker.lessons.apply(exchange.body, exchange.model)
    return exchange


async def _whole(request: ClientRequest, exchange: Passthrough) -> web.StreamResponse:
    async with sent_directly(request, exchange) as answer:
        body = request.dialect.whole(exchange.whole(await answer.read()))
    end_exchange(request, exchange)
    received = without_limits(request, answer_headers(answer.headers.items()))
    headers = {name.lower(): value for name, value in received}
    headers.pop("request-id", None)
    return WholeResponse(
        body,
        request_id=request.record.request_id,
        status=answer.status,
        headers={"content-type": JSON} | headers | dict(success_headers(request)),
    )


async def _stream(request: ClientRequest, exchange: Passthrough) -> web.StreamResponse:
    worker = request.worker
    try:
        async with EventStream(request, commit_after=worker.config.early_commit) as events:
            events.add_headers(success_headers(request))
            source = stream_source(request, exchange, events)
            converter = request.dialect.stream(exchange)
            return await relay_stream(request, events, converter, source, fallback=fall_back)
    finally:
        end_exchange(request, exchange)


@asynccontextmanager
async def stream_source(
    request: ClientRequest, exchange: Passthrough, events: EventStream
) -> AsyncIterator[StreamSource]:
    """Send the request; yield the stream of its answer."""
    async with sent_directly(request, exchange) as answer:
        events.add_headers(without_limits(request, answer_headers(answer.headers.items())))
        yield answer if answer.is_stream else MessageAsStream(await answer.read())


class MessageAsStream:
    """A whole message from a provider that ignored the request for a stream."""

    is_over = True

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Pass the message to *take* as events."""
        take(message_events(self._body))
        return True


def sent_directly(
    request: ClientRequest, exchange: Passthrough
) -> AbstractAsyncContextManager[ProviderAnswer | RecordedAnswer]:
    """Send the request, and resend it without any fields that the provider refuses."""
    worker = request.worker
    url = worker.config.messages_url() + request.raw_query
    headers = direct_headers(exchange.body, worker.rules.target_of(exchange.model).quirks)

    def revise(problem: Problem) -> bool:
        body = worker.lessons.learn(problem, exchange.body, exchange.model)
        if body is None and problem.kind == "invalid_request_error":
            from ccproxy.convert.added_features.search_answer import without_own_searches

            body = without_own_searches(exchange.body)
        if body is None or body == exchange.body:
            return False
        exchange.body = body
        worker.logs.events.info(
            "request.field_dropped", model=exchange.model, reason=problem.message
        )
        return True

    def outgoing_now() -> Outgoing:
        return outgoing(request, exchange, url, headers=headers)

    return sent_with_revisions(request, exchange, outgoing_now, revise)
