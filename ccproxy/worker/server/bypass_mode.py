"""Bypass mode: requests are forwarded, and their responses returned, without conversion."""

from __future__ import annotations

from contextlib import nullcontext

import aiohttp
from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.protocol.headers import hop_by_hop_names
from ccproxy.worker.peers.peer_stream import SSE, ForwardedEvents, ForwardedStream
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.stream_relay import relay_stream
from ccproxy.worker.upstream.connections import explain

_DROPPED_HEADERS = frozenset({"content-length", "content-encoding", "set-cookie", "server", "date"})


async def forward(request: ClientRequest) -> web.StreamResponse:
    """Forward the request and return the response."""
    response = await request.worker.session.bypass.send(
        request.rel_url.raw_path_qs, request.headers, await request.body()
    )
    try:
        return await _return(request, response)
    finally:
        response.close()


async def _return(request: ClientRequest, response: aiohttp.ClientResponse) -> web.StreamResponse:
    dropped = _DROPPED_HEADERS | hop_by_hop_names(response.headers.items())
    headers = [
        (name, value) for name, value in response.headers.items() if name.lower() not in dropped
    ]
    if response.status != 200 or response.content_type != SSE:
        return await _return_body(request, response, dict(headers))
    async with EventStream(request, commit_after=0, pings=False) as events:
        events.add_headers(headers)
        converter = ForwardedEvents(request.record.request_id)
        stream = ForwardedStream(response, "the response broke off")
        return await relay_stream(request, events, converter, nullcontext(stream))


async def _return_body(
    request: ClientRequest, response: aiohttp.ClientResponse, headers: dict[str, str]
) -> web.StreamResponse:
    own = web.StreamResponse(status=response.status, headers=headers)
    if request.worker.requests.draining:
        own.force_close()
    await own.prepare(request)
    request.record.write_chunk()
    try:
        while data := await response.content.readany():
            await own.write(data)
    except (aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError) as error:
        # A clean end would make a part of the body look like the whole.
        request.record.fail(Problem("api_error", explain(error)))
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from error
    await own.write_eof()
    return own
