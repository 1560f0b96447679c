"""
Everything in ccproxy that depends on aiohttp beyond its documented interface.

A streaming proxy needs features that aiohttp does not expose publicly. Each class below wraps some
of them under public names; no other module uses a private name of aiohttp. `USED_NAMES` is
the complete list, which `tests/worker/test_aiohttp_internals.py` checks against the installed
release; `docs/aiohttp.md` describes what each class is for and how to upgrade to a new release.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import ClientConnectionResetError, ClientPayloadError, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    from multidict import CIMultiDict

USED_NAMES: Mapping[type, frozenset[str]] = {
    ResponseHandler: frozenset({
        "_payload", "_reading_paused", "abort", "connection_lost", "data_received", "exception",
        "read", "resume_reading", "set_exception", "set_response_params", "should_close",
        "transport",
    }),
    RequestHandler: frozenset({
        "_manager", "_messages", "_reading_paused", "_request_in_progress", "_waiter", "close",
        "connection_lost", "connection_made", "data_received", "finish_response", "force_close",
        "handle_error", "resume_reading", "transport", "writing_paused",
    }),
    aiohttp.StreamReader: frozenset({
        "at_eof", "exception", "is_eof", "on_eof", "read_nowait", "readany", "set_exception",
    }),
    aiohttp.TCPConnector: frozenset({"_factory", "connect"}),
    web.BaseRequest: frozenset({"_prepare_hook", "protocol", "writer"}),
    web.StreamResponse: frozenset({
        "_eof_sent", "_keep_alive", "_payload_writer", "_reason", "_status", "prepare", "write_eof",
    }),
}  # fmt: skip

_JOIN_LIMIT = 64 * 1024
"""Data of at most this many bytes is copied, to send it in one write with the data before it."""


class ResumesOnlyPaused(BaseProtocol):
    """
    A connection that resumes reading only after a pause.

    aiohttp resumes reading each time a piece is taken out of a body, which makes its parser process
    an empty read and calls the transport. For a stream of small chunks, this accounts for a tenth
    of the cost.
    """

    __slots__ = ()

    def resume_reading(self, *args: bool, **kwargs: bool) -> None:
        """Resume reading if it was paused."""
        if self._reading_paused:
            super().resume_reading(*args, **kwargs)


# Towards the provider.


class ProviderProtocol(ResumesOnlyPaused, ResponseHandler):
    """A connection to the provider that calls `on_data` after every read and at its end."""

    on_data: Callable[[], None] | None = None
    has_served = False
    """Whether the connection has carried a complete exchange, and may have been closed since."""
    is_idle = False
    """Whether the connection is in the pool, where no data is expected."""

    def data_received(self, data: bytes) -> None:
        """Parse *data*; abort the connection if the data was not requested."""
        if self.is_idle:
            self.abort()
            return
        super().data_received(data)
        if self.on_data is not None:
            self.on_data()
        if self.is_idle and self.should_close:
            self.abort()  # more bytes arrived after the end of the response

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the response, or fail it if it is incomplete."""
        super().connection_lost(exc)
        if self.on_data is not None:
            self.on_data()

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """
        Fail the exchange, including the body that is being read.

        aiohttp's C parser reports broken framing in the middle of a body only here, so a reader of
        the body would otherwise wait for its timeout.
        """
        body = self._payload
        super().set_exception(exc, *cause)
        if body is not None and not body.is_eof() and body.exception() is None:
            error = ClientPayloadError("the response has broken framing")
            body.set_exception(error, exc)


def use_protocol(connector: aiohttp.BaseConnector, loop: asyncio.AbstractEventLoop) -> None:
    """Make *connector* use `ProviderProtocol` for its connections."""
    factory: Any = partial(ProviderProtocol, loop)
    connector._factory = factory


# Towards the client.


class ClientProtocol(ResumesOnlyPaused, RequestHandler):
    """A client's connection, with the state that a server needs."""

    @property
    def manager(self) -> web.Server | None:
        """The server, or None once the connection is lost."""
        return self._manager

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered or queued."""
        return self._request_in_progress or bool(self._messages)

    @property
    def waits_for_request(self) -> bool:
        """Whether the connection is idle between requests, or before the first one."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()


class HookedRequest(web.BaseRequest):
    """A request that can change the headers of its response before they are sent."""

    def finish_headers(self, headers: CIMultiDict[str]) -> None:
        """Change the response's *headers* in place."""

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        self.finish_headers(resp.headers)


class PreparedResponse(web.StreamResponse):
    """Base class of responses that write their own bytes; aiohttp manages the connection."""

    _bound_to: web.BaseRequest | None = None

    @property
    def is_full(self) -> bool:
        """Whether the client reads too slowly; `drain` waits until it catches up."""
        return self._bound_to is not None and self._bound_to.protocol.writing_paused

    async def drain(self) -> None:
        """Wait until the client has read most of the data sent to it."""
        if self.is_full and self._payload_writer is not None:
            await self._payload_writer.drain()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Bind the response to the connection of *request*; aiohttp also calls this."""
        if not self.prepared:
            self.bind(request)
        return self._payload_writer

    def bind(self, request: web.BaseRequest) -> None:
        """Bind the response to the connection of *request*."""
        if request.version < HttpVersion11:
            self.force_close()
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        self._bound_to = request
        self._payload_writer = request.writer

    @property
    def is_ended(self) -> bool:
        """Whether the last byte was written."""
        return self._eof_sent

    def mark_ended(self) -> None:
        """Mark the response as complete for aiohttp."""
        self._eof_sent = True

    def head(self, *fields: str) -> bytes:
        """Return the status line and headers: *fields*, and Connection if needed."""
        lines = [f"HTTP/1.1 {self._status} {self._reason}", *fields]
        if not self._keep_alive:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def write_bytes(self, data: bytes, more: bytes = b"") -> None:
        """
        Write *data* and *more*, without copying *more* if it is large.

        Raises:
            ConnectionError: If the client has disconnected.
        """
        request = self._bound_to
        transport = None if request is None else request.transport
        if request is None or transport is None or transport.is_closing():
            raise ClientConnectionResetError("the client has disconnected")
        # aiohttp reads this to decide whether an error response can still be sent.
        request.writer.output_size += len(data) + len(more)
        if len(more) > _JOIN_LIMIT:
            transport.write(data)
            transport.write(more)
        else:
            transport.write(data + more if more else data)
