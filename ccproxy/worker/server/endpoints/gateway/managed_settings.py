"""GET /managed/settings: the settings that the gateway's owner defines for Claude Code."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import msgspec
from aiohttp import web

from ccproxy.config.locations import is_writable_by_others
from ccproxy.errors import Problem
from ccproxy.files import read_regular
from ccproxy.protocol.json_splice import NOT_JSON
from ccproxy.worker.server.http import ClientRequest
from ccproxy.worker.server.json_response import json_response


async def managed_settings(request: ClientRequest) -> web.Response:
    """
    Return the user's settings; 304 if the client has them, 404 if there are none.

    Claude Code computes the same checksum, over the JSON with sorted keys and without spaces.
    """
    user = request.user
    if user is None or user.settings is None:
        raise Problem("not_found_error", "no settings are set for this user")
    settings = await asyncio.to_thread(_read, user.settings)
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checksum = "sha256:" + sha256(text.encode()).hexdigest()
    headers = {"ETag": f'"{checksum}"', "Cache-Control": "no-cache"}
    tags = [tag.strip() for tag in request.headers.get("If-None-Match", "").split(",")]
    if f'"{checksum}"' in tags:
        return web.Response(status=304, headers=headers)
    body = {"uuid": f"ccproxy-{user.role or user.name}", "checksum": checksum}
    response = json_response({**body, "settings": settings})
    response.headers.update(headers)
    return response


def _read(file: Path) -> dict[str, object]:
    try:
        if is_writable_by_others(file):
            # Settings can run commands on every user's machine.
            text = f"{file.name} is writable by other users; run: chmod 600 {file.name}"
            raise Problem("api_error", f"the settings are not sent: {text}")
        settings = msgspec.json.decode(read_regular(file))
    except (OSError, *NOT_JSON) as error:
        # The path is omitted, because users should not see it.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        text = f"the settings in {file.name} are unreadable: {reason}"
        raise Problem("api_error", text) from error
    if not isinstance(settings, dict):
        raise Problem("api_error", f"the settings in {file.name} are not a JSON object")
    return settings
