"""A worker process of its own, and clients that ask it."""

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

PATIENCE = 30.0


@dataclass(slots=True)
class Worker:
    """One running worker."""

    pid: int
    port: int
    control: Path
    session: aiohttp.ClientSession

    async def keys(self) -> list[dict[str, Any]]:
        """Return the keys' rows, as `ccproxy keys --json` shows them."""
        return list((await self._ask({"op": "keys"}))["keys"])

    async def permits(self) -> int:
        """Return how many permits are out."""
        return sum(row["in_flight"] for row in await self.keys())

    async def reason(self) -> str:
        """Return what `status` says."""
        return str((await self._ask({"op": "state"}))["reason"])

    async def settled(self) -> int:
        """Wait until all permits are back, for a second; return how many are not."""
        for _ in range(50):
            if not await self.permits():
                return 0
            await asyncio.sleep(0.02)
        return await self.permits()

    def resident(self) -> float:
        """Return the resident memory in MiB."""
        return clocks.resident_mib([self.pid])

    async def post(self, mark: int, *, stream: bool, size: int = 0) -> tuple[int, bytes]:
        """Ask once and read the answer to its end."""
        async with self.session.post(self.url, json=question(mark, stream, size)) as answer:
            return answer.status, await answer.read()

    @property
    def url(self) -> str:
        """Where messages are asked for."""
        return f"http://127.0.0.1:{self.port}/v1/messages"

    async def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.control)
        writer.write(json.dumps(asked).encode() + b"\n")
        line = await reader.read()
        writer.close()
        answer: dict[str, Any] = json.loads(line)
        return answer


def question(mark: int, stream: bool, size: int = 0) -> dict[str, Any]:
    """A request that can be recognised by its *mark*."""
    text = f"mark-{mark} " + "x" * size
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4", "max_tokens": 64, "stream": stream, "messages": messages}


def is_complete(status: int, body: bytes, mark: int) -> bool:
    """Tell whether an answer is whole, and the one to this question."""
    ended = b"event: message_stop" in body if body.startswith(b"event:") else b'"end_turn"' in body
    ours = re.search(rb"mark-%d\b" % mark, body) is not None
    return status == 200 and ended and ours and b"event: error" not in body


@asynccontextmanager
async def running(provider_url: str, keys: list[str], **settings: str) -> AsyncIterator[Worker]:
    """Run a worker before the provider."""
    with tempfile.TemporaryDirectory(prefix="ccproxy-trust-") as folder:
        home = Path(folder)
        given = {"PROVIDER_BASE_URL": provider_url, "PROVIDER_API_KEY": ",".join(keys), **settings}
        file = home / "a.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        file.chmod(0o600)
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            ready, told = os.pipe()
            child = await _spawn(home, listener, told)
            os.close(told)
            with os.fdopen(ready) as pipe:
                said = await asyncio.to_thread(pipe.readline)
            if '"ready": true' not in said:
                raise RuntimeError(f"the worker did not start: {said}")
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=300)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                port = listener.getsockname()[1]
                try:
                    yield Worker(child.pid, port, home / "c.sock", session)
                finally:
                    child.kill()
                    await child.wait()


async def _spawn(home: Path, listener: socket.socket, told: int) -> asyncio.subprocess.Process:
    words = ["--home", str(home), "--label", "trust", "--env-file", "a.env"]
    words += ["--port", str(listener.getsockname()[1]), "--listen-fd", str(listener.fileno())]
    words += ["--ready-fd", str(told), "--control", str(home / "c.sock"), "--nonce", "n"]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ccproxy.worker", *words),
        pass_fds=(listener.fileno(), told),
        start_new_session=True,
    )
