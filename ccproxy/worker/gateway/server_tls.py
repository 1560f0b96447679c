"""TLS for the clients' port; new connections use a renewed certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.tls_files import TlsFiles
from ccproxy.worker.watched_file import Watched

HANDSHAKE_SECONDS = 10.0
MOST_HANDSHAKES = 256
"""Maximum number of handshakes at once; asyncio needs 300 KiB for each."""
LEAST_SECONDS = 1.0
"""How long a handshake may take even if other connections are waiting."""
RETRY_SECONDS = 1.0
"""Delay after a connection could not be accepted, for example for lack of file descriptors."""


class ServerTls:
    """A server's TLS context, reloaded when its files change."""

    def __init__(self, files: TlsFiles, *, log: FilteringBoundLogger) -> None:
        """Read *files*; raise OSError if they cannot be used."""
        self._files = files
        self._log = log
        self._current: ssl.SSLContext | None = None
        self._watched = Watched(files.certificate, self._read, beside=files.key)
        self._watched.get()
        self.context = files.load()
        """The context used for listening; each connection switches to the current one."""
        # Called for each handshake, even if the client sends no server name.
        self.context.sni_callback = self._select

    def _select(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._watched.get()

    def _read(self, file: Path) -> ssl.SSLContext:
        previous = self._current
        try:
            self._current = self._files.load()
        except OSError as error:
            if previous is None:
                raise
            # The certificate was replaced before its key; both are read again when the key changes.
            self._log.warning("tls.unreadable", reason=str(error))
            return previous
        if previous is not None:
            self._log.info("tls.reloaded", file=str(file))
        return self._current


class TlsListener:
    """
    Accepts TLS connections on *listener*, with a protocol from *factory* for each.

    asyncio's server accepts any number of connections, and does not count those that have not
    finished their handshake. This listener leaves further connections in the system's queue while
    `MOST_HANDSHAKES` are running.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        factory: Callable[[], asyncio.Protocol],
        *,
        backlog: int,
    ) -> None:
        """Start accepting; must be called inside the event loop."""
        listener.setblocking(False)
        listener.listen(backlog)
        self._listener = listener
        self._context = context
        self._factory = factory
        self._handshakes: dict[asyncio.Task[None], float] = {}
        """The running handshakes, with the times when they began."""
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Stop accepting; running handshakes continue."""
        self._loop.remove_reader(self._listener)
        self._loop.call_soon(self._end)  # after the handshake of a connection accepted just now

    def _end(self) -> None:
        self._accepting.cancel()
        self._listener.close()

    async def _accept(self) -> None:
        while True:
            await self._make_room()
            try:
                connection, _ = await self._loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            task = self._loop.create_task(self._handshake(connection))
            self._handshakes[task] = self._loop.time()
            await asyncio.sleep(0)  # lets the handshake begin: accepting does not yield

    async def _make_room(self) -> None:
        """Wait until another handshake may begin; abort the oldest one if it takes too long."""
        while len(self._handshakes) >= MOST_HANDSHAKES:
            oldest, began = next(iter(self._handshakes.items()))
            rest = began + LEAST_SECONDS - self._loop.time()
            if rest <= 0:
                oldest.cancel()
            await asyncio.wait(
                self._handshakes, timeout=max(rest, 0.0), return_when=asyncio.FIRST_COMPLETED
            )

    async def _handshake(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._factory,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
        except OSError:  # not TLS, too slow, or the client has disconnected
            connection.close()
        finally:
            del self._handshakes[asyncio.current_task()]  # type: ignore[arg-type] # runs in a task
