"""GET and DELETE /debug_logs: the last requests and events, with bodies while INSPECT is on."""

from __future__ import annotations

from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.admin.inspector import KINDS
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response, limit_of


async def show(request: ClientRequest) -> web.Response:
    """Return the last entries of one type, or of all."""
    kind = request.query.get("log_type", "all")
    if kind != "all" and kind not in KINDS:
        text = f"log_type must be all or one of {', '.join(KINDS)}"
        raise Problem("invalid_request_error", text)
    log = request.worker.session.inspector
    entries = log.entries(kind, limit=limit_of(request, default=100))
    body = {"logs": entries, "total_count": log.count(kind), "bodies": log.inspects}
    return json_response(body)


async def clear(request: ClientRequest) -> web.Response:
    """Delete all entries."""
    deleted = request.worker.session.inspector.clear()
    return json_response({"message": f"{deleted} entries deleted", "total_count": 0})
