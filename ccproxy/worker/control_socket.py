"""
The worker's control socket: one JSON line in, one out.

    {"op": "state"}                  who this is and how it is
    {"op": "drain", "seconds": 30}   take nothing new, finish what runs, end
    {"op": "listener"}               {"ok": true}, and the listening socket as SCM_RIGHTS
    {"op": "keys", "do": "test", "id": "k2"}    the keys' rows; no id: every key

Only the user's own processes reach it: its mode is 0600. A new supervisor takes over by it what
an old one left behind, so it answers as long as the worker lives, also in a drain.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ccproxy import __version__
from ccproxy.build import installed_build
from ccproxy.logs import LogFile
from ccproxy.worker.admin.session_switches import answer_session
from ccproxy.worker.key_report import answer_keys, reason
from ccproxy.worker.lifecycle import DRAIN_SECONDS, Service
from ccproxy.worker.state import Worker

_BUILD = installed_build()
"""Of this process: read as it starts, before somebody changes the files."""

PATIENCE_SECONDS = 5.0
AGAIN_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""Between two looks whether somebody removed the socket's file."""
LINE_LIMIT = 64 * 1024

Reply = tuple[dict[str, Any], list[int]]
"""What is answered, and the file descriptors that go with it."""


class ControlSocket:
    """Answers whoever connects, one request per connection."""

    def __init__(
        self,
        path: Path,
        worker: Worker,
        service: Service,
        *,
        nonce: str,
        log_file: LogFile | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._path = path
        self._worker = worker
        self._service = service
        self._nonce = nonce
        self._log_file = log_file
        self._look_seconds = look_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._ops: Mapping[str, Callable[[Mapping[str, Any]], Reply]] = {
            "state": self._state,
            "drain": self._drain,
            "listener": self._listener,
        }

    def open(self) -> None:
        """Bind the socket, in place of one that a dead worker left, and answer from now on."""
        self._bind()
        self._start(self._stay())

    def close(self) -> None:
        """Stop answering and remove the socket."""
        for task in self._tasks:
            task.cancel()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _bind(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
        finally:
            os.umask(old_mask)
        self._socket.listen()
        self._socket.setblocking(False)
        self._accepting = self._start(self._accept())

    async def _stay(self) -> None:
        """Make the socket anew where its file was removed: no command would reach us any more."""
        while True:
            await asyncio.sleep(self._look_seconds)
            if self._path.exists():
                continue
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
            self._socket.close()
            with suppress(OSError):  # no room, or a folder that is not ours; the next look tries
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._bind()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # out of descriptors: whoever asks has to wait, not to give up on us
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, TimeoutError):
            connection.setblocking(False)
            async with asyncio.timeout(PATIENCE_SECONDS):
                line = await _read_line(connection)
            reply, fds = await self._answer(line)
            said = msgspec.json.encode(reply) + b"\n"
            if fds:
                # Small enough for any socket buffer, so this neither blocks nor is cut.
                socket.send_fds(connection, [said], fds)
                return
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.get_running_loop().sock_sendall(connection, said)

    async def _answer(self, line: bytes) -> Reply:
        try:
            asked = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return {"ok": False, "error": "not a JSON object"}, []
        if asked.get("op") == "keys":
            return await answer_keys(self._worker, asked), []
        if asked.get("op") == "session":
            return await answer_session(self._worker, asked), []
        op = self._ops.get(str(asked.get("op")))
        if op is None:
            names = ", ".join([*self._ops, "keys", "session"])
            return {"ok": False, "error": f"no such op; there are {names}"}, []
        return op(asked)

    def _state(self, _asked: Mapping[str, Any]) -> Reply:
        worker = self._worker
        session = worker.session
        session.switches.catch_up()
        return {
            "ok": True,
            "pid": os.getpid(),
            "nonce": self._nonce,
            "label": worker.config.label,
            "port": worker.config.port,
            "state": "draining" if worker.draining else "ready",
            "in_flight": len(worker.running),
            "keys": worker.key_counts(),
            "reason": "; ".join(filter(None, (reason(worker), self._log_trouble()))) or None,
            "log_dropped_total": self._log_file.dropped_total if self._log_file else 0,
            "models": worker.tiers(),
            "switched": worker.chooser.switch.name,
            "passes_to": session.transparent.url if session.transparent.is_taken else "",
            "keeps_history": session.conversation.is_on,
            "inspects": session.debug_log.inspects,
            "inspects_s": round(session.debug_log.inspects_for),
            "base_url": worker.config.base_url,
            "started": worker.started,
            "version": __version__,
            "build": _BUILD,
        }, []

    def _log_trouble(self) -> str:
        file = self._log_file
        if file is None or not file.trouble:
            return ""
        return f"{file.trouble} ({file.dropped_total} log lines lost)"

    def _drain(self, asked: Mapping[str, Any]) -> Reply:
        seconds = asked.get("seconds", DRAIN_SECONDS)
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 86400:
            return {"ok": False, "error": '"seconds" must be a number from 0 to 86400'}, []
        self._service.drain(float(seconds))
        return {"ok": True}, []

    def _listener(self, _asked: Mapping[str, Any]) -> Reply:
        if self._worker.draining:
            return {"ok": False, "error": "draining: the listening socket is closed"}, []
        return {"ok": True}, [self._service.listener.fileno()]

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _read_line(connection: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = b""
    while b"\n" not in line and len(line) < LINE_LIMIT:
        data = await loop.sock_recv(connection, 4096)
        if not data:
            break
        line += data
    return line.partition(b"\n")[0]
