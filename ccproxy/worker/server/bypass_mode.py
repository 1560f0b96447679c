"""Bypass mode: requests are forwarded, and their responses returned, without conversion."""

from __future__ import annotations

from contextlib import nullcontext

import aiohttp
from aiohttp import web

from ccproxy.protocol.headers import hop_by_hop_names
from ccproxy.worker.peers.peer_stream import SSE, ForwardedEvents, ForwardedStream
from ccproxy.worker.server.event_stream import EventStream
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.stream_relay import relay_stream

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
    stream = ForwardedStream(response, "the response was cut off")
    if response.status != 200 or response.content_type != SSE:
        body = await stream.read_whole()
        return web.Response(status=response.status, body=body, headers=dict(headers))
    async with EventStream(request, commit_after=0, pings=False) as events:
        events.add_headers(headers)
        converter = ForwardedEvents(request.record.request_id)
        return await relay_stream(request, events, converter, nullcontext(stream))
