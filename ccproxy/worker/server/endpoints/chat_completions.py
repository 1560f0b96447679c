"""POST /v1/chat/completions: Chat Completions for OpenAI clients, with the same keys and models."""

from __future__ import annotations

from aiohttp import web

from ccproxy.convert.openai_clients.completions_passthrough import CompletionsPassthrough
from ccproxy.errors import Problem
from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.server import converted_mode
from ccproxy.worker.server.client_dialect import CompletionsDialect
from ccproxy.worker.server.http import ClientRequest

_DIALECT = CompletionsDialect()


async def chat_completions(request: ClientRequest) -> web.StreamResponse:
    """Forward an OpenAI client's request to the model that its model name maps to."""
    worker = request.worker
    request.dialect = _DIALECT
    body = await request.model_body()
    chosen = choose(request, body, None)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen)
    if worker.config.api == "messages":
        text = "this proxy's provider serves the Messages API: use /v1/messages or /v1/responses"
        raise Problem("not_found_error", text)
    exchange = CompletionsPassthrough(
        body,
        rules=worker.rules,
        request_id=request.record.request_id,
        model=chosen.model,
        requested=chosen.requested,
        is_recorded=worker.session.recorder.is_on,
    )
    return await converted_mode.answer(request, exchange)
