"""Claude Code's telemetry, which is discarded: POST /api/event_logging/batch and …/v2/batch."""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response

BODY_LIMIT = 4 * 1024 * 1024
"""Maximum bytes of one batch; no key is required, so the body is never kept."""


async def discard(request: ClientRequest) -> web.Response:
    """Read and discard the events."""
    await request.discard_body(BODY_LIMIT)
    return json_response({})
