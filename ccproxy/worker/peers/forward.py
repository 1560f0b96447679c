"""
Requests that another entry of the fleet answers, either by choice or as a fallback.

The peer's status and bytes are returned unchanged. When the client disconnects, the connection to
the peer is closed.

A fallback answers only if no byte of an answer has been sent (pings do not count), and only if the
provider is at fault or the chosen entry is not running. No entry receives a request twice, and no
request passes through more than three peers.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

import aiohttp
import msgspec
from aiohttp import web

from ccproxy.convert.errors.body import parse_error_body
from ccproxy.errors import Problem
from ccproxy.keys.gateway.spending_notice import REFUSED_HEADER
from ccproxy.keys.session_identity import find_session
from ccproxy.keys.sessions import SessionRef
from ccproxy.protocol.conversation_outline import read_outline
from ccproxy.protocol.headers import answer_headers
from ccproxy.protocol.json_splice import replace_value
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
from ccproxy.worker.server.http import MAX_REASON, ClientRequest
from ccproxy.worker.server.stream_relay import relay_stream
from ccproxy.worker.upstream.connections import explain

_UNSAFE = re.compile(r"[^\x20-\x7e]")


def choose(request: ClientRequest, body: bytes, messages: MessagesBody | None) -> Chosen:
    """
    Decide which entry and model answer *request*; see `worker/peers/choice.py`.

    *messages* returns the request in Messages API format, which the rules examine; if it is None,
    the model's name alone decides.
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
    Return the answer of the chosen entry.

    *path* is an endpoint other than the main one of the client's API; it has no fallback.
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
            record.take_back()  # no other worker counts this request
            if path is not None:
                raise
            return await _fallback_or_raise(request, problem)
        # Use the same ID in both logs and in the body of an error.
        record.hand_over(chosen.ref.label, answer.headers.get("request-id", ""))
        return await _return(request, answer)


async def answer_or_fall_back(
    request: ClientRequest, answer: Awaitable[web.StreamResponse]
) -> web.StreamResponse:
    """
    Return *answer*, or the answer of a fallback if it fails.

    Raises:
        Problem: If no fallback answers.
    """
    try:
        return await answer
    except Problem as problem:
        return await _fallback_or_raise(request, problem)


async def _fallback_or_raise(request: ClientRequest, problem: Problem) -> web.StreamResponse:
    result = await fall_back(request, problem)
    if isinstance(result, Problem):
        raise result
    return result


async def fall_back(
    request: ClientRequest, problem: Problem, events: EventStream | None = None
) -> web.StreamResponse | Problem:
    """
    Return the answer of a fallback in place of *problem*.

    If every fallback fails, return *problem* with the reasons for all failures. If there is no
    fallback, or it is too late for one, return *problem* itself.
    """
    worker, chosen = request.worker, request.chosen
    label = worker.config.label
    is_late = worker.requests.ending or request.record.has_begun
    if chosen is None or is_late or not is_provider_failure(problem):
        return problem
    tried = {label.lower() for label in (*chosen.via, label)}
    if chosen.ref is not None:
        tried.add(chosen.ref.label.lower())
    failures: list[str] = []
    for fallback in worker.chooser.table.routing_tables.fallback(label):
        if fallback.lower() not in tried:
            result = await _ask_fallback(request, chosen, fallback, problem, events)
            if not isinstance(result, str):
                return result
            failures.append(result)
    return _with_failures(problem, failures) if failures else problem


def _with_failures(problem: Problem, failures: Sequence[str]) -> Problem:
    """Add the reasons why no fallback answered to the message and the body of *problem*."""
    text = f"{problem.message}; no fallback answered: {'; '.join(failures)}"
    body = problem.body
    if body is not None:
        body = replace_value(body, ("error", "message"), msgspec.json.encode(text))
    return problem.with_message(text, body=body)


async def answer_by_held_fallback(
    request: ClientRequest, chosen: Chosen
) -> web.StreamResponse | None:
    """Return the answer of the fallback that the session stays with, or None."""
    held = request.worker.held_fallbacks
    if not held or (session := _session_of(request, chosen)) is None:
        return None
    if not (label := held.label_of(session)):
        return None
    result = await _ask_fallback(request, chosen, label)
    return None if isinstance(result, str) else result


