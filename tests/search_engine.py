"""A scripted search engine: a real HTTP server on loopback with the same answer to every search."""

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


# The search APIs of model providers: path and answer by preset.

CITATION = {"type": "url_citation", "url": "https://a.example/1", "title": "First"}
RESPONSES: dict[str, Any] = {
    "output": [
        {"type": "web_search_call", "action": {"type": "search", "query": "q", "sources": []}},
        {"type": "message", "content": [{"type": "output_text", "text": "It is 42.",
         "annotations": [CITATION]}]},
    ]
}  # fmt: skip
CHAT_CITATION = {"url": "https://a.example/1", "title": "First", "content": "It is 42."}
OWN_SEARCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "deepseek": ("/v1/tools/search", {"results": [
        {"url": "https://a.example/1", "title": "First", "snippet": "It is 42."}]}),
    "zai": ("/api/paas/v4/web_search", {"search_result": [
        {"link": "https://a.example/1", "title": "First", "content": "It is 42."}]}),
    "bigmodel": ("/api/paas/v4/web_search", {"search_result": [
        {"link": "https://a.example/1", "title": "First", "content": "It is 42."}]}),
    "kimi": ("/v1/formulas/moonshot/web-search:latest/fibers", {"context": {
        "output": "First: It is 42. https://a.example/1."}}),
    "minimax": ("/v1/coding_plan/search", {"base_resp": {"status_code": 0}, "organic": [
        {"link": "https://a.example/1", "title": "First", "snippet": "It is 42."}]}),
    "openai": ("/v1/responses", RESPONSES),
    "xai": ("/v1/responses", RESPONSES),
    "qwen": ("/v1/responses", RESPONSES),
    "doubao": ("/v1/responses", RESPONSES),
    "openrouter": ("/v1/chat/completions", {"choices": [{"message": {
        "content": "It is 42.",
        "annotations": [{"type": "url_citation", "url_citation": CHAT_CITATION}]}}]}),
    "gemini": ("/v1beta/models/own-model:generateContent", {"candidates": [{
        "content": {"parts": [{"text": "It is 42."}]},
        "groundingMetadata": {"groundingChunks": [
            {"web": {"uri": "https://a.example/1", "title": "a.example"}}]}}]}),
    "groq": ("/v1/chat/completions", {"choices": [{"message": {
        "content": "It is 42.", "executed_tools": [{"search_results": {"results": [
            {"url": "https://a.example/1", "title": "First", "content": "It is 42."}]}}]}}]}),
    "mistral": ("/v1/conversations", {"outputs": [{"content": [
        {"type": "text", "text": "It is 42."},
        {"type": "tool_reference", "title": "First", "url": "https://a.example/1"}]}]}),
}  # fmt: skip


def own_key(preset: str) -> str:
    """Return a key that may search at the provider; MiniMax requires a coding plan."""
    return f"sk-cp-{preset}-0123456789"


@dataclass(kw_only=True)
class Search:
    """One search request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """With names in lower case."""
    json: Any


@dataclass
class SearchEngine:
    """The server; `async with SearchEngine() as engine` runs it."""

    answer: Any = field(default_factory=lambda: {"results": HITS})
    """A JSON value, or exact bytes."""
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
