"""
Responses to message requests: JSON of known length, or a stream of events.

The head is built as bytes and sent in one write with the data after it; each piece of a stream
is one write. aiohttp's own responses also handle cookies, compression and ranges, which cost more
than the rest of a small request.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web

from ccproxy.worker.aiohttp_internals import PreparedResponse

_LAST_CHUNK = b"0\r\n\r\n"


class WholeResponse(PreparedResponse):
    """A whole message or another complete body; *headers* include Content-Type."""

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
        self._fields = [f"{name}: {value}" for name, value in headers.items()]
        self._fields += _own_fields(request_id)

    async def write_eof(self, data: bytes = b"") -> None:
        """Write everything; aiohttp calls this last."""
        if self.is_ended:
            return
        body = self.body + data
        self.write_bytes(self.head(*self._fields, f"Content-Length: {len(body)}"), body)
        await self.drain()
        self.mark_ended()


class StreamedResponse(PreparedResponse):
    """A stream of events; `send` writes at once and never waits."""

    def __init__(self, *, request_id: str) -> None:
        super().__init__()
        self._request_id = request_id
        self._unsent = b""
        self._is_chunked = True

    def bind(self, request: web.BaseRequest) -> None:
        """Set the status and headers; they are sent with the first piece."""
        super().bind(request)
        self._is_chunked = request.version >= HttpVersion11
        fields = [f"{name}: {value}" for name, value in self.headers.items()]
        fields += _own_fields(self._request_id)
        if self._is_chunked:
            fields.append("Transfer-Encoding: chunked")
        self._unsent = self.head(*fields)

    def send(self, data: bytes) -> None:
        """
        Write a piece.

        Raises:
            ConnectionError: If the client has disconnected.
        """
        head, self._unsent = self._unsent, b""
        if self._is_chunked:
            self.write_bytes(b"%b%x\r\n%b\r\n" % (head, len(data), data))
        else:
            self.write_bytes(head, data)

    async def write_eof(self, data: bytes = b"") -> None:
        """End the stream; aiohttp calls this last."""
        if self.is_ended:
            return
        if data:
            self.send(data)
        self.write_bytes(self._unsent, _LAST_CHUNK if self._is_chunked else b"")
        await self.drain()
        self.mark_ended()


def _own_fields(request_id: str) -> tuple[str, str, str]:
    # OpenAI clients read x-request-id, Anthropic's read request-id.
    return (
        f"request-id: {request_id}",
        f"x-request-id: {request_id}",
        f"Date: {_date(int(time.time()))}",
    )


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
