"""
Requests that another entry of the fleet answers: because of the model's name, or as a fallback.

The sibling's status and its bytes come back unchanged; a client that leaves is told to it by the
closing of the connection.

A fallback is asked before the first byte of an answer only (pings are none), and only when the
provider is to blame, or the entry that was chosen does not run. Whoever was asked before is not
asked again, and nothing passes more than three siblings.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import aiohttp
from aiohttp import web

from ccproxy.convert.direct.passthrough import WholeEvents
from ccproxy.errors import Problem
from ccproxy.protocol import sse
from ccproxy.protocol.headers import answer_headers
from ccproxy.protocol.messages import error_body
from ccproxy.routing.names import ModelRef
from ccproxy.routing.rules import is_provider_failure
from ccproxy.worker.peers.choice import ROUTE_HEADER, Chosen
from ccproxy.worker.peers.fleet_token import HEADER as TOKEN_HEADER
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import ending_as_problem
from ccproxy.worker.upstream.connections import explain

MESSAGES = "/v1/messages"
_STREAM = "text/event-stream"
_UNSAFE = re.compile(r"[^\x20-\x7e]")


def is_from_sibling(request: ClientRequest) -> bool:
    """Tell whether another worker of the fleet asks; its token stands for a client key."""
    transport = request.transport
    if TOKEN_HEADER not in request.headers or transport is None:
        return False
    peer = transport.get_extra_info("peername")
    return bool(peer) and request.worker.siblings.knows(request.headers, peer[0])


def choose(request: ClientRequest, body: bytes, *, rules: bool = True) -> Chosen:
    """Decide who answers *request*; see `worker/peers/choice.py`."""
    worker = request.worker
    is_sibling = is_from_sibling(request)
    chosen = worker.chooser.choose(body, request.headers, is_sibling=is_sibling, rules=rules)
    request.chosen = chosen
    if chosen.reason and chosen.place is None:
        note_route(request, chosen, f"{worker.config.label}:{chosen.model}", chosen.reason)
    return chosen


async def answer_elsewhere(
    request: ClientRequest, chosen: Chosen, *, path: str = MESSAGES
) -> web.StreamResponse:
    """Have the entry answer that was chosen."""
    if chosen.place is None:
        raise RuntimeError("this request is answered here")
    note_route(request, chosen, str(chosen.place), chosen.reason)
    request.record.elsewhere = True
    async with AsyncExitStack() as stack:
        try:
            answer = await stack.enter_async_context(_asked(request, chosen, chosen.place, path))
        except Problem as problem:
            request.record.elsewhere = False  # nobody else knows of it
            instead = await stand_in(request, problem) if path == MESSAGES else None
            if instead is None:
                raise
            return instead
        # One id for both logs, and the one that the body of an error quotes.
        request.record.request_id = answer.headers.get("request-id", request.record.request_id)
        return await _pass_on(request, answer)


async def stand_in(
    request: ClientRequest, problem: Problem, events: EventStream | None = None
) -> web.StreamResponse | None:
    """
    Have a fallback answer instead of who was chosen and ended with *problem*.

    None: there is none, none could, or it is too late; *problem* is then the client's answer.
    """
    worker, chosen = request.worker, request.chosen
    config = worker.config
    if (
        chosen is None
        or not is_provider_failure(problem)
        or worker.ending
        or request.record.has_begun
    ):
        return None
    passed = {label.lower() for label in (*chosen.via, config.label)}
    if chosen.place is not None:
        passed.add(chosen.place.label.lower())
    for label in worker.chooser.table.routing_tables.fallback(config.label):
        if label.lower() in passed:
            continue
        place = ModelRef(label, worker.chooser.tier_of(chosen))
        try:
            async with _asked(request, chosen, place, MESSAGES) as answer:
                if answer.status == 200:
                    return await _instead(request, place, answer, problem, events)
                said = (await answer.read())[:500].decode("utf-8", "replace")
                reason = f"{answer.status}: {said}"
        except (Problem, aiohttp.ClientError) as error:
            reason = str(error)
        worker.log.warning("fallback.failed", label=label, reason=worker.redact(reason))
    return None


async def _instead(
    request: ClientRequest,
    place: ModelRef,
    answer: aiohttp.ClientResponse,
    problem: Problem,
    events: EventStream | None,
) -> web.StreamResponse:
    worker, record = request.worker, request.record
    note_route(request, request.chosen, str(place), f"fallback: {problem.kind}")
    record.elsewhere = True
    worker.log.warning(
        "request.fell_back",
        request=record.request_id,
        route=record.route,
        sibling_request=answer.headers.get("request-id", ""),
        reason=worker.redact(problem.message),
    )
    return await _pass_on(request, answer, events)


def _asked(
    request: ClientRequest, chosen: Chosen, place: ModelRef, path: str
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return request.worker.siblings.ask(
        chosen, place, path=path + request.raw_query, client=request.headers
    )


# The sibling's answer.


def note_route(request: ClientRequest, chosen: Chosen | None, where: str, reason: str) -> None:
    """Put into the record who answers, and why."""
    record = request.record
    record.route = _UNSAFE.sub("?", f"{where} ({reason})" if reason else where)
    record.model = where
    if chosen is not None:
        record.requested = chosen.requested or chosen.name


def route_headers(request: ClientRequest) -> list[tuple[str, str]]:
    """Return the header that tells the client who answers; none where nothing was decided."""
    return [(ROUTE_HEADER, request.record.route)] if request.record.route else []


async def _pass_on(
    request: ClientRequest, answer: aiohttp.ClientResponse, events: EventStream | None = None
) -> web.StreamResponse:
    if further := answer.headers.get(ROUTE_HEADER):
        request.record.route += f"; {_UNSAFE.sub('?', further)}"
    headers = [
        *(one for one in answer_headers(answer.headers.items()) if one[0].lower() != "request-id"),
        *route_headers(request),
    ]
    if answer.content_type != _STREAM:
        try:
            body = await answer.read()
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error) from error
        return web.Response(status=answer.status, body=body, headers=dict(headers))
    request.record.stream = True
    if events is not None:
        return await _stream(request, answer, events, headers)
    async with EventStream(request, commit_after=0) as opened:
        return await _stream(request, answer, opened, headers)


async def _stream(
    request: ClientRequest,
    answer: aiohttp.ClientResponse,
    events: EventStream,
    headers: list[tuple[str, str]],
) -> web.StreamResponse:
    events.add_headers(headers)
    whole = WholeEvents()  # between two events there may be a ping, or an error at the end
    try:
        with ending_as_problem(request.worker):
            while data := await _read(answer):
                if written := whole.feed(data):
                    await events.write(written)
            if rest := whole.rest():
                await events.write(rest)
    except Problem as problem:
        if not events.is_open:
            raise
        request.record.error, request.record.reason = problem.kind, problem.message
        body = error_body(problem, request.record.request_id)
        await events.write(sse.encode(b"error", body))
    return await events.finish()


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    try:
        return await answer.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> Problem:
    text = f"the proxy that answers broke off: {explain(error)}"
    return Problem("overloaded_error", text)
