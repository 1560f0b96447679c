"""POST /v1/messages/count_tokens: an estimate of our own, without the network in chat mode."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ccproxy.worker.peers.forward import answer_elsewhere, choose
from ccproxy.worker.server import direct_mode as direct
from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.http import ClientRequest


async def count_tokens(request: ClientRequest) -> web.StreamResponse:
    """Count what a request would put into the model's window."""
    body = await request.body()
    worker = request.worker
    chosen = choose(request, body, rules=False)
    if chosen.place is not None:
        return await answer_elsewhere(request, chosen, path=request.path)
    if worker.config.api == "messages":
        counted = await direct.count_tokens(request, body)
        if counted is not None:
            return counted
    # Claude Code's /context sends 25 at once: between two of them everybody else has a turn.
    async with worker.counting:
        tokens = worker.rules.count(body, model=chosen.model)
        await asyncio.sleep(0)
    return json_response({"input_tokens": max(1, tokens)})
