"""A worker process and its clients."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench import clocks

LABEL = "trust"


@dataclass(slots=True)
class Worker:
    """One running worker."""

    pid: int
    port: int
    home: Path
    session: aiohttp.ClientSession

    async def keys(self) -> list[dict[str, Any]]:
        """Return the rows of `ccproxy keys --json`."""
        return list((await self._ask({"op": "keys"}))["keys"])

    async def permits(self) -> int:
        """Return the number of leases."""
        return sum(row["in_flight"] for row in await self.keys())

    async def reason(self) -> str:
        """Return the state shown by `status`."""
        return str((await self._ask({"op": "state"}))["reason"])

    async def settled(self) -> int:
        """Wait up to a second for all leases to end; return the number of remaining leases."""
        for _ in range(50):
            if not await self.permits():
                return 0
            await asyncio.sleep(0.02)
        return await self.permits()

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        return clocks.resident_mib([self.pid])

    async def post(self, mark: int, *, stream: bool, size: int = 0) -> tuple[int, bytes]:
        """Send one request and read the whole answer."""
        async with self.session.post(self.url, json=question(mark, stream, size)) as answer:
            return answer.status, await answer.read()

    async def begin(
        self, mark: int, *, stream: bool, missing: int = 0
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request over a separate connection, without its last *missing* bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        body = json.dumps(question(mark, stream)).encode()
        head = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(body) + missing}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        return reader, writer

    @property
    def control(self) -> Path:
        """The control socket, at the same path as in a fleet."""
        return _control(self.home)

    @property
    def url(self) -> str:
        """The URL of the messages endpoint."""
        return f"http://127.0.0.1:{self.port}/v1/messages"

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.control)
        writer.write(json.dumps(message).encode() + b"\n")
        line = await reader.read()
        writer.close()
        answer: dict[str, Any] = json.loads(line)
        return answer


def question(mark: int, stream: bool, size: int = 0) -> dict[str, Any]:
    """Return a request that is identified by its *mark*."""
    text = f"mark-{mark} " + "x" * size
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4", "max_tokens": 64, "stream": stream, "messages": messages}


def is_complete(status: int, body: bytes, mark: int) -> bool:
    """Return True if an answer is complete and belongs to this request."""
    ended = b"event: message_stop" in body if body.startswith(b"event:") else b'"end_turn"' in body
    ours = re.search(rb"mark-%d\b" % mark, body) is not None
    return status == 200 and ended and ours and b"event: error" not in body


@asynccontextmanager
async def running(provider_url: str, keys: list[str], **settings: str) -> AsyncIterator[Worker]:
    """Run a worker in front of the provider."""
    with tempfile.TemporaryDirectory(prefix="ccproxy-trust-") as folder:
        home = Path(folder)
        (home / "state").mkdir(mode=0o700)
        variables = {
            "PROVIDER_BASE_URL": provider_url,
            "PROVIDER_API_KEY": ",".join(keys),
            **settings,
        }
        file = home / "a.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        file.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            ready, ready_fd = os.pipe()
            child = await _spawn(home, listener, ready_fd)
            os.close(ready_fd)
            with os.fdopen(ready) as pipe:
                line = await asyncio.to_thread(pipe.readline)
            if '"ready": true' not in line:
                raise RuntimeError(f"the worker did not start: {line}")
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=300)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                port = listener.getsockname()[1]
                try:
                    yield Worker(child.pid, port, home, session)
                finally:
                    child.kill()
                    await child.wait()


async def _spawn(home: Path, listener: socket.socket, ready_fd: int) -> asyncio.subprocess.Process:
    words = ["--home", str(home), "--label", LABEL, "--env-file", "a.env"]
    words += ["--port", str(listener.getsockname()[1]), "--listen-fd", str(listener.fileno())]
    words += ["--ready-fd", str(ready_fd), "--control", str(_control(home)), "--nonce", "n"]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy.worker", *words),
        pass_fds=(listener.fileno(), ready_fd),
        start_new_session=True,
    )


def _control(home: Path) -> Path:
    return home / "state" / f"{LABEL}.1.sock"
