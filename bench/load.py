"""
The client: connections that keep a target busy and record the answers.

It uses asyncio protocols directly, so that it uses little CPU time compared with the target.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from bench.upstream import END, MARK, STAMP

_MARK = MARK.encode()
_STAMP = re.compile(re.escape(STAMP.encode()) + rb"(\d{16})")
_HEADERS = (
    "Accept: application/json\r\nContent-Type: application/json\r\n"
    "User-Agent: claude-cli/2.1.329 (external, cli)\r\nAuthorization: Bearer sk-bench-client\r\n"
    "anthropic-version: 2023-06-01\r\n"
    "anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14\r\n"
    "x-app: cli\r\nx-stainless-lang: js\r\nx-stainless-os: Linux\r\nx-stainless-timeout: 600\r\n"
    "anthropic-dangerous-direct-browser-access: true\r\nConnection: keep-alive\r\n"
    "x-claude-code-session-id: 3f2a91bc-8a55-4b1e-9d6e-6c1f0f2f7f10\r\n"
)


def post(port: int, path: str, body: bytes) -> bytes:
    """Return the request as bytes."""
    first = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    return f"{first}{_HEADERS}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The load of one sample.

    With `seconds`, each connection sends its next request as soon as it has an answer; with
    `requests`, this is the total number. `marks` is the number of marked chunks in a complete
    answer.
    """

    connections: int = 1
    seconds: float = 0.0
    requests: int | None = None
    marks: int = 1
    pause: float = 0.0
    """Seconds between an answer and the next request."""
    spread: float = 0.0
    """Seconds over which the first requests are distributed."""
    patience: float = 20.0
    """Seconds to wait at the end for unfinished answers."""


@dataclass(slots=True)
class Outcome:
    """The results of a plan. Times are in seconds."""

    answers: int = 0
    failures: int = 0
    chunks: int = 0
    wall: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_chunks: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)


async def play(port: int, request: bytes, plan: Plan) -> Outcome:
    """Run *plan* against the server on *port*."""
    run = _Run(port, request, plan)
    began = time.perf_counter()
    await run.play()
    run.outcome.wall = time.perf_counter() - began
    return run.outcome


class _Run:
    def __init__(self, port: int, request: bytes, plan: Plan) -> None:
        self.port = port
        self.request = request
        self.plan = plan
        self.outcome = Outcome()
        self._left = plan.requests
        self._over = 0.0

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        self._over = loop.time() + self.plan.seconds + self.plan.spread
        step = self.plan.spread / self.plan.connections
        clients = [
            asyncio.create_task(self._client(number * step))
            for number in range(self.plan.connections)
        ]
        limit = self.plan.seconds + self.plan.spread + self.plan.patience
        _, late = await asyncio.wait(clients, timeout=limit)
        for client in late:
            self.outcome.failures += 1
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        connection = None
        await asyncio.sleep(delay)
        try:
            while self._has_more(first=connection is None):
                if connection is None or connection.closed:
                    _, connection = await loop.create_connection(
                        _Connection, "127.0.0.1", self.port
                    )
                await self._ask(connection)
                if self.plan.pause:
                    await asyncio.sleep(self.plan.pause)
        except OSError:
            self.outcome.failures += 1
        finally:
            if connection is not None:
                connection.abort()

    def _has_more(self, *, first: bool) -> bool:
        if self._left is not None:
            self._left -= 1
            return self._left >= 0
        return first or asyncio.get_running_loop().time() < self._over

    async def _ask(self, connection: _Connection) -> None:
        sent_at = time.perf_counter()
        answer = await connection.ask(self.request)
        outcome = self.outcome
        if answer.status != 200 or not answer.whole or answer.marks < self.plan.marks:
            outcome.failures += 1
            return
        outcome.answers += 1
        outcome.chunks += answer.marks
        outcome.lags += answer.lags
        outcome.latencies.append(time.perf_counter() - sent_at)
        outcome.first_chunks.append(answer.first_mark - sent_at)


@dataclass(slots=True)
class _Answer:
    status: int = 0
    whole: bool = False
    marks: int = 0
    first_mark: float = 0.0
    lags: list[float] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    """One keep-alive connection. It counts marks and stores no bodies."""

    def __init__(self) -> None:
        self.closed = False
        self._answer = _Answer()
        self._done: asyncio.Future[_Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop has its own class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.closed = True
        self._finish(whole=False)

    def abort(self) -> None:
        self._transport.abort()

    def ask(self, request: bytes) -> asyncio.Future[_Answer]:
        self._answer = _Answer()
        self._head = b""
        self._left: int | None = None
        self._tail = b""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            return
        if not self._answer.status:
            self._head += data
            head, blank, data = self._head.partition(b"\r\n\r\n")
            if not blank:
                return
            self._read_head(head.lower())
        self._count(data)
        self._tail = (self._tail + data[-7:])[-7:]
        if self._left is None:
            if self._tail == b"\r\n" + END or self._tail == END:
                self._finish(whole=True)
            return
        self._left -= len(data)
        if self._left <= 0:
            self._finish(whole=True)

    def _read_head(self, head: bytes) -> None:
        self._answer.status = int(head[9:12])
        _, found, rest = head.partition(b"\r\ncontent-length:")
        if found:
            self._left = int(rest.split(b"\r\n", 1)[0])

    def _count(self, data: bytes) -> None:
        marks = data.count(_MARK) + (self._tail[-1:] == _MARK[:1] and data[:1] == _MARK[1:])
        if not marks:
            return
        answer = self._answer
        answer.marks += marks
        answer.first_mark = answer.first_mark or time.perf_counter()
        if stamps := _STAMP.findall(data):
            now = time.monotonic_ns() // 1000
            answer.lags += [(now - int(stamp)) / 1e6 for stamp in stamps]

    def _finish(self, *, whole: bool) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            self._answer.whole = whole
            done.set_result(self._answer)


async def get(port: int, path: str) -> bytes:
    """Fetch *path*; return the response, head and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the quantile *share* of *values*, or NaN if there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
