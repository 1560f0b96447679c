"""
Requests at a steady rate, each over a new connection, and a provider that uses little CPU time.

Both use asyncio streams, because an HTTP library would need more time than the measured proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

from bench import upstream

BODY = json.dumps(
    {"model": "claude-opus-4-1", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
).encode()
AT_ONCE = 800
STREAMED = BODY[:-1] + b', "stream": true}'


def request_bytes(body: bytes, path: str = "/v1/messages") -> bytes:
    """Return a request that closes its connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Traffic:
    """
    Sends *rate* requests per second until the block ends, without waiting for answers.

    On a slow machine it limits the number of open requests, because a worker accepts 1,024
    connections and answers 503 to any further one.
    """

    def __init__(self, port: int, *, rate: float) -> None:
        self.port = port
        self.rate = rate
        self.answered = 0
        self.answered_at = 0.0
        self.refused = 0
        """The number of refused connections."""
        self.broken: list[str] = []
        """The other failures."""
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


class _Connection(upstream.Connection):
    mode = upstream.Mode(chunks=2)

    def close(self) -> None:
        self._transport.close()


class CheapProvider:
    """A Chat Completions server with prepared answers; `url` is its base URL."""

    def __init__(self) -> None:
        self._connections: list[_Connection] = []

    async def __aenter__(self) -> CheapProvider:
        loop = asyncio.get_running_loop()

        def connect() -> _Connection:
            self._connections.append(_Connection(loop))
            return self._connections[-1]

        self._server = await loop.create_server(connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close every connection, like a provider that closes idle connections."""
        for connection in self._connections:
            connection.close()
