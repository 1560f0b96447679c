"""
A scripted model provider: a real HTTP server on loopback that answers as the test scripts it.

    provider.script(failure(429, retry_after=1), completion("hello"))

The n-th call gets the n-th answer, and the last answer is repeated; without a script every call
gets `completion("ok")`. An answer may also be a function that receives the call and returns an
answer. A completion is rendered as requested: whole or as SSE, in Chat Completions or, if the path
ends with `/messages` or `/responses`, in that API. Nothing here sleeps: to delay an answer, the
test passes an `asyncio.Event` (`gate=`, or among a stream's parts) and sets it later.

`provider.calls` contains the received calls. `call.gone` is set when the proxy closes the
connection before the answer is complete, `call.done` when the answer has been sent completely.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiohttp import web

from tests.replies import USAGE, JsonPart, Reply, chunk, data_line, streamed, tool_call, whole

__all__ = [
    "Answer",
    "Call",
    "Provider",
    "chunk",
    "completion",
    "failure",
    "hang_up",
    "raw",
    "stream",
    "tool_call",
]

End = Literal["done", "eof", "cut", "reset"]
Part = JsonPart | asyncio.Event
"""A piece of a stream, or an event to wait for before the next piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    The provider's answer to one call; built by the functions below.

    At most one of `reply`, `parts` and `body` is set; without any, the connection is closed before
    the first byte of an answer.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    reply: Reply | None = None
    parts: tuple[Part, ...] | None = None
    end: End = "done"
    body: bytes | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Call:
    """One request that the provider has received."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """With names in lower case."""
    body: bytes
    json: Any
    """The parsed body, or None if it is not JSON."""
    number: int
    """The number of the call, from 0."""
    connection: int
    """The number of the proxy's connection."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> str | None:
        """The API key, from any of its headers."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return bearer or self.headers.get("x-api-key") or self.headers.get("api-key")

    @property
    def streams(self) -> bool:
        """True if the client requested a stream."""
        return isinstance(self.json, dict) and self.json.get("stream") is True


Script = Answer | Callable[[Call], Answer]


# Answers.


def completion(
    text: str = "",
    *,
    tool_calls: Iterable[Mapping[str, Any]] = (),
    reasoning: str = "",
    usage: Mapping[str, Any] | None = USAGE,
    finish: str | None = None,
    headers: Mapping[str, str] | None = None,
    gate: asyncio.Event | None = None,
) -> Answer:
    """Return a whole answer of the model; *finish* defaults to `tool_calls` or `stop`."""
    calls = tuple(dict(call) for call in tool_calls)
    reply = Reply(
        text=text,
        reasoning=reasoning,
        tool_calls=calls,
        usage=usage,
        finish=finish or ("tool_calls" if calls else "stop"),
    )
    return Answer(reply=reply, headers=dict(headers or {}), gate=gate)


def stream(
    *parts: Part,
    end: End = "done",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    gate: asyncio.Event | None = None,
) -> Answer:
    """
    Return an event stream whose parts are written one by one.

    It ends with `data: [DONE]` (`done`), without it (`eof`), or with a connection that is closed in
    the middle of the body (`cut`) or reset (`reset`). *gate* delays the status line.
    """
    return Answer(status=status, headers=dict(headers or {}), gate=gate, parts=parts, end=end)


def failure(
    status: int,
    body: Mapping[str, Any] | str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    retry_after: float | None = None,
    gate: asyncio.Event | None = None,
) -> Answer:
    """Return an error; a text *body* becomes the message of OpenAI's envelope."""
    if not isinstance(body, Mapping):
        message = body or f"scripted failure {status}"
        body = {"error": {"message": message, "type": "scripted", "param": None, "code": None}}
    wait = {} if retry_after is None else {"Retry-After": str(retry_after)}
    content = {"Content-Type": "application/json", **wait, **(headers or {})}
    return Answer(status=status, headers=content, gate=gate, body=json.dumps(body).encode())


def raw(
    body: str | bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    gate: asyncio.Event | None = None,
) -> Answer:
    """Return exactly these bytes as the body; the type is JSON unless *headers* have another."""
    content = {"Content-Type": "application/json", **(headers or {})}
    data = body.encode() if isinstance(body, str) else body
    return Answer(status=status, headers=content, gate=gate, body=data)


def hang_up(*, gate: asyncio.Event | None = None) -> Answer:
    """Close the connection instead of answering."""
    return Answer(gate=gate)


# The server.


