"""
Requests at a steady rate, each over a connection of its own; and a provider that costs nothing.

Plain asyncio streams: an HTTP library would need more time than the proxy that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

BODY = json.dumps(
    {"model": "claude-opus-4-1", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
).encode()
AT_ONCE = 800
STREAMED = BODY[:-1] + b', "stream": true}'


def request_bytes(body: bytes, path: str = "/v1/messages") -> bytes:
    """A request that closes its connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Traffic:
    """
    Asks at *rate* requests per second until the block ends, whether or not it is answered.

    A machine that is too slow for the rate gets no more than it may have at once: a worker takes
    1,024 connections, and answers 503 to the next.
    """

    def __init__(self, port: int, *, rate: float) -> None:
        self.port = port
        self.rate = rate
        self.answered = 0
        self.answered_at = 0.0
        self.refused = 0
        """The port took no connection."""
        self.broken: list[str] = []
        """What else was no answer."""
        self.slowest = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Traffic:
        self._pacing = asyncio.create_task(self._pace())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pacing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._pacing
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=30)

    async def _pace(self) -> None:
        begun, started = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - begun) * self.rate)
            for _ in range(min(due - started, AT_ONCE - len(self._tasks))):
                task = asyncio.create_task(self._ask())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            started = due
            await asyncio.sleep(0.01)

    async def _ask(self) -> None:
        begun = time.monotonic()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            self.refused += 1
            return
        except OSError as error:
            self.broken.append(str(error))
            return
        try:
            writer.write(request_bytes(BODY))
            answer = await reader.read()
        except OSError as error:
            self.broken.append(str(error))
            return
        finally:
            writer.close()
        if answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}"):
            self.answered += 1
            self.answered_at = time.monotonic()
            self.slowest = max(self.slowest, self.answered_at - begun)
        else:
            self.broken.append(answer[:300].decode(errors="replace"))


# The provider.


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


_CHUNKS = b"".join(
    [
        _chunk({"role": "assistant", "content": "Hello"}),
        _chunk({"content": " there"}),
        _chunk({}, "stop"),
        b"data: [DONE]\n\n",
    ]
)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_CHUNKS),
    _CHUNKS,
)
_MESSAGE = json.dumps(
    {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ]
    }
).encode()
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(_MESSAGE),
    _MESSAGE,
)


class _Provider(asyncio.Protocol):
    def __init__(self, open_connections: set[asyncio.BaseTransport]) -> None:
        self._open = open_connections
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        if end and len(body) >= int(length or b"0"):
            self._data = b""
            is_streamed = b'"stream":true' in body.replace(b" ", b"")
            self._transport.write(_STREAM if is_streamed else _WHOLE)


class CheapProvider:
    """A Chat Completions server that answers hello; `url` is its base URL."""

    def __init__(self) -> None:
        self._open: set[asyncio.BaseTransport] = set()

    async def __aenter__(self) -> CheapProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Provider(self._open), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection, as a provider does that has been idle for long."""
        for connection in tuple(self._open):
            connection.close()
