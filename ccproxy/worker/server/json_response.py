"""JSON in requests to the worker itself, and in its responses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from ccproxy.errors import Problem
from ccproxy.worker.server.error_response import JSON
from ccproxy.worker.server.http import ClientRequest

MAX_LIMIT = 1000
"""Maximum number of entries in one response."""


def json_response(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    """Return *body* as a JSON response."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type=JSON)


def now() -> str:
    """Return the current time in UTC, in ISO format with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def json_of(request: ClientRequest) -> dict[str, Any]:
    """
    Return the body of *request*; an empty one is an empty object.

    Raises:
        Problem: If the body is not a JSON object.
    """
    body = await request.body()
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        text = f"the request body is not a JSON object: {error}"
        raise Problem("invalid_request_error", text) from error


def limit_of(request: ClientRequest, *, default: int) -> int:
    """
    Return the number of entries that the query requests, at most `MAX_LIMIT`.

    Raises:
        Problem: If `limit` is not a number.
    """
    text = request.query.get("limit", str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem("invalid_request_error", "limit must be a whole number, zero or more")
    return min(int(text), MAX_LIMIT)
