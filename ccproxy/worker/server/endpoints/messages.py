"""POST /v1/messages: answer with the provider's model, as the Messages API does."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ccproxy.convert.prompt_prefix import read_prompt
from ccproxy.worker.added_features.assisted_answer import (
    answer_assisted,
    requested_assistance,
    requested_direct_assistance,
)
from ccproxy.worker.peers.forward import (
    answer_by_held_fallback,
    answer_by_peer,
    choose,
)
from ccproxy.worker.server import converted_mode, direct_mode
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.provider_exchange import converted
from ccproxy.worker.server.threads import refuse_thread


async def messages(request: ClientRequest) -> web.StreamResponse:
    """Answer the request, whole or as a stream."""
    return await answer(request, await request.body())


async def answer(request: ClientRequest, body: bytes) -> web.StreamResponse:
    """Answer a request with this *body*, which is the client's or was made from it."""
    chosen = choose(request, body, lambda: body)
    if chosen.ref is not None:
        return await answer_by_peer(request, chosen)
    if (response := await answer_by_held_fallback(request, chosen)) is not None:
        return response
    refuse_thread(request, body)
    return await answer_here(request, body)


async def answer_here(
    request: ClientRequest, body: bytes, *, dropped: tuple[str, ...] = ()
) -> web.StreamResponse:
    """
    Answer with this entry's provider, in the dialect of the client.

    *dropped* are the parts of the client's request that *body* was made without.
    """
    if request.worker.config.api == "messages":
        if (assistance := requested_direct_assistance(request, body)) is not None:
            return await answer_assisted(request, assistance)
        request.read_prompt = partial(read_prompt, body, keeps_attribution=True)
        return await direct_mode.messages(request, body, dropped=dropped)
    exchange = converted(request, body, dropped)
    request.read_prompt = exchange.prompt
    if (assistance := requested_assistance(request, exchange)) is not None:
        return await answer_assisted(request, assistance)
    return await converted_mode.answer(request, exchange)
