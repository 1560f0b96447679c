"""The unix socket, in the event loop: the supervisor's own, and what it asks of workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from ccproxy.supervisor.sockets.peer_credentials import trusted_peer
from ccproxy.supervisor.sockets.unix_socket import (
    LONGEST_LINE,
    Answer,
    NoAnswer,
    from_line,
    prepare_folder,
    to_line,
)
from ccproxy.supervisor.state.lock import is_at


async def ask_soon(path: Path | str, request: Answer) -> Answer:
    """
    Send one request and wait for its answer as long as the caller lets it.

    Raises:
        NoAnswer: If nobody of this user's listens, or the line is no answer.

    """
    try:
        reader, writer = await asyncio.open_unix_connection(os.fspath(path), limit=LONGEST_LINE)
    except OSError as error:
        raise NoAnswer(f"{path}: {error}") from error
    try:
        trusted_peer(writer.get_extra_info("socket"))
        writer.write(to_line(request))
        return from_line(await reader.readline())
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{path}: {error}") from error
    finally:
        writer.close()


class Server:
    """Answers one request per connection."""

    def __init__(self, path: Path, answer: Callable[[Answer], Awaitable[Answer]]) -> None:
        self.path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._file: os.stat_result | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; whatever lies at the path is taken away, so hold the fleet's lock."""
        prepare_folder(self.path)
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(
            self._serve, os.fspath(self.path), limit=LONGEST_LINE
        )
        self.path.chmod(0o600)
        self._file = self.path.lstat()

    async def renew(self) -> bool:
        """Listen anew where the path was removed; return whether it had been."""
        if self._is_in_place:
            return False
        before = self._server
        await self.start()
        if before is not None:
            before.close()
        return True

    async def close(self) -> None:
        """Finish the answers that are under way, and go."""
        if self._server is None:
            return
        self._server.close()
        if self._open:
            await asyncio.wait(self._open, timeout=2.0)
        if self._is_in_place:
            self.path.unlink(missing_ok=True)

    @property
    def _is_in_place(self) -> bool:
        return self._file is not None and is_at(self.path, self._file)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            request = from_line(await reader.readline())
            # Who asked may go away meanwhile; what was asked is done all the same.
            writer.write(to_line(await self._answer(request)))
            await writer.drain()
        except (OSError, ValueError, NoAnswer):
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
