"""
POST /v1/responses: the Responses API for Codex and other OpenAI clients, over any provider.

A model that its provider serves through this API receives the request itself. For every other model
the request is converted to the Messages API, and handled like Claude Code's requests.

Nothing is stored: `store: true` and `previous_response_id` are refused with the error that makes
clients send the whole conversation.
"""

from __future__ import annotations

import time

from aiohttp import web

from ccproxy.convert.openai_clients.messages_form import MessagesForm
from ccproxy.convert.openai_clients.response_writer import (
    ResponseWriter,
    failed_response,
    new_response,
)
from ccproxy.convert.openai_clients.responses_passthrough import ResponsesPassthrough
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.errors import Problem
from ccproxy.protocol.responses_request import (
    ResponsesOutline,
    read_responses_outline,
    read_responses_request,
)
from ccproxy.worker.peers.choice import Chosen
from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.server import converted_mode
from ccproxy.worker.server.client_dialect import PassedResponsesDialect, ResponsesDialect
from ccproxy.worker.server.endpoints.messages import answer_here
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import noted
from ccproxy.worker.worker import Worker

_DIALECT = PassedResponsesDialect()
DEFAULT_MAX_TOKENS = 32_000
"""Maximum output tokens if neither the client nor the model's card sets a limit; Claude Code uses
the same value for unknown models."""


async def responses(request: ClientRequest) -> web.StreamResponse:
    """Answer the request, whole or as a stream."""
    request.dialect = _DIALECT
    body = await request.model_body()
    outline = read_responses_outline(body)
    try:
        return await _answer(request, body, outline)
    except Problem as problem:
        is_codex = request.headers.get("originator", "").startswith("codex")
        if not (outline.stream and is_codex):
            raise
        return await _fail_in_stream(request, outline, problem)


async def _answer(
    request: ClientRequest, body: bytes, outline: ResponsesOutline
) -> web.StreamResponse:
    worker = request.worker
    chosen = choose(request, body, lambda: messages_form(worker, body, outline.model).body)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen)
    model = chosen.model or worker.rules.pick_model(outline.model)
    is_direct = worker.config.api == "messages"
    if not is_direct and worker.rules.target_of(model).api == "responses":
        return await _pass(request, body, outline, chosen)
    form = messages_form(worker, body, model)
    request.dialect = responses_dialect(
        form, response_id=worker.new_id("resp"), created_at=int(time.time())
    )
    return await answer_here(request, form.body, dropped=form.dropped)


async def _fail_in_stream(
    request: ClientRequest, outline: ResponsesOutline, problem: Problem
) -> web.StreamResponse:
    """
    Answer Codex with a failed response, as OpenAI does.

    On an HTTP error status, Codex repeats the request in two layers, up to 25 times, and neither
    shows the text of a 429 nor waits for the time that it specifies.
    """
    worker = request.worker
    response = new_response(worker.new_id("resp"), int(time.time()), outline.model)
    async with EventStream(request, commit_after=0) as events:
        problem = noted(request, problem)
        await events.write(failed_response(response, problem, has_begun=False))
        return await events.finish()


async def _pass(
    request: ClientRequest, body: bytes, outline: ResponsesOutline, chosen: Chosen
) -> web.StreamResponse:
    """Pass the request on to a model that its provider serves through this API."""
    worker = request.worker
    exchange = ResponsesPassthrough(
        body,
        outline,
        rules=worker.rules,
        response_id=worker.new_id("resp"),
        created_at=int(time.time()),
        model=chosen.model,
        requested=chosen.requested,
        is_recorded=worker.session.recorder.is_on,
    )
    request.dialect = PassedResponsesDialect(exchange.keep_alive)
    return await converted_mode.answer(request, exchange)


def responses_dialect(form: MessagesForm, *, response_id: str, created_at: int) -> ResponsesDialect:
    """Return the dialect that writes the answer to a converted request."""
    return ResponsesDialect(
        ResponseWriter(
            form.request,
            tools=form.tools,
            seal=form.seal,
            response_id=response_id,
            created_at=created_at,
        )
    )


def messages_form(worker: Worker, body: bytes, model: str) -> MessagesForm:
    """Return a Responses API request for *model* as a Messages API request."""
    config = worker.config
    is_direct = config.api == "messages"
    has_engine = config.added_features.searches_directly
    target = worker.rules.target(model) if is_direct else worker.rules.target_of(model)
    return MessagesForm(
        read_responses_request(body),
        seal=ReasoningSeal(worker.rules.signer, target),
        max_tokens=target.max_output or DEFAULT_MAX_TOKENS,
        # Conversion drops a web search that is unavailable; in direct mode the provider would
        # refuse it.
        with_search=not is_direct or config.takes_anthropic_keys or has_engine,
    )
