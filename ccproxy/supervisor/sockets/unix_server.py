"""Control sockets on the event loop: the supervisor's server, and its requests to workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from ccproxy.ipc.control_messages import Request, encode
from ccproxy.supervisor.processes.descriptors import OUT_OF_DESCRIPTORS, DescriptorReserve
from ccproxy.supervisor.sockets.peer_credentials import trusted_peer
from ccproxy.supervisor.sockets.unix_socket import (
    MAX_LINE,
    UNSUPPORTED,
    FolderWithoutModes,
    NoAnswer,
    WorkerRefused,
    decode_reply,
    prepare_folder,
)
from ccproxy.supervisor.state.lock import is_same_file

ACCEPT_PAUSE = 0.2
"""Seconds to pause accepting when no descriptor is left, not even the reserve."""

Send = Callable[[bytes], None]
Handler = Callable[[bytes, Send], Awaitable[bytes]]
"""Takes a request line and a function that sends progress lines; returns the reply line."""

T = TypeVar("T")


async def ask_worker_async(path: Path | str, request: Request, kind: type[T]) -> T:
    """
    Send one request to a worker and return its reply; the caller sets the time limit.

    Raises:
        NoAnswer: If no worker of this user listens or it refuses, or the reply is not of *kind*.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=MAX_LINE)
    except OSError as error:
        raise NoAnswer(f"{path}: {error}") from error
    try:
        trusted_peer(writer.get_extra_info("socket"))
        writer.write(encode(request))
        return decode_reply(kind, await reader.readline(), path)
    except (OSError, ValueError, WorkerRefused) as error:
        raise NoAnswer(f"{path}: {error}") from error
    finally:
        writer.close()


class UnixServer:
    """
    Answers one request per connection.

    *paths* are tried in turn: the first is used unless its file system does not support sockets.
    """

    def __init__(self, *paths: Path, handler: Handler) -> None:
        self.path = paths[0]
        self._paths = paths
        self._handler = handler
        self._listener: socket.socket | None = None
        self._file: os.stat_result | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reserve = DescriptorReserve()

    def start(self) -> None:
        """
        Listen, replacing any file at the path; the caller holds the fleet's lock.

        Raises:
            OSError: If no path can be used.
        """
        before = self._listener
        for path in self._paths:
            try:
                self._listen(path)
                break
            except OSError as error:
                is_unsupported = isinstance(error, FolderWithoutModes) or error.errno in UNSUPPORTED
                if path == self._paths[-1] or not is_unsupported:
                    raise
        if before is not None:
            self._stop(before)

    def restore(self) -> bool:
        """Listen again if the socket's file was removed; return whether it was."""
        if self._is_in_place:
            return False
        self.start()
        return True

    async def close(self) -> None:
        """Finish pending replies, then stop."""
        self._reserve.close()
        if self._listener is None:
            return
        self._stop(self._listener)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)
        if self._is_in_place:
            with contextlib.suppress(OSError):  # the folder has become read-only
                self.path.unlink(missing_ok=True)

    @property
    def _is_in_place(self) -> bool:
        return self._file is not None and is_same_file(self.path, self._file)

    def _listen(self, path: Path) -> None:
        prepare_folder(path)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(os.fspath(path))
            path.chmod(0o600)
            listener.listen()
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        except OSError:
            listener.close()
            raise
        self.path, self._listener, self._file = path, listener, path.lstat()

    @staticmethod
    def _stop(listener: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection = self._reserve.accept(listener)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                self._pause(listener)
            return
        task = asyncio.ensure_future(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _pause(self, listener: socket.socket) -> None:
        """Pause accepting, because the event loop would otherwise spin on the same failure."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def resume() -> None:
            if self._listener is listener and listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener)

        loop.call_later(ACCEPT_PAUSE, resume)

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE)
        try:
            line = await reader.readline()
            # A client that disconnects does not cancel its request.
            writer.write(await self._handler(line, writer.write))
            await writer.drain()
        except (OSError, ValueError):
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
