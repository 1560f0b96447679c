"""HEAD and GET /api/hello: Claude Code's connectivity check at startup."""

from __future__ import annotations

from aiohttp import web

from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def hello(_request: ClientRequest) -> web.Response:
    """Answer the check."""
    return json_response({"message": "hello"})
