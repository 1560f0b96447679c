"""
aiohttp's HTTP server, set right for a streaming proxy.

| aiohttp's default                             | here                                            |
|-----------------------------------------------|-------------------------------------------------|
| request bodies of 1 MiB                       | 64 MiB, then 413 while reading                  |
| bodies are unpacked without an end            | packed bodies are refused (415)                 |
| handlers run on when their client has gone    | they are cancelled                              |
| no time limit for headers or bodies           | headers 30 s, bodies 1 KiB/s after 30 s         |
| headers of 8,190 bytes                        | 64 KiB                                          |
| an oversized header is quoted back and logged | neither                                         |
| `Server: Python/3.11 aiohttp/3.14`            | no such header                                  |
| any number of connections                     | MAX_CONNECTIONS (1,024), then 503               |

It is the low-level server, because routing a handful of fixed paths needs no application object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from ccproxy.errors import Problem
from ccproxy.worker.peers.choice import Chosen
from ccproxy.worker.server.access_record import Record
from ccproxy.worker.server.error_response import problem_response, unforeseen
from ccproxy.worker.server.flow_control import ResumesWhatIsPaused
from ccproxy.worker.state import Worker

BODY_LIMIT = 64 * 1024 * 1024
"""Bytes of a request body; the API's own limit is 32 MB."""
HEADER_SECONDS = 30.0
"""How long a client may take for a request's headers; for the first from when it connects."""
BODY_SECONDS = 30.0
"""How long a client may take for its body before it must keep the lowest rate."""
LOWEST_RATE = 1024
"""Bytes per second."""
LINGER_SECONDS = 1.0
"""How long the rest of a refused body is thrown away, so that the answer is seen."""
FIELD_LIMIT = 64 * 1024
"""Bytes of one header and of the request line."""

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)

Handler = Callable[["ClientRequest"], Awaitable[web.StreamResponse]]


class ClientRequest(web.BaseRequest):
    """A request with what its endpoint needs: the worker that serves it, and its record."""

    worker: Worker
    record: Record
    chosen: Chosen | None = None
    """Who answers, once that was decided."""

    @property
    def raw_query(self) -> str:
        """The query as it was sent, with its question mark; empty if there is none."""
        query = self.rel_url.raw_query_string
        return f"?{query}" if query else ""

    async def body(self) -> bytes:
        """
        Read the body.

        Raises:
            Problem: If it is too large, too slow, packed, or broken off by bad framing.

        """
        _refuse_packed(self)
        length = self.content_length
        if length is not None and length > BODY_LIMIT:
            raise _too_large()
        if self.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.writer.output_size = 0
        try:
            body = await self._read_in_time()
        except TimeoutError:
            raise Problem("timeout_error", "the request body came too slowly", status=408) from None
        except web.RequestPayloadError as error:
            text = "the request body is not framed as its headers say"
            raise Problem("invalid_request_error", text) from error
        if self.record.keeps:
            self.record.asked = body
        return body

    async def _read_in_time(self) -> bytes:
        if self.content.is_eof() and self.content.exception() is None:
            return self.content.read_nowait()  # it came along with the headers
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        slowest = loop.time() + BODY_SECONDS
        async with asyncio.timeout_at(slowest) as limit:
            while chunk := await self.content.readany():
                size += len(chunk)
                if size > BODY_LIMIT:
                    raise _too_large()
                chunks.append(chunk)
                if loop.time() > slowest - BODY_SECONDS / 2:  # most bodies are here by now
                    limit.reschedule(slowest + size / LOWEST_RATE)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _prepare_hook(self, resp: web.StreamResponse) -> None:
        # aiohttp's hook for its applications: every answer passes here before it is written.
        headers = resp.headers
        headers.popall(hdrs.SERVER, None)
        headers["request-id"] = self.record.request_id


class Connection(ResumesWhatIsPaused, RequestHandler):
    """One client's connection: keeps the time for headers and answers bad HTTP."""

    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        server = self._manager
        if isinstance(server, ClientServer) and server.is_full:
            self._give_up(_FULL)
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Take a piece; one that begins a request leaves so much time for the rest of its head."""
        super().data_received(data)
        next_request = self._waiter
        if next_request is not None and not next_request.done() and self._headers_due is None:
            self._await_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the timer."""
        self.begin()
        super().connection_lost(exc)

    def begin(self) -> None:
        """Note that headers have arrived."""
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def close(self) -> None:
        """Close when the request that runs is answered, at once if none does."""
        super().close()
        if not (self._request_in_progress or self._messages):
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the header; see the module's table
    ) -> web.StreamResponse:
        """Answer what is not HTTP, and what nobody foresaw; quote nothing of either."""
        if request.writer.output_size > 0:
            if not isinstance(exc, ConnectionError | None):
                _log.error("answer broken off", exc_info=exc)
            # The connection is closed; there is no way left to say why.
            raise ConnectionError
        if isinstance(exc, HttpProcessingError):
            problem = Problem("invalid_request_error", "this is not a valid HTTP request")
        else:
            problem = unforeseen(exc, status=status)
        request_id = request.record.request_id if isinstance(request, ClientRequest) else ""
        response = problem_response(problem, request_id)
        response.force_close()
        return response

    def _await_headers(self) -> None:
        loop = asyncio.get_running_loop()
        self._headers_due = loop.call_later(HEADER_SECONDS, self._give_up, _TIMEOUT)

    def _give_up(self, answer: bytes) -> None:
        self._headers_due = None
        if self.transport is not None:
            self.transport.write(answer)
        self.force_close()


class ClientServer(web.Server):
    """Makes connections of our kind, and requests that know their worker."""

    def __init__(self, handler: Handler, worker: Worker) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)  # type: ignore[arg-type]
        self._worker = worker

    @property
    def is_full(self) -> bool:
        """Whether more connections are open than the configuration allows."""
        return len(self.connections) > self._worker.config.max_connections

    def __call__(self) -> RequestHandler:
        """Return the protocol for a new connection; asyncio calls this."""
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            max_line_size=FIELD_LIMIT,
            max_field_size=FIELD_LIMIT,
            auto_decompress=False,
            lingering_time=LINGER_SECONDS,
        )

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        request = ClientRequest(message, payload, protocol, writer, task, loop)
        if isinstance(protocol, Connection):
            protocol.begin()
        request.worker = self._worker
        request.record = Record(
            request_id=self._worker.new_id("req"), method=request.method, path=request.path
        )
        return request


def _refuse_packed(request: ClientRequest) -> None:
    packing = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if packing.lower() != "identity":
        text = f"send the body as it is: Content-Encoding {packing[:20]} is not understood"
        raise Problem("invalid_request_error", text, status=415)


def _too_large() -> Problem:
    return Problem("request_too_large", f"the request body is larger than {BODY_LIMIT >> 20} MiB")
