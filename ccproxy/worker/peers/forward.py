"""
Requests that another entry of the fleet answers: because of the model's name, or as a fallback.

The peer's status and bytes are returned unchanged. When the client leaves, the connection to the
peer is closed.

A fallback answers only before the first byte of an answer (pings do not count), and only if the
provider is at fault, or the chosen entry is not running. No entry is asked twice, and no request
passes more than three peers.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import aiohttp
from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.keys.gateway.spending_notice import REFUSED_HEADER
from ccproxy.keys.session_identity import find_session
from ccproxy.keys.sessions import SessionRef
from ccproxy.protocol.conversation_outline import read_outline
from ccproxy.protocol.headers import answer_headers
from ccproxy.routing.names import ModelRef
from ccproxy.routing.rules import is_provider_failure
from ccproxy.worker.peers.choice import ROUTE_HEADER, Chosen, MessagesBody
from ccproxy.worker.peers.peer_request import (
    client_of,
    is_from_peer,
    limits_of_user,
    payer_of,
    without_limits,
)
from ccproxy.worker.peers.peer_stream import SSE, ForwardedEvents, ForwardedStream
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.stream_relay import relay_stream

_BROKEN = "the proxy that answers broke off"
_UNSAFE = re.compile(r"[^\x20-\x7e]")


def choose(request: ClientRequest, body: bytes, messages: MessagesBody | None) -> Chosen:
    """
    Decide which entry and model answer *request*; see `worker/peers/choice.py`.

    *messages* returns the request in the Messages API, which the rules look at; None: the model's
    name decides alone.
    """
    worker = request.worker
    is_peer = is_from_peer(request)
    chosen = worker.chooser.choose(body, request.headers, messages, is_sibling=is_peer)
    request.chosen = chosen
    if chosen.reason and chosen.ref is None:
        _take_route(request, chosen, f"{worker.config.label}:{chosen.model}", chosen.reason)
    return chosen


async def answer_by_peer(
    request: ClientRequest, chosen: Chosen, *, path: str | None = None
) -> web.StreamResponse:
    """
    Return the answer of the entry that was chosen.

    *path* is an endpoint other than that of the client's API; it has no fallback.
    """
    if chosen.ref is None:
        raise RuntimeError("no other entry was chosen")
    record = request.record
    _take_route(request, chosen, str(chosen.ref), chosen.reason)
    record.hand_over(chosen.ref.label)
    request.worker.activity.start(record)
    async with AsyncExitStack() as stack:
        try:
            answer = await stack.enter_async_context(_asked(request, chosen, chosen.ref, path))
        except Problem as problem:
            record.take_back()  # no other worker counts the request
            response = await fall_back(request, problem) if path is None else None
            if response is None:
                raise
            return response
        # The same id in both logs and in the body of an error.
        record.hand_over(chosen.ref.label, answer.headers.get("request-id", ""))
        return await _return(request, answer)


async def answer_or_fall_back(
    request: ClientRequest, answer: Awaitable[web.StreamResponse]
) -> web.StreamResponse:
    """
    Return *answer*, or that of a fallback if it fails.

    Raises:
        Problem: If no fallback answers.

    """
    try:
        return await answer
    except Problem as problem:
        if (response := await fall_back(request, problem)) is None:
            raise
        return response


async def fall_back(
    request: ClientRequest, problem: Problem, events: EventStream | None = None
) -> web.StreamResponse | None:
    """
    Return the answer of a fallback in place of *problem*.

    None if there is no fallback, none of them could answer, or it is too late.
    """
    worker, chosen = request.worker, request.chosen
    config = worker.config
    is_late = worker.requests.ending or request.record.has_begun
    if chosen is None or is_late or not is_provider_failure(problem):
        return None
    tried = {label.lower() for label in (*chosen.via, config.label)}
    if chosen.ref is not None:
        tried.add(chosen.ref.label.lower())
    for label in worker.chooser.table.routing_tables.fallback(config.label):
        if label.lower() in tried:
            continue
        ref = ModelRef(label, worker.chooser.tier_of(chosen))
        try:
            async with _asked(request, chosen, ref) as answer:
                if answer.status == 200:
                    return await _return_fallback(request, ref, answer, problem, events)
                text = (await answer.read())[:500].decode("utf-8", "replace")
                reason = f"{answer.status}: {text}"
        except (Problem, aiohttp.ClientError) as error:
            reason = str(error)
        worker.logs.events.warning(
            "fallback.failed", label=label, reason=worker.logs.redact(reason)
        )
    return None


async def answer_by_held_fallback(
    request: ClientRequest, chosen: Chosen
) -> web.StreamResponse | None:
    """Return the answer of the fallback that the session stays with; None if there is none."""
    worker = request.worker
    held = worker.held_fallbacks
    if not held or (session := _session_of(request, chosen)) is None:
        return None
    if not (label := held.label_of(session)):
        return None
    ref = ModelRef(label, worker.chooser.tier_of(chosen))
    try:
        async with _asked(request, chosen, ref) as answer:
            if answer.status == 200:
                _take_route(request, chosen, str(ref), "fallback: until the prompt changes")
                worker.activity.start(request.record)
                request_id = answer.headers.get("request-id", "")
                request.record.hand_over(label, request_id, is_fallback=True)
                return await _return(request, answer)
            reason = f"status {answer.status}"
    except (Problem, aiohttp.ClientError) as error:
        if request.record.has_begun:
            raise
        reason = str(error)
    request.record.take_back()
    worker.logs.events.warning("fallback.failed", label=label, reason=worker.logs.redact(reason))
    return None


def _session_of(request: ClientRequest, chosen: Chosen) -> SessionRef | None:
    body = chosen.body
    return find_session(
        request.headers,
        lambda: read_outline(body),
        affinity="session",
        size=len(body),
        client=client_of(request),
    )


async def _return_fallback(
    request: ClientRequest,
    ref: ModelRef,
    answer: aiohttp.ClientResponse,
    problem: Problem,
    events: EventStream | None,
) -> web.StreamResponse:
    logs, record = request.worker.logs, request.record
    _take_route(request, request.chosen, str(ref), f"fallback: {problem.kind}")
    record.hand_over(ref.label, is_fallback=True)
    held, chosen = request.worker.held_fallbacks, request.chosen
    if held.is_on and chosen is not None and (session := _session_of(request, chosen)) is not None:
        held.note(session, ref.label)
    logs.events.warning(
        "request.fell_back",
        request=record.request_id,
        route=record.route,
        sibling_request=answer.headers.get("request-id", ""),
        reason=logs.redact(problem.message),
    )
    return await _return(request, answer, events)


def _asked(
    request: ClientRequest, chosen: Chosen, ref: ModelRef, path: str | None = None
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    worker = request.worker
    return worker.peer_client.send(
        chosen,
        ref,
        path=(path or request.dialect.path) + request.raw_query,
        client=request.headers,
        payer=worker.payers.header(*payer_of(request)),
    )


def _take_route(request: ClientRequest, chosen: Chosen | None, ref: str, reason: str) -> None:
    route = _UNSAFE.sub("?", f"{ref} ({reason})" if reason else ref)
    requested = (chosen.requested or chosen.name) if chosen is not None else ""
    request.record.take_route(route, ref, requested)


def route_headers(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the header that names the entry that answers; none if nothing was decided."""
    return [(ROUTE_HEADER, request.record.route)] if request.record.route else []


