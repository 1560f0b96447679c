"""A provider that answers with exact bytes, which may be invalid HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RawProvider:
    """
    Answers the n-th request with the n-th of *answers*, and repeats the last one.

    A connection stays open after an answer, unless the answer is empty.
    """

    def __init__(self, *answers: bytes | Callable[[], bytes]) -> None:
        self.answers = answers
        self.requests = 0
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """The base URL."""
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    async def __aenter__(self) -> RawProvider:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                answer = self.answers[min(self.requests, len(self.answers) - 1)]
                self.requests += 1
                data = answer if isinstance(answer, bytes) else answer()
                if not data:
                    writer.close()
                    return
                writer.write(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def chunked(*pieces: bytes, content_type: str = "text/event-stream") -> bytes:
    """Return the beginning of a chunked response without an end."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
