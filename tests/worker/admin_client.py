"""A client of the admin routes, with the client key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.worker.proxy import Proxy

CLIENT_KEY = "client-key-one-0123456"
AUTH = {"x-api-key": CLIENT_KEY}


@dataclass(frozen=True)
class AdminResponse:
    """The status and the parsed body."""

    status: int
    json: Any

    @property
    def error(self) -> dict[str, Any]:
        """The error object of the body."""
        error: dict[str, Any] = self.json["error"]
        return error


async def admin(proxy: Proxy, call: str, body: Any = None, **headers: str) -> AdminResponse:
    """Send a *call* such as `GET /path`, with the client key."""
    method, path = call.split(" ")
    how = {} if body is None else {"json": body}
    outgoing = {**AUTH, **headers}
    async with proxy.session.request(method, proxy.url + path, headers=outgoing, **how) as response:
        return AdminResponse(response.status, await response.json())
