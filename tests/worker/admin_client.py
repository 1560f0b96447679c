"""The admin routes as a client with the client key asks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.worker.proxy import Proxy

CLIENT_KEY = "client-key-one-0123456"
AUTH = {"x-api-key": CLIENT_KEY}


@dataclass(frozen=True)
class Said:
    """What an admin route answered."""

    status: int
    json: Any

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


async def admin(proxy: Proxy, call: str, body: Any = None, **headers: str) -> Said:
    """Ask `GET /path` and the like, with the client key."""
    method, path = call.split(" ")
    how = {} if body is None else {"json": body}
    sent = {**AUTH, **headers}
    async with proxy.session.request(method, proxy.url + path, headers=sent, **how) as got:
        return Said(got.status, await got.json())
