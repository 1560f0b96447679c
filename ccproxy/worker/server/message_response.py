"""
The answers to requests for a message, with nothing around them that these do not need.

aiohttp's responses can be anything: with cookies, compressed, in parts. These are JSON of a known
length, or a stream of events. Their heads are put together as bytes and go out in one write with
what follows them, and every piece of a stream is one write. What comes before and after, such as
keeping the connection alive, stays aiohttp's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import ClientConnectionResetError, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

_JOINED = 64 * 1024
"""Bytes that are copied to go out with the head in one write."""
_LAST_PIECE = b"0\r\n\r\n"


class Prepared(web.StreamResponse):
    """What both kinds have in common."""

    _to: web.BaseRequest | None = None

    @property
    def is_full(self) -> bool:
        """Whether the client takes less than it is sent; `drain` waits until it does."""
        return self._to is not None and self._to.protocol.writing_paused

    async def drain(self) -> None:
        """Wait until the client has taken most of what it was sent."""
        if self.is_full and self._payload_writer is not None:
            await self._payload_writer.drain()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Take the connection of *request*; aiohttp calls this, too."""
        if not self.prepared:
            self._begin(request)
        return self._payload_writer

    def _begin(self, request: web.BaseRequest) -> None:
        if request.version < HttpVersion11:
            self.force_close()
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        self._to = request
        self._payload_writer = request.writer

    def _head(self, request_id: str, *fields: str) -> bytes:
        """Return status line and headers with these *fields*."""
        lines = [f"HTTP/1.1 {self._status} {self._reason}", *fields]
        lines += [f"request-id: {request_id}", f"Date: {_date(int(time.time()))}"]
        if not self._keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def _write(self, data: bytes, more: bytes = b"") -> None:
        """Write to the client: *data*, and *more* without a copy of it where it is large."""
        to = self._to
        transport = None if to is None else to.transport
        if to is None or transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has left")
        # aiohttp asks for this number to know whether an error can still have a status.
        to.writer.output_size += len(data) + len(more)
        if len(more) > _JOINED:
            transport.writelines((data, more))
        else:
            transport.write(data + more if more else data)


class WholeAnswer(Prepared):
    """A message, or what else a provider says in one piece; *headers* name its type."""

    def __init__(
        self,
        body: bytes,
        *,
        request_id: str,
        status: int = 200,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(status=status)
        self.body = body
        self._request_id = request_id
        self._fields = [f"{name}: {value}" for name, value in headers.items()]

    async def write_eof(self, data: bytes = b"") -> None:
        """Write everything; aiohttp calls this last."""
        if self._eof_sent:
            return
        body = self.body + data
        length = f"Content-Length: {len(body)}"
        head = self._head(self._request_id, *self._fields, length)
        self._write(head, body)
        await self.drain()
        self._eof_sent = True


class StreamedAnswer(Prepared):
    """A stream of events; `send` writes at once and never waits."""

    def __init__(self, *, request_id: str) -> None:
        super().__init__()
        self._request_id = request_id
        self._unsent = b""
        self._in_chunks = True

    def begin(self, request: web.BaseRequest) -> None:
        """Decide status and headers; they go out with the first piece."""
        self._begin(request)

    def send(self, data: bytes) -> None:
        """
        Write a piece.

        Raises:
            ConnectionError: If the client has left.

        """
        head, self._unsent = self._unsent, b""
        if self._in_chunks:
            self._write(b"%b%x\r\n%b\r\n" % (head, len(data), data))
        else:
            self._write(head, data)

    async def write_eof(self, data: bytes = b"") -> None:
        """End the stream; aiohttp calls this last."""
        if self._eof_sent:
            return
        if data:
            self.send(data)
        self._write(self._unsent, _LAST_PIECE if self._in_chunks else b"")
        await self.drain()
        self._eof_sent = True

    def _begin(self, request: web.BaseRequest) -> None:
        super()._begin(request)
        self._in_chunks = request.version >= HttpVersion11
        fields = [f"{name}: {value}" for name, value in self.headers.items()]
        if self._in_chunks:
            fields.append("Transfer-Encoding: chunked")
        self._unsent = self._head(self._request_id, *fields)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
