"""
POST /v1/responses: the Responses API for Codex and other OpenAI clients, over any provider.

A model that its provider serves in this API gets the request itself. For every other model the
request is converted to the Messages API, and takes the way of Claude Code's requests.

Nothing is stored: `store: true` and `previous_response_id` are refused, in the way after which
clients send the whole conversation.
"""

from __future__ import annotations

import time

from aiohttp import web

from ccproxy.convert.exchange import Exchange
from ccproxy.convert.openai_clients.messages_form import MessagesForm
from ccproxy.convert.openai_clients.passed_responses import PassedResponses
from ccproxy.convert.openai_clients.response_writer import ResponseWriter
from ccproxy.convert.openai_clients.sealed_reasoning import ReasoningSeal
from ccproxy.protocol.responses_request import (
    ResponsesOutline,
    read_responses_outline,
    read_responses_request,
)
from ccproxy.worker.peers.choice import Chosen
from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.server import converted_mode, direct_mode
from ccproxy.worker.server.client_dialect import PassedResponsesDialect, ResponsesDialect
from ccproxy.worker.server.http import ClientRequest

_DIALECT = PassedResponsesDialect()
DEFAULT_MAX_TOKENS = 32_000
"""Output tokens if neither the client nor the model's card sets a limit; Claude Code's own value
for unknown models."""


async def responses(request: ClientRequest) -> web.StreamResponse:
    """Answer the request, whole or as a stream."""
    worker = request.worker
    request.dialect = _DIALECT
    body = await request.body()
    outline = read_responses_outline(body)
    chosen = choose(request, body, lambda: _messages_form(request, body, outline.model).body)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen)
    model = chosen.model or worker.rules.pick_model(outline.model)
    is_direct = worker.config.api == "messages"
    if not is_direct and worker.rules.target_of(model).api == "responses":
        return await _pass(request, body, outline, chosen)
    form = _messages_form(request, body, model)
    request.dialect = ResponsesDialect(
        ResponseWriter(
            form.request,
            tools=form.tools,
            seal=form.seal,
            response_id=worker.new_id("resp"),
            created_at=int(time.time()),
        )
    )
    if is_direct:
        return await direct_mode.messages(request, form.body)
    exchange = Exchange(
        form.body,
        rules=worker.rules,
        message_id=worker.new_id("msg"),
        model=chosen.model,
        requested=chosen.requested,
        request_id=request.record.request_id,
        dropped=form.dropped,
    )
    return await converted_mode.answer(request, exchange)


async def _pass(
    request: ClientRequest, body: bytes, outline: ResponsesOutline, chosen: Chosen
) -> web.StreamResponse:
    """Pass the request on to a model that its provider serves in this API."""
    worker = request.worker
    exchange = PassedResponses(
        body,
        outline,
        rules=worker.rules,
        response_id=worker.new_id("resp"),
        created_at=int(time.time()),
        model=chosen.model,
        requested=chosen.requested,
    )
    request.dialect = PassedResponsesDialect(exchange.keep_alive)
    return await converted_mode.answer(request, exchange)


def _messages_form(request: ClientRequest, body: bytes, model: str) -> MessagesForm:
    worker = request.worker
    is_direct = worker.config.api == "messages"
    target = worker.rules.target(model) if is_direct else worker.rules.target_of(model)
    return MessagesForm(
        read_responses_request(body),
        seal=ReasoningSeal(worker.rules.signer, target),
        max_tokens=target.max_output or DEFAULT_MAX_TOKENS,
        with_search=target.quirks.web_search or worker.config.takes_anthropic_keys,
    )
