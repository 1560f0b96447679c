"""
POST /v1/metrics, /v1/logs and /v1/traces: the telemetry of signed-in clients (OTLP over HTTP).

A signed-in session exports here regardless of its own settings, and logs an error for any status
but 200. The telemetry is forwarded if TELEMETRY_URL is set, and discarded otherwise.
"""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.endpoints.event_logging import BODY_LIMIT, discard
from ccproxy.worker.server.endpoints.gateway.oauth import gateway_of
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response

_TYPES = ("application/x-protobuf", "application/json")
"""The content types of OTLP; others are not forwarded."""


async def receive(request: ClientRequest) -> web.Response:
    """Forward or discard a batch."""
    relay = gateway_of(request).telemetry
    if relay is None or request.user is None or request.content_type not in _TYPES:
        return await discard(request)
    body = await request.body(BODY_LIMIT)
    path = f"/v1/{request.path.rstrip('/').rpartition('/')[2]}"  # route_of accepts variants
    await relay.deliver(path, body, content_type=request.content_type, user=request.user.name)
    return json_response({})
