"""
aiohttp's HTTP server with the settings of a streaming proxy.

| aiohttp's default                             | here                                            |
|-----------------------------------------------|-------------------------------------------------|
| request bodies of 1 MiB                       | 64 MiB, then 413 while reading                  |
| bodies are decompressed without a limit       | compressed bodies are refused (415)             |
| handlers keep running after a disconnect      | they are cancelled                              |
| no time limit for headers or bodies           | headers 30 s, bodies 1 KiB/s after 30 s         |
| headers of 8,190 bytes                        | 64 KiB                                          |
| an oversized header is quoted and logged      | neither                                         |
| `Server: Python/3.11 aiohttp/3.14`            | no such header                                  |
| any number of connections                     | MAX_CONNECTIONS; new ones evict idle ones       |
| idle connections are closed after an hour     | after 75 s                                      |
| a client may leave a response unread forever  | it is disconnected after 300 s without a read   |

This module uses aiohttp's low-level server, because routing a few fixed paths needs no application
object.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict

from ccproxy.config.team.users import User
from ccproxy.convert.prompt_prefix import Prompt
from ccproxy.errors import Problem
from ccproxy.ipc.activity import FailedAttempt
from ccproxy.keys.pool import Lease
from ccproxy.keys.retry import Step
from ccproxy.worker.aiohttp_internals import ClientProtocol, HookedRequest
from ccproxy.worker.gateway.user_body import body_of_user
from ccproxy.worker.peers.choice import Chosen
from ccproxy.worker.server.access_record import MAX_PATH, AccessRecord
from ccproxy.worker.server.client_dialect import MESSAGES, ClientDialect
from ccproxy.worker.server.error_response import problem_response, unexpected
from ccproxy.worker.upstream.provider_answer import AttemptFailed
from ccproxy.worker.worker import Worker

BODY_LIMIT = 64 * 1024 * 1024
"""Maximum bytes of a request body; the API's own limit is 32 MB."""
HEADER_SECONDS = 30.0
"""Time limit for a request's headers; for the first request, it starts with the connection."""
BODY_SECONDS = 30.0
"""How long a body may take before the minimum rate applies."""
MIN_RATE = 1024
"""Minimum rate of a slow body, in bytes per second."""
LINGER_SECONDS = 1.0
"""How long to keep discarding a refused body, so that the client receives the response."""
KEEP_ALIVE_SECONDS = 75.0
STALL_SECONDS = 300.0
"""How long a client may leave a pending response unread."""
FIELD_LIMIT = 64 * 1024
"""Maximum bytes of one header and of the request line."""
MAX_REASON = 300
"""Maximum characters of a recorded refusal message."""
RESERVED_DESCRIPTORS = 64
"""File descriptors reserved for logs, databases and the control socket."""

_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)

Handler = Callable[["ClientRequest"], Awaitable[web.StreamResponse]]


class ClientRequest(HookedRequest):
    """A request with the worker that serves it and its record."""

    worker: Worker
    record: AccessRecord
    chosen: Chosen | None = None
    """The entry and model that answer, once chosen."""
    read_prompt: Callable[[], Prompt | None] | None = None
    """Returns the prompt of a Messages request; set once the answering entry is known."""
    user: User | None = None
    """The user who sent it, on a team gateway."""
    dialect: ClientDialect = MESSAGES
    """The API that the client uses."""

    @property
    def raw_query(self) -> str:
        """The raw query string with its question mark, or an empty string."""
        query = self.rel_url.raw_query_string
        return f"?{query}" if query else ""

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """
        Read a body of at most *limit* bytes.

        Raises:
            Problem: If the body is too large, too slow, compressed, or has broken framing.
        """
        await self._prepare_to_read(limit)
        if self.content.is_eof() and self.content.exception() is None:
            body = self.content.read_nowait()  # the body arrived with the headers
        else:
            pieces = [piece async for piece in self._pieces(limit)]
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.record.size = len(body)
        if self.record.bodies is not None:
            self.record.bodies.request = body
        return body

    def release_body(self) -> None:
        """Release the body and the exchange, because an idle connection keeps its last request."""
        self.chosen = self.read_prompt = None
        self.dialect = MESSAGES

    async def model_body(self) -> bytes:
        """Read the body of a model request; raises the errors of `body` and `body_of_user`."""
        body = await self.body()
        return body if self.user is None else body_of_user(body)

    def attempt_failed(self, lease: Lease, failure: AttemptFailed, step: Step) -> None:
        """Record an attempt that the provider refused, and the next step."""
        verdict = failure.verdict
        following: Literal["end", "other_key", "repeat"] = "end"
        if step.again:
            following = "other_key" if step.other_key else "repeat"
        refused = FailedAttempt(
            at=round(self.record.elapsed, 4),
            key=lease.tail,
            status=verdict.status,
            cause=verdict.cause.value if verdict.cause else "",
            effect=verdict.effect.value,
            next=following,
            delay=round(step.delay, 3),
            reason=self.worker.logs.redact(failure.problem.message)[:MAX_REASON],
        )
        self.worker.activity.refuse(self.record, refused, lease.id)

    async def discard_body(self, limit: int) -> None:
        """Read and discard the body; raises the same errors as `body`."""
        await self._prepare_to_read(limit)
        async for _ in self._pieces(limit):
            pass

    def finish_headers(self, headers: CIMultiDict[str]) -> None:
        """Add the request's id to a response, and remove aiohttp's Server header."""
        headers.popall(hdrs.SERVER, None)
        # OpenAI clients read x-request-id, Anthropic's read request-id.
        headers["request-id"] = headers["x-request-id"] = self.record.request_id

    async def _prepare_to_read(self, limit: int) -> None:
        _refuse_compressed(self)
        length = self.content_length
        if length is not None and length > limit:
            raise _too_large(limit)
        if self.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.writer.output_size = 0

    async def _pieces(self, limit: int) -> AsyncIterator[bytes]:
        size = 0
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(started + BODY_SECONDS) as deadline:
                while piece := await self.content.readany():
                    size += len(piece)
                    if size > limit:
                        raise _too_large(limit)
                    yield piece
                    if loop.time() > started + BODY_SECONDS / 2:  # most bodies are complete by now
                        deadline.reschedule(started + BODY_SECONDS + size / MIN_RATE)
        except TimeoutError:
            text = "the request body arrived too slowly"
            raise Problem("timeout_error", text, status=408) from None
        except web.RequestPayloadError as error:
            text = "the request body has invalid framing"
            raise Problem("invalid_request_error", text) from error


