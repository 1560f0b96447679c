"""TLS of the clients' port; a renewed certificate is used for the next connection."""

from __future__ import annotations

import os
import ssl

from structlog.typing import FilteringBoundLogger

from ccproxy.config.team.tls_files import TlsFiles

HANDSHAKE_SECONDS = 10.0


class ServerTls:
    """The context of a server, which follows its files."""

    def __init__(self, files: TlsFiles, *, log: FilteringBoundLogger) -> None:
        """Read *files*; OSError if they cannot be used."""
        self._files = files
        self._log = log
        self._version = self._version_of_files()
        self._current = files.load()
        self.context = files.load()
        """For the server: it accepts connections, the current one answers them."""
        # Called at each handshake, also of clients that name no server.
        self.context.sni_callback = self._select

    def _select(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        version = self._version_of_files()
        if version != self._version:
            self._reload()
            self._version = version
        connection.context = self._current

    def _reload(self) -> None:
        try:
            self._current = self._files.load()
        except OSError as error:
            # The certificate was replaced before its key: the key's change leads here again.
            self._log.warning("tls.unreadable", reason=str(error))
        else:
            self._log.info("tls.reloaded", file=str(self._files.certificate))

    def _version_of_files(self) -> tuple[object, ...]:
        try:
            states = [os.stat(file) for file in (self._files.certificate, self._files.key)]  # noqa: PTH116 - as in watched_file
        except OSError:
            return ()
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in states)
