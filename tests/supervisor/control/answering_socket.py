"""A control socket that answers every request with the same bytes or not at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path


class AnsweringSocket:
    """
    Listens at *path* and sends *answer* to every client.

    If *answer* is None, it reads the request and stays silent until the client disconnects.
    """

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> AnsweringSocket:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.requests.append(connection.recv(65536))
                if self._answer is None:
                    connection.recv(1)
                else:
                    connection.sendall(self._answer)
