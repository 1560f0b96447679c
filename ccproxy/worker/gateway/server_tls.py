"""TLS for the clients' port; new connections use a renewed certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.tls_files import TlsFiles
from ccproxy.worker.watched_file import Watched

HANDSHAKE_SECONDS = 10.0


class ServerTls:
    """A server's TLS context, reloaded when its files change."""

    def __init__(self, files: TlsFiles, *, log: FilteringBoundLogger) -> None:
        """Read *files*; OSError if they cannot be used."""
        self._files = files
        self._log = log
        self._current: ssl.SSLContext | None = None
        self._watched = Watched(files.certificate, self._read, beside=files.key)
        self._watched.get()
        self.context = files.load()
        """The context that the server listens with; each connection switches to the current one."""
        # Called at each handshake, even if the client sends no server name.
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
            # The certificate was replaced before its key; the key's change triggers another read.
            self._log.warning("tls.unreadable", reason=str(error))
            return previous
        if previous is not None:
            self._log.info("tls.reloaded", file=str(file))
        return self._current
