"""A scripted search engine: a real HTTP server on loopback that answers every search alike."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HITS = [
    {"url": "https://a.example/1", "title": "First", "content": "The answer is <b>42</b>."},
    {"url": "https://docs.b.example/2", "title": "Second", "content": "Another page."},
]


@dataclass(kw_only=True)
class Search:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    json: Any


@dataclass
class SearchEngine:
    """The server; `async with SearchEngine() as engine` runs it."""

    answer: Any = field(default_factory=lambda: {"results": HITS})
    """JSON, or exact bytes."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    calls: list[Search] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> SearchEngine:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        call = Search(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            json=json.loads(body) if body else None,
        )
        self.calls.append(call)
        self.arrived.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.gone.set()
                raise
        data = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        return web.Response(status=self.status, body=data, headers=headers)