def _session_of(request: ClientRequest, chosen: Chosen) -> SessionRef | None:
    body = chosen.body
    return find_session(
        request.headers,
        lambda: read_outline(body),
        affinity="session",
        size=len(body),
        client=client_of(request),
    )


async def _ask_fallback(
    request: ClientRequest,
    chosen: Chosen,
    label: str,
    problem: Problem | None = None,
    events: EventStream | None = None,
) -> web.StreamResponse | str:
    """
    Return the answer of the entry *label*, or the reason for its failure.

    *problem* is the failure of this entry, or None if the session stays with the fallback.
    """
    logs, record = request.worker.logs, request.record
    ref = ModelRef(label, request.worker.chooser.tier_of(chosen))
    try:
        async with _asked(request, chosen, ref) as answer:
            if answer.status == 200:
                _note_fallback(request, chosen, ref, answer, problem)
                return await _return(request, answer, events)
            text = parse_error_body(await answer.read()).text
            failure = f"{label} answers {answer.status}: {text[:MAX_REASON]}"
    except (Problem, aiohttp.ClientError) as error:
        if record.has_begun or isinstance(error, ConnectionError):  # the client has disconnected
            raise
        failure = str(error) if isinstance(error, Problem) else f"{label}: {explain(error)}"
    record.take_back()
    failure = logs.redact(failure)
    logs.events.warning("fallback.failed", label=label, reason=failure)
    return failure


def _note_fallback(
    request: ClientRequest,
    chosen: Chosen,
    ref: ModelRef,
    answer: aiohttp.ClientResponse,
    problem: Problem | None,
) -> None:
    worker, record = request.worker, request.record
    peer_request = answer.headers.get("request-id", "")
    if problem is None:
        _take_route(request, chosen, str(ref), "fallback: until the prompt changes")
        worker.activity.start(record)
        record.hand_over(ref.label, peer_request, is_fallback=True)
        return
    _take_route(request, chosen, str(ref), f"fallback: {problem.kind}")
    record.hand_over(ref.label, is_fallback=True)
    held = worker.held_fallbacks
    if held.is_on and (session := _session_of(request, chosen)) is not None:
        held.note(session, ref.label)
    worker.logs.events.warning(
        "request.fell_back",
        request=record.request_id,
        route=record.route,
        sibling_request=peer_request,
        reason=worker.logs.redact(problem.message),
    )


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


def _take_route(request: ClientRequest, chosen: Chosen, ref: str, reason: str) -> None:
    route = _UNSAFE.sub("?", f"{ref} ({reason})" if reason else ref)
    request.record.take_route(route, ref, chosen.requested or chosen.name)


def route_headers(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the header that contains the chosen route; empty if there is no route."""
    return [(ROUTE_HEADER, request.record.route)] if request.record.route else []


def success_headers(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the proxy's own headers for an answer: the route and the user's limits."""
    headers = route_headers(request)
    return headers if request.user is None else [*headers, *limits_of_user(request)]


async def _return(
    request: ClientRequest, answer: aiohttp.ClientResponse, events: EventStream | None = None
) -> web.StreamResponse:
    record = request.record
    if further := answer.headers.get(ROUTE_HEADER):
        record.take_route(f"{record.route}; {_UNSAFE.sub('?', further)}", record.model)
    is_success = answer.status == 200
    # If the peer's gateway has refused the request, its limit headers describe the user.
    is_own_refusal = not is_success and REFUSED_HEADER in answer.headers
    received = answer_headers(answer.headers.items())
    headers = [
        *(received if is_own_refusal else without_limits(request, received)),
        *(success_headers(request) if is_success else route_headers(request)),
    ]
    headers = [one for one in headers if one[0].lower() != "request-id"]
    stream = ForwardedStream(answer, f"the answer of the proxy {record.answered_by} was cut off")
    if answer.content_type != SSE:
        body = await stream.read_whole()
        return web.Response(status=answer.status, body=body, headers=dict(headers))
    record.stream = True
    converter = ForwardedEvents(record.request_id, request.dialect)
    if events is None:
        async with EventStream(request, commit_after=0) as own_events:
            own_events.add_headers(headers)
            return await relay_stream(request, own_events, converter, nullcontext(stream))
    events.add_headers(headers)
    return await relay_stream(request, events, converter, nullcontext(stream))
