"""POST /v1/messages: answer with the provider's model, as the Messages API does."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ccproxy.convert.direct.passthrough import Passthrough
from ccproxy.convert.exchange import Exchange
from ccproxy.convert.prompt_prefix import read_prompt
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
    return await answer(request, await request.model_body())


async def answer(request: ClientRequest, body: bytes) -> web.StreamResponse:
    """Answer a request; *body* is the client's body or derived from it."""
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

    *dropped* lists the parts of the client's request that *body* lacks.
    """
    if request.worker.config.api == "messages":
        passed = direct_mode.passthrough(request, body, dropped)
        if (assisted := await _answer_directly_assisted(request, passed, body)) is not None:
            return assisted
        request.read_prompt = partial(read_prompt, body, keeps_attribution=True)
        return await direct_mode.answer(request, passed)
    exchange = converted(request, body, dropped)
    request.read_prompt = exchange.prompt
    if (assisted := await _answer_assisted(request, exchange)) is not None:
        return assisted
    return await converted_mode.answer(request, exchange)


# Added features are imported on the first request that needs them: most workers need none.


async def _answer_assisted(request: ClientRequest, exchange: Exchange) -> web.StreamResponse | None:
    """Answer a converted request with ccproxy's added features; return None if none apply."""
    may_add = exchange.searches or exchange.has_media or exchange.defers_tools
    if not may_add and not request.worker.config.added_features.judge:
        return None
    from ccproxy.worker.added_features.assisted_answer import answer_assisted, requested_assistance

    assistance = requested_assistance(request, exchange)
    return None if assistance is None else await answer_assisted(request, assistance)


async def _answer_directly_assisted(
    request: ClientRequest, exchange: Passthrough, body: bytes
) -> web.StreamResponse | None:
    """Answer a direct request with ccproxy's added features; return None if none apply."""
    features = request.worker.config.added_features
    if not (features.searches_directly or features.describer):
        return None
    from ccproxy.worker.added_features.assisted_answer import (
        answer_assisted,
        requested_direct_assistance,
    )

    assistance = requested_direct_assistance(request, exchange, body)
    return None if assistance is None else await answer_assisted(request, assistance)
