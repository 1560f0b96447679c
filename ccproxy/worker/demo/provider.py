"""
The demo provider: the demo model behind a Chat Completions API on a loopback port.

It runs in the worker's process but is reached over HTTP like any other provider, so that it
exercises the whole proxy without a key or a network.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from ccproxy.worker.demo.model import DemoReply, reply_to, tokens

WORD_SECONDS = 0.01
"""Seconds between two words of a stream."""

_WORD = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+")
_ID = "chatcmpl-demo"


class DemoProvider:
    """Serves the demo model; `url` is the base URL for the worker."""

    def __init__(self, *, word_seconds: float = WORD_SECONDS) -> None:
        self.url = ""
        self._word_seconds = word_seconds

    async def start(self) -> None:
        """Listen on a free loopback port."""
        server = web.Server(self._answer, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/v1/chat/completions":
            return _error(404, f"the demo provider has no {request.path[:100]}")
        body = b"".join([chunk async for chunk in request.content.iter_any()])
        try:
            fields = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            return _error(400, str(error))
        reply = reply_to(fields)
        usage = _usage(body, reply)
        if fields.get("stream") is True:
            return await self._stream(request, fields, reply, usage)
        return _json(_completion(fields, reply, usage))

    async def _stream(
        self,
        request: web.BaseRequest,
        fields: dict[str, Any],
        reply: DemoReply,
        usage: dict[str, int],
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {"id": _ID, "object": "chat.completion.chunk", "model": fields.get("model")}
        for delta in _deltas(reply):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await response.write(_event({**chunk, "choices": [choice]}))
            await asyncio.sleep(self._word_seconds)
        choice = {"index": 0, "delta": {}, "finish_reason": reply.finish_reason}
        await response.write(_event({**chunk, "choices": [choice]}))
        options = fields.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            await response.write(_event({**chunk, "choices": [], "usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _deltas(reply: DemoReply) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if reply.text else None}
    for word in _WORD.findall(reply.text):
        yield {"content": word}
    if reply.tool:
        function = {"name": reply.tool, "arguments": ""}
        call = {"index": 0, "id": reply.call_id, "type": "function", "function": function}
        yield {"tool_calls": [call]}
    for piece in _WORD.findall(reply.arguments):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _completion(fields: dict[str, Any], reply: DemoReply, usage: dict[str, int]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.arguments}
        message["tool_calls"] = [{"id": reply.call_id, "type": "function", "function": function}]
    return {
        "id": _ID,
        "object": "chat.completion",
        "model": fields.get("model"),
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": usage,
    }


def _usage(body: bytes, reply: DemoReply) -> dict[str, int]:
    prompt, completion = max(1, len(body) // 4), tokens(reply.text + reply.arguments)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )


def _error(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message, "type": "demo_error"}}, status=status)
