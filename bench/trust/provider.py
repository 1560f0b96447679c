"""A scripted provider for load tests, which counts requests and disconnects."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

MARK = re.compile(rb"mark-(\d+)")
_STAMP = re.compile(rb"at-(\d+)-")
_FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_USAGE = {"prompt_tokens": 10, "completion_tokens": 20}


@dataclass(slots=True)
class Call:
    """One received request."""

    key: str
    mark: int
    streams: bool
    at: float = field(default_factory=time.monotonic)


Behave = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Provider:
    """The records of a run."""

    behave: Behave
    url: str = ""
    by_key: Counter[str] = field(default_factory=Counter)
    by_mark: Counter[int] = field(default_factory=Counter)
    """Started answers, by the mark in the prompt."""
    aborted: int = 0
    """Answers whose connection the worker closed."""
    open: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        body = await request.read()
        match = MARK.search(body)
        call = Call(
            key=request.headers["Authorization"].removeprefix("Bearer "),
            mark=int(match[1]) if match else -1,
            streams=b'"stream":true' in body.replace(b" ", b""),
        )
        self.by_key[call.key] += 1
        self.open += 1
        try:
            return await self.behave(request, call)
        except (ConnectionError, asyncio.CancelledError):
            self.aborted += 1
            raise
        finally:
            self.open -= 1

    async def good(
        self, request: web.Request, call: Call, *, chunks: int = 20, pause: float = 0.0
    ) -> web.StreamResponse:
        """Answer like a model, whole or in *chunks* chunks with a *pause* between them."""
        self.by_mark[call.mark] += 1
        if not call.streams:
            await asyncio.sleep(chunks * pause)
            return web.json_response(whole(f"mark-{call.mark}"))
        response = await begun(request)
        for number in range(chunks):
            await response.write(piece(f"{number} mark-{call.mark} "))
            if pause:
                await asyncio.sleep(pause)
        await response.write(_END)
        await response.write_eof()
        return response


async def begun(request: web.Request) -> web.StreamResponse:
    """Start a stream."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def stamped(
    request: web.Request, *, delay: float, chunks: int, pause: float
) -> web.StreamResponse:
    """Answer after *delay* with chunks that contain the time when they are sent."""
    response = await begun(request)
    await asyncio.sleep(delay)
    for _ in range(chunks):
        await response.write(piece(f"at-{time.monotonic_ns()}-"))
        await asyncio.sleep(pause)
    await response.write(_END)
    return response


async def read_lags(answer: aiohttp.ClientResponse, lags: list[float]) -> None:
    """Read an answer of `stamped`; append the delay of each chunk in ms to *lags*."""
    async for data in answer.content.iter_any():
        now = time.monotonic_ns()
        lags.extend((now - int(at)) / 1e6 for at in _STAMP.findall(data))


def failure(status: int, text: str, **headers: str) -> web.Response:
    """Return an error in OpenAI's form."""
    return web.json_response(
        {"error": {"message": text, "type": "error", "code": None}}, status=status, headers=headers
    )


def whole(text: str) -> dict[str, object]:
    """Return a whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": _USAGE}


def piece(text: str) -> bytes:
    """Return one chunk of a stream."""
    return _line({"choices": [{"index": 0, "delta": {"content": text}}]})


def _line(content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


_END = _line(_FINISH) + b"data: [DONE]\n\n"


@asynccontextmanager
async def serving(behave: Behave | None = None) -> AsyncIterator[Provider]:
    """Run a provider; without *behave* every request succeeds."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # disconnects are expected here
    provider = Provider(behave=behave or _unset)
    if behave is None:
        provider.behave = provider.good
    app = web.Application(client_max_size=2**28)
    app.router.add_post("/{path:.*}", provider.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield provider
    finally:
        await runner.cleanup()


async def _unset(_request: web.Request, _call: Call) -> web.StreamResponse:
    raise LookupError("no behaviour")
