"""What answers for the Messages API while the proxy is disabled: status and bytes as they come."""

from __future__ import annotations

import aiohttp
from aiohttp import web

from ccproxy.protocol.headers import hop_by_hop_names
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.upstream.connections import explain

_NOT_TOLD = frozenset({"content-length", "content-encoding", "set-cookie", "server", "date"})


async def forward(request: ClientRequest) -> web.StreamResponse:
    """Send the request on, and its answer back."""
    answer = await request.worker.session.bypass.send(
        request.rel_url.raw_path_qs, request.headers, await request.body()
    )
    try:
        return await _returned(request, answer)
    finally:
        answer.close()


async def _returned(request: ClientRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    dropped = _NOT_TOLD | hop_by_hop_names(answer.headers.items())
    headers = {name: value for name, value in answer.headers.items() if name.lower() not in dropped}
    response = web.StreamResponse(status=answer.status, headers=headers)
    if request.worker.draining:
        response.force_close()
    await response.prepare(request)
    request.record.first_byte()
    while data := await _read(request, answer):
        await response.write(data)
    await response.write_eof()
    return response


async def _read(request: ClientRequest, answer: aiohttp.ClientResponse) -> bytes:
    """Read on; where the answer breaks off, so does ours: a clean end would say it is whole."""
    try:
        return await answer.content.readany()
    except (aiohttp.ClientError, TimeoutError) as error:
        request.record.error, request.record.reason = "api_error", explain(error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from error
