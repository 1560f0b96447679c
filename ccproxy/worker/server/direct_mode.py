"""
Direct mode: the provider speaks Messages itself, and hears and answers in its own words.

The pool, the retries and the relaying are those of chat mode. What differs: the client's
Messages headers go along, the provider's status, error body and limit headers come back, and a
refusal of a field is learnt (`convert/direct/learning.py`).
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack

from aiohttp import web

from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol.headers import answer_headers
from ccproxy.worker.peers.forward import route_headers, stand_in
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.event_stream import EventStream, relay
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.message_response import WholeAnswer
from ccproxy.worker.server.provider_exchange import (
    ending_as_problem,
    note_answer,
    note_asked,
    note_end,
    outgoing,
    telling_mistakes,
    told,
)
from ccproxy.worker.upstream.client import Answer

_NO_COUNTING = frozenset({400, 403, 404, 405, 501})
"""Statuses that say that a server does not count tokens; then ccproxy estimates."""
_COUNT = re.compile(rb'"input_tokens"\s*:\s*[0-9]')


async def messages(request: ClientRequest, body: bytes) -> web.StreamResponse:
    """Relay a request and its answer, whole or as a stream."""
    worker = request.worker
    asked = _asked(request, body)
    asked.body = worker.lessons.apply(asked.body, asked.model)
    note_asked(request, asked)
    if asked.streams:
        return await _stream(request, asked)
    try:
        return await _whole(request, asked)
    except Problem as problem:
        if (instead := await stand_in(request, problem)) is None:
            raise
        return instead


async def count_tokens(request: ClientRequest, body: bytes) -> web.Response | None:
    """Let the provider count; None if it does not."""
    worker = request.worker
    if worker.counts_itself:
        return None
    asked = _asked(request, body)
    note_asked(request, asked)
    sent = outgoing(request, asked, worker.config.count_url(), headers=request.headers)
    try:
        async with worker.upstream.send(sent) as answer:
            note_answer(request, answer)
            counted = await answer.read()
    except Problem as problem:
        if problem.status not in _NO_COUNTING:
            raise
        worker.counts_itself = problem.status in (404, 405, 501)
        return None
    if not _COUNT.search(counted):
        return None
    return web.Response(body=counted, content_type=JSON)


def _asked(request: ClientRequest, body: bytes) -> Passthrough:
    chosen = request.chosen
    return Passthrough(
        body,
        rules=request.worker.rules,
        request_id=request.record.request_id,
        model=chosen.model if chosen else None,
        requested=chosen.requested if chosen else "",
    )


async def _whole(request: ClientRequest, asked: Passthrough) -> web.StreamResponse:
    async with AsyncExitStack() as stack:
        answer = await _ask(stack, request, asked)
        body = asked.whole(await answer.read())
    note_end(request, asked)
    headers = _headers(answer) | dict(route_headers(request))
    return WholeAnswer(
        body, request_id=request.record.request_id, status=answer.status, headers=headers
    )


async def _stream(request: ClientRequest, asked: Passthrough) -> web.StreamResponse:
    worker = request.worker
    async with EventStream(request, commit_after=worker.config.early_commit) as events:
        events.add_headers(route_headers(request))
        try:
            with ending_as_problem(worker):
                async with AsyncExitStack() as stack, telling_mistakes(request, events):
                    await _relay(await _ask(stack, request, asked), asked, events)
        except Problem as problem:
            if (instead := await stand_in(request, problem, events)) is not None:
                return instead
            if not events.is_open:
                raise
            await events.write(asked.fail(told(request, problem)))
        finally:
            note_end(request, asked)
        return await events.finish()


async def _relay(answer: Answer, asked: Passthrough, events: EventStream) -> None:
    if not answer.is_stream:
        raise BadAnswer("the provider answered a request for a stream without one")
    events.add_headers(answer_headers(answer.headers.items()))
    await relay(answer, events, asked.feed)
    if rest := asked.close():
        await events.write(rest)


async def _ask(stack: AsyncExitStack, request: ClientRequest, asked: Passthrough) -> Answer:
    """Send the request; once more without what the provider minds, if it says what that is."""
    worker = request.worker
    url = worker.config.messages_url() + request.raw_query
    sent = outgoing(request, asked, url, headers=request.headers)
    try:
        answer = await stack.enter_async_context(worker.upstream.send(sent))
    except Problem as problem:
        rest = worker.lessons.learn(problem, asked.body, asked.model)
        if rest is None or rest == asked.body:
            raise
        worker.log.info("request.lesson_learnt", model=asked.model, reason=problem.message)
        asked.body = rest
        sent = outgoing(request, asked, url, headers=request.headers)
        answer = await stack.enter_async_context(worker.upstream.send(sent))
    note_answer(request, answer)
    return answer


def _headers(answer: Answer) -> dict[str, str]:
    """Return what of the provider's headers the client sees; the request's id is ours."""
    kept = {name.lower(): value for name, value in answer_headers(answer.headers.items())}
    kept.pop("request-id", None)
    return {"content-type": JSON} | kept
