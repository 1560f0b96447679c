"""POST /v1/messages/count_tokens: the provider's count in direct mode, else an estimate."""

from __future__ import annotations

import asyncio

from aiohttp import web

from ccproxy.worker.peers.forward import answer_by_peer, choose
from ccproxy.worker.peers.peer_request import payer_of
from ccproxy.worker.server import direct_mode
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def count_tokens(request: ClientRequest) -> web.StreamResponse:
    """Return how many tokens a request would take in the model's window."""
    body = await request.model_body()
    worker = request.worker
    chosen = choose(request, body, None)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen, path=request.path)
    model = chosen.model or worker.rules.pick_model(chosen.name)
    worker.payers.check_rights(payer_of(request)[1], model=model)
    if worker.config.api == "messages":
        response = await direct_mode.count_tokens(request, body)
        if response is not None:
            return response
    # Claude Code's /context sends 25 of these at once; let other requests run in between.
    async with worker.counting.turn:
        tokens = worker.rules.count(body, model=chosen.model)
        await asyncio.sleep(0)
    return json_response({"input_tokens": max(1, tokens)})
