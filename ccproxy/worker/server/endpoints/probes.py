"""What clients and monitors knock with: short answers that ask nobody."""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.endpoints.health import json_response
from ccproxy.worker.server.http import ClientRequest


async def live(_request: ClientRequest) -> web.Response:
    """GET /livez: the process answers."""
    return web.Response(text="ok")


async def ready(request: ClientRequest) -> web.Response:
    """GET /readyz: new requests are welcome; 503 while the worker drains."""
    if request.worker.draining:
        return web.Response(status=503, text="draining")
    return web.Response(text="ok")


async def hello(_request: ClientRequest) -> web.Response:
    """HEAD or GET /api/hello: Claude Code asks at its start whether there is a way out."""
    return json_response({"message": "hello"})


async def event_logging(request: ClientRequest) -> web.Response:
    """POST /api/event_logging/batch: Claude Code's telemetry, which goes nowhere from here."""
    await request.body()
    return json_response({})