def success_headers(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the proxy's own headers of an answer: the route, and the limits of a user."""
    headers = route_headers(request)
    return headers if request.user is None else [*headers, *limits_of_user(request)]


async def _return(
    request: ClientRequest, answer: aiohttp.ClientResponse, events: EventStream | None = None
) -> web.StreamResponse:
    record = request.record
    if further := answer.headers.get(ROUTE_HEADER):
        record.take_route(f"{record.route}; {_UNSAFE.sub('?', further)}", record.model)
    is_success = answer.status == 200
    # The peer knows the user: a refusal of the gateway is its own.
    is_own_refusal = not is_success and REFUSED_HEADER in answer.headers
    received = answer_headers(answer.headers.items())
    headers = [
        *(received if is_own_refusal else without_limits(request, received)),
        *(success_headers(request) if is_success else route_headers(request)),
    ]
    headers = [one for one in headers if one[0].lower() != "request-id"]
    stream = ForwardedStream(answer, _BROKEN)
    if answer.content_type != SSE:
        body = await stream.read_whole()
        return web.Response(status=answer.status, body=body, headers=dict(headers))
    record.stream = True
    converter = ForwardedEvents(record.request_id, request.dialect.error_event)
    if events is not None:
        events.add_headers(headers)
        return await relay_stream(request, events, converter, _opened(stream))
    async with EventStream(request, commit_after=0) as own_events:
        own_events.add_headers(headers)
        return await relay_stream(request, own_events, converter, _opened(stream))


@asynccontextmanager
async def _opened(stream: ForwardedStream) -> AsyncIterator[ForwardedStream]:
    yield stream