class ClientConnection(ClientProtocol):
    """One client's connection: limits the time for headers and reads, and answers invalid HTTP."""

    _header_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _discards = False
    """Whether to discard the client's data, because it is not HTTP."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or refuse it if the server is full."""
        super().connection_made(transport)
        server = self.manager
        if isinstance(server, ClientServer) and not server.make_room():
            self._refuse(_FULL)
            return
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Handle *data*; the first bytes of a request start the time limit for its headers."""
        if self._discards:
            return
        super().data_received(data)
        if self._header_timer is None and self.waits_for_request:
            self._await_headers()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the timers."""
        self.headers_arrived()
        self._end_stall()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read; the transport calls this when its buffer is full."""
        super().pause_writing()
        self._check_stall(None)

    def resume_writing(self) -> None:
        """Resume writing: the client has read most of the buffer."""
        self._end_stall()
        super().resume_writing()

    def headers_arrived(self) -> None:
        """Cancel the time limit for headers."""
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def close(self) -> None:
        """Close after the response to the current request, or at once if idle."""
        super().close()
        if not self.is_busy:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the header; see the module's table
    ) -> web.StreamResponse:
        """Answer invalid HTTP and unexpected exceptions, without quoting either."""
        if request.writer.output_size > 0:
            if not isinstance(exc, ConnectionError | None):
                _log.error("response cut off", exc_info=exc)
            # Closes the connection; there is no way left to report the error.
            raise ConnectionError
        if isinstance(exc, HttpProcessingError):
            problem = Problem("invalid_request_error", "this is not a valid HTTP request")
            self._discards = True
        else:
            problem = unexpected(exc, status=status)
        request_id = request.record.request_id if isinstance(request, ClientRequest) else ""
        response = problem_response(problem, request_id)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """
        Finish a response; discard any data after invalid HTTP.

        Closing a socket with unread bytes resets the connection, and a reset can overtake the
        response.
        """
        finished = await super().finish_response(request, resp, start_time)
        if self._discards and self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
            await asyncio.sleep(LINGER_SECONDS)  # until the client closes
        return finished

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _check_stall(self, unread_before: int | None) -> None:
        """Disconnect a client that has read nothing since *unread_before* bytes were pending."""
        if self.transport is None:
            return
        unread = self.transport.get_write_buffer_size()
        if unread == unread_before:
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._stall_timer = loop.call_later(STALL_SECONDS, self._check_stall, unread)

    def _await_headers(self) -> None:
        loop = asyncio.get_running_loop()
        self._header_timer = loop.call_later(HEADER_SECONDS, self._refuse, _TIMEOUT)

    def _refuse(self, response: bytes) -> None:
        self._header_timer = None
        if self.transport is not None:
            self.transport.write(response)
        self.force_close()


class ClientServer(web.Server):
    """Creates connections and requests, and limits the number of connections."""

    def __init__(self, handler: Handler, worker: Worker) -> None:
        super().__init__(handler, request_factory=self._request, handler_cancellation=True)  # type: ignore[arg-type]
        self._worker = worker
        self.max_connections = min(worker.config.max_connections, descriptor_limit())

    def make_room(self) -> bool:
        """Return True if there is room for the newest connection, closing an idle one if needed."""
        connections = self.connections
        if len(connections) <= self.max_connections:
            return True
        for connection in connections[:-1]:  # the oldest first
            if isinstance(connection, ClientProtocol) and connection.waits_for_request:
                connection.force_close()
                return True
        return False

    def __call__(self) -> RequestHandler:
        """Return the protocol for a new connection; asyncio calls this."""
        return ClientConnection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            max_line_size=FIELD_LIMIT,
            max_field_size=FIELD_LIMIT,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
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
        if isinstance(protocol, ClientConnection):
            protocol.headers_arrived()
        request.worker = self._worker
        request.record = AccessRecord(
            request_id=self._worker.new_id("req"),
            method=request.method,
            path=request.path[:MAX_PATH],
        )
        return request


def descriptor_limit() -> int:
    """Return how many clients the limit on open files allows; each may need two descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return max(1, (soft - RESERVED_DESCRIPTORS) // 2)


def _refuse_compressed(request: ClientRequest) -> None:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if encoding.lower() != "identity":
        text = f"send the body uncompressed: Content-Encoding {encoding[:20]} is not supported"
        raise Problem("invalid_request_error", text, status=415)


def _too_large(limit: int) -> Problem:
    return Problem("request_too_large", f"the request body is larger than {limit >> 20} MiB")
