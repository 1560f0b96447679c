"""A real redis-server for tests, and a backend that waits for each commit."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ccproxy.config.services.redis_address import RedisAddress, parse_redis_url
from ccproxy.keys.key_state import KeyLimits, KeyState
from ccproxy.worker.redis.connection import connect
from ccproxy.worker.redis.redis_backend import RedisBackend

BINARY = shutil.which("redis-server")


class RedisServer:
    """A redis-server on a unix socket or a port, without persistence."""

    def __init__(
        self, folder: Path, *options: str, port: int = 0, config: Path | None = None
    ) -> None:
        """Prepare the server; with *config* it is a Sentinel."""
        if BINARY is None:
            pytest.skip("redis-server is not installed")
        self.path = folder / "redis.sock"
        self.port = port
        self._command = [BINARY, "--port", str(port), "--unixsocket", str(self.path)]
        self._command += ["--save", "", "--appendonly", "no", "--dir", str(folder), *options]
        if config is not None:
            self._command = [BINARY, str(config), "--sentinel", "--unixsocket", str(self.path)]
        self._alive = b"+PONG\r\n"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> RedisAddress:
        """The address on which it listens."""
        return parse_redis_url(f"unix://{self.path}")

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        while not self._answers():
            assert self.process.poll() is None, "redis-server has ended"
            time.sleep(0.005)
        return self

    def start_locked(self) -> RedisServer:
        """Start a server whose options require a password."""
        self._alive = b"-NOAUTH"
        return self.start()

    def stop(self) -> None:
        """Kill it; its data is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.path.unlink(missing_ok=True)

    def ask(self, *words: str | int) -> bytes:
        """Send one command and return the beginning of the answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            parts = [str(word).encode() for word in words]
            client.sendall(b"*%d\r\n" % len(parts))
            client.sendall(b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
            return client.recv(1 << 20)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.ask("PING").startswith(self._alive)
        return False


def redis_backend(address: RedisAddress, *, prefix: str, **options) -> RedisBackend:
    """Return a backend that is not started; must be called in the event loop."""
    fixed = {"salt": b"salt", "limits": KeyLimits(), "timeout": 5.0, "grace": 0.0}
    return RedisBackend(lambda: connect(address, limit=5.0), prefix=prefix, **{**fixed, **options})


class CommittingBackend:
    """
    A Redis backend for synchronous tests: each operation waits for its commit.

    With a *rival*, another replica changes the state before each commit, so that every operation
    must be retried.
    """

    is_first = is_writer = True

    def __init__(self, address: RedisAddress, prefix: str, *, rival: bool) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(address, prefix, rival=rival))
        self.process = self._backend.process
        self.on_remote_change = lambda: None

    async def _open(self, address, prefix, *, rival):
        names = [prefix, prefix] if rival else [prefix]
        self._backend, *self._rivals = [redis_backend(address, prefix=name) for name in names]
        for backend in (self._backend, *self._rivals):
            backend.start()
            await backend.has_contact.wait()

    def reading(self):
        """Return the copy of the state."""
        return self._backend.reading()

    def run(self, operation, *, may_wait=False):
        """Commit *operation*."""
        del may_wait
        return self._loop.run_until_complete(self._commit(operation))

    async def _commit(self, operation):
        for rival in self._rivals:
            await rival.commit(change_something, undo=lambda _: None)
        return await self._backend.commit(operation, undo=lambda _: None)

    @property
    def repeated_calls(self):
        return self._backend.repeated_calls

    def close(self):
        self._loop.run_until_complete(self._backend.close())
        for rival in self._rivals:
            self._loop.run_until_complete(rival.close())
        self._loop.close()


def change_something(state):
    """Change the state of an unused key."""
    state.keys.setdefault("of another configuration", KeyState()).turn += 1
