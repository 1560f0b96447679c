"""
The lower bound: aiohttp on both sides and nothing in between.

    python -m bench.relay PORT UPSTREAM

Forwards the bytes of a Messages request to the upstream's Chat Completions endpoint (under
`/direct`, to its Messages endpoint), and returns the bytes of the answer. A proxy that also
converts between APIs with aiohttp cannot cost less than this.
"""

from __future__ import annotations

import sys

import aiohttp
import uvloop
from aiohttp import web

UPSTREAM = web.AppKey("UPSTREAM", str)
SESSION = web.AppKey("SESSION", aiohttp.ClientSession)
HEADERS = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench"}


async def to_chat(request: web.Request) -> web.StreamResponse:
    """Relay the request to Chat Completions."""
    return await _relay(request, "/v1/chat/completions")


async def to_messages(request: web.Request) -> web.StreamResponse:
    """Relay the request to Messages."""
    return await _relay(request, "/v1/messages")


async def _relay(request: web.Request, path: str) -> web.StreamResponse:
    body = await request.read()
    url = request.app[UPSTREAM] + path
    async with request.app[SESSION].post(url, data=body, headers=HEADERS) as answer:
        if answer.content_type != "text/event-stream":
            whole = await answer.read()
            return web.Response(body=whole, content_type="application/json")
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async for data in answer.content.iter_any():
            await response.write(data)
        await response.write_eof()
        return response


async def _session(app: web.Application):
    app[SESSION] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        read_bufsize=2**18,
    )
    yield
    await app[SESSION].close()


def main(port: int, upstream: str) -> None:
    """Serve until the process is terminated."""
    app = web.Application(client_max_size=2**26)
    app[UPSTREAM] = upstream
    app.cleanup_ctx.append(_session)
    app.router.add_post("/v1/messages", to_chat)
    app.router.add_post("/direct/v1/messages", to_messages)
    loop = uvloop.new_event_loop()
    web.run_app(
        app, host="127.0.0.1", port=port, print=None, access_log=None, backlog=4096, loop=loop
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