class Provider:
    """
    The server; `async with Provider() as provider` runs it, like the fixture.

    Attributes:
        url: The base URL for a proxy, with `/v1`.
        calls: Every POST, in order of arrival.
        other: All other requests, except `GET …/models`, which is answered with `models`.
        pages: The answers to a GET, by path.
    """

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[Call] = []
        self.other: list[Call] = []
        self.models: list[str] = ["scripted-big", "scripted-small"]
        self.pages: dict[str, Script] = {}
        self._script: tuple[Script, ...] = (completion("ok"),)
        self._played = 0
        self._connections: dict[Any, int] = {}
        self._arrival = asyncio.Condition()
        self._faults: list[Exception] = []

    def script(self, *answers: Script) -> None:
        """Play *answers* from the next call on."""
        self._script = answers or (completion("ok"),)
        self._played = 0

    async def called(self, count: int = 1) -> Call:
        """Wait until *count* calls have arrived, and return the last one."""
        async with self._arrival:
            await self._arrival.wait_for(lambda: len(self.calls) >= count)
        return self.calls[count - 1]

    def drop_connections(self) -> None:
        """Close every connection, like a provider that closes idle connections."""
        for transport in self._connections:
            transport.close()

    async def __aenter__(self) -> Provider:
        app = web.Application(client_max_size=2**28)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()
        if self._faults:
            raise self._faults[0]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = await self._record(request)
        is_list = request.method == "GET" and request.path.endswith("/models")
        if is_list and request.path not in self.pages:
            models = [{"id": name, "object": "model"} for name in self.models]
            return web.json_response({"object": "list", "data": models})
        if request.method != "POST":
            self.other.append(call)
            if (page := self.pages.get(request.path)) is not None:
                return await _send(request, call, page if isinstance(page, Answer) else page(call))
            return web.json_response({"error": {"message": "no such route"}}, status=404)
        self.calls.append(call)
        async with self._arrival:
            self._arrival.notify_all()
        try:
            response = await _send(request, call, self._next_answer(call))
        except (ConnectionError, asyncio.CancelledError):
            call.gone.set()
            raise
        call.done.set()
        return response

    async def _record(self, request: web.Request) -> Call:
        body = await request.read()
        transport = request.transport
        return Call(
            method=request.method,
            path=request.path,
            query=request.rel_url.raw_query_string,  # unchanged
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body,
            json=_parse(body),
            number=len(self.calls),
            connection=self._connections.setdefault(transport, len(self._connections)),
        )

    def _next_answer(self, call: Call) -> Answer:
        step = self._script[min(self._played, len(self._script) - 1)]
        self._played += 1
        if isinstance(step, Answer):
            return step
        try:
            return step(call)
        except (AssertionError, LookupError, TypeError) as error:
            # The proxy sees only a 500; the fixture raises the error at its end.
            self._faults.append(error)
            raise


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


async def _send(request: web.Request, call: Call, answer: Answer) -> web.StreamResponse:
    if answer.gate is not None:
        await answer.gate.wait()
    if answer.reply is not None:
        answer = _rendered(answer, answer.reply, call)
    if answer.parts is not None:
        return await _send_parts(request, answer)
    if answer.body is None:
        assert request.transport is not None
        request.transport.close()
        return web.Response()
    response = web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_parts(request: web.Request, answer: Answer) -> web.StreamResponse:
    headers = {"Content-Type": "text/event-stream", **answer.headers}
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    for part in answer.parts or ():
        if isinstance(part, asyncio.Event):
            await part.wait()
        else:
            await response.write(data_line(part) if isinstance(part, dict) else _bytes_of(part))
    assert request.transport is not None
    match answer.end:
        case "cut":
            request.transport.close()  # data that was already written is still delivered
        case "reset":
            request.transport.abort()
        case "done":
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        case "eof":
            await response.write_eof()
    return response


def _bytes_of(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part


def _rendered(answer: Answer, reply: Reply, call: Call) -> Answer:
    request = call.json if isinstance(call.json, dict) else {}
    if call.streams and not call.path.endswith("/count_tokens"):
        end: End = "eof" if call.path.endswith(("/messages", "/responses")) else "done"
        parts = tuple(streamed(reply, call.path, request))
        return replace(answer, reply=None, parts=parts, end=end)
    headers = {"Content-Type": "application/json", **answer.headers}
    body = json.dumps(whole(reply, call.path, request)).encode()
    return replace(answer, reply=None, headers=headers, body=body)
