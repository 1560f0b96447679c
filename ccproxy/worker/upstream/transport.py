"""
HTTP requests on aiohttp's connections, with only the features that a proxy needs.

aiohttp's connector provides the connections (DNS, TLS, forward proxies, pooling) and its parser
reads the responses. `ClientSession` is not used: cookies, redirects, forms, tracing and a task
that writes the body cost more than all of ccproxy's work on a small request.

The body of a response can be read in two ways. `read` waits in a task, which the event loop wakes
for every piece. `pump` passes every piece to a function at once, inside the connection's
`data_received`: for a stream of small chunks the wake-up is most of the cost. Data that the
function does not take stays in aiohttp's buffer, and aiohttp stops reading from the provider.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EofStream, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ccproxy.worker.aiohttp_internals import ProviderProtocol, use_protocol
from ccproxy.worker.upstream.liveness import LivenessTest, is_unacknowledged

READ_BUFFER = 64 * 1024
FIELD_LIMIT = 64 * 1024
"""Maximum size of one header from the provider, in bytes."""
AT_ONCE_SECONDS = 1.0
"""A reused connection that ends within this time was closed before the request arrived."""

_CACHED_HEADS = 512
_CACHED_HEAD_SIZE = 8 * 1024
"""Maximum number of characters in a head that is cached."""
_MAX_INTERIM = 16
"""Maximum number of interim responses (1xx) before the response; Early Hints need one or two."""
_JOIN_LIMIT = 64 * 1024
"""Maximum size in bytes of a body that is copied so that one write sends it with the head."""
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_NO_REQUEST_INFO = aiohttp.RequestInfo(URL(), "POST", CIMultiDictProxy(CIMultiDict()), URL())

Headers = tuple[tuple[str, str], ...]
Take = Callable[[bytes], bool]
"""A function that takes a piece of a response, and returns False if it accepts no more for now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """The request line and headers, which are the same for many requests."""

    request: aiohttp.ClientRequest
    """Provides the connector with the address; it is never sent."""
    start: bytes
    """The request line and the headers, up to the value of Content-Length."""


class HttpTransport:
    """Sends requests over the connections of *connector*, through *proxy* if there is one."""

    def __init__(
        self, connector: aiohttp.BaseConnector, *, proxy: str | None, timeout: aiohttp.ClientTimeout
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = connector
        use_protocol(connector, self._loop)
        self._proxy = URL(proxy) if proxy else None
        self._timeout = timeout
        self._idle: set[ProviderProtocol] = set()
        self._cached_head = lru_cache(maxsize=_CACHED_HEADS)(self._build_head)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()

    async def post(
        self,
        url: str,
        headers: Headers,
        body: bytes,
        *,
        patience: float,
        on_send: Callable[[], None] = lambda: None,
    ) -> ProviderReply:
        """
        Send a request and return its response as soon as it begins.

        A connection from the pool may have died unnoticed. If the request cannot have reached the
        provider on it, all idle connections are closed, because they have probably died for the
        same reason, and the request is sent once more on a fresh connection.
        *on_send* is called each time the request is sent.

        Raises:
            TimeoutError: If nothing arrives for *patience* seconds.
            aiohttp.ClientError: If connecting fails, the connection breaks, or the response is not
                valid HTTP.
        """
        head = self.head(url, headers)
        reply = await self._reply(head, patience)
        on_send()
        sent_at = self._loop.time()
        try:
            await reply.send(head.start, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            at_once = self._loop.time() - sent_at <= AT_ONCE_SECONDS
            if not reply.is_reused or not (at_once or is_unacknowledged(error)):
                raise
            self._close_idle()
            reply = await self._reply(head, patience)
            on_send()
            await reply.send(head.start, body)
        return reply

    def head(self, url: str, headers: Headers) -> RequestHead:
        """Return the head of a request; cached because a client keeps sending the same headers."""
        size = sum(map(len, chain.from_iterable(headers)), len(url))
        return (self._cached_head if size <= _CACHED_HEAD_SIZE else self._build_head)(url, headers)

    async def _reply(self, head: RequestHead, patience: float) -> ProviderReply:
        try:
            connection = await self._connector.connect(head.request, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        return ProviderReply(connection, loop=self._loop, patience=patience, idle=self._idle)

    def _close_idle(self) -> None:
        for protocol in tuple(self._idle):
            protocol.abort()
        self._idle.clear()

    def _build_head(self, url: str, headers: Headers) -> RequestHead:
        # The client's query is sent unchanged: yarl would decode and re-encode it.
        path, mark, query = url.partition("?")
        # aiohttp sets Host, and derives the credentials from a login in the URL.
        request = aiohttp.ClientRequest(
            "POST", URL(path), headers=headers, loop=self._loop, proxy=self._proxy
        )
        through_proxy = self._proxy is not None and not request.is_ssl()
        bare = request.url.with_user(None)
        target = (str(bare) if through_proxy else bare.raw_path) + mark + query
        lines = [f"POST {target} HTTP/1.1"]
        lines += [
            f"{name}: {value}"
            for name, value in request.headers.items()
            if name.lower() != "content-length"
        ]
        if through_proxy and (credentials := _basic_credentials(self._proxy)):
            lines.append(f"Proxy-Authorization: {credentials}")
        if any(map(_FORBIDDEN.search, lines)):
            raise ValueError("a header for the provider contains a control character")
        start = "\r\n".join([*lines, "Content-Length: "])
        return RequestHead(request=request, start=start.encode("utf-8", "surrogateescape"))


class ProviderReply:
    """
    A response: its status and headers are available once it has begun, then its body.

    *patience* limits the wait for the provider. The time during which the body is not read because
    the client does not keep up does not count.
    """

    status: int
    headers: Mapping[str, str]

    def __init__(
        self,
        connection: Connection,
        *,
        loop: asyncio.AbstractEventLoop,
        patience: float,
        idle: set[ProviderProtocol],
    ) -> None:
        protocol = connection.protocol
        if not isinstance(protocol, ProviderProtocol):
            raise TypeError("not a connection of this transport")
        self.is_reused = protocol.has_served
        self._connection: Connection | None = connection
        self._protocol = protocol
        self._idle = idle
        idle.discard(protocol)
        self._content: StreamReader | None = None
        self._loop = loop
        self._patience = patience
        self._waiting_since: float | None = None
        self._timer = self._loop.call_later(patience, self._check_patience)

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_over(self) -> bool:
        """Whether the whole body has been read."""
        return self._content is not None and self._content.at_eof()

    async def send(self, head: bytes, body: bytes) -> None:
        """Send the request and wait until the response begins; raise the same errors as `post`."""
        test = LivenessTest(self._protocol.transport, self._loop) if self.is_reused else None
        try:
            self._write(head, body)
            self._waiting_since = self._loop.time()
            message, content = await self._read_head()
        except (HttpProcessingError, EofStream) as error:
            self.close()
            raise aiohttp.ClientResponseError(_NO_REQUEST_INFO, ()) from error
        except BaseException:  # in any case, the connection must not leak
            self.close()
            raise
        finally:
            self._waiting_since = None
            if test is not None:
                test.end()
        self.status, self.headers, self._content = message.code, message.headers, content
        content.on_eof(self._release)

    async def _read_head(self) -> tuple[RawResponseMessage, StreamReader]:
        for _ in range(_MAX_INTERIM):
            message, content = await self._protocol.read()
            if 200 <= message.code < 600:
                return message, content
            if not 100 <= message.code < 200 or message.upgrade:
                raise HttpProcessingError(message=f"status {message.code}")
        raise HttpProcessingError(message="too many interim responses")

    def allow(self, patience: float) -> None:
        """Allow up to *patience* seconds of silence from now on."""
        self._patience = patience
        if self._connection is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(patience, self._check_patience)

    async def read(self) -> bytes:
        """Return data as soon as some arrives; return b"" at the end."""
        self._waiting_since = self._loop.time()
        try:
            return await self._body.readany()
        finally:
            self._waiting_since = None

    async def pump(self, take: Take) -> bool:
        """
        Pass every piece to *take* as it arrives; return True when the body has ended.

        Return False when *take* does. Exceptions from *take* are raised here.
        """
        pump = _Pump(self._body, take, self._loop)

        def on_data() -> None:
            self._waiting_since = self._loop.time()
            pump.run()

        self._protocol.on_data = on_data
        try:
            on_data()
            return await pump.done
        finally:
            self._protocol.on_data = self._waiting_since = None

    def close(self) -> None:
        """Unless the response is complete, drop the rest of it and close the connection."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _write(self, head: bytes, body: bytes) -> None:
        protocol = self._protocol
        protocol.is_idle = False
        protocol.set_response_params(
            read_until_eof=True,
            read_bufsize=READ_BUFFER,
            max_line_size=FIELD_LIMIT,
            max_field_size=FIELD_LIMIT,
        )
        if protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        start = b"%b%d\r\n\r\n" % (head, len(body))
        if len(body) <= _JOIN_LIMIT:
            protocol.transport.write(start + body)
        else:
            protocol.transport.writelines((start, body))

    @property
    def _body(self) -> StreamReader:
        if self._content is None:
            raise RuntimeError("the response has not begun")
        return self._content

    def _release(self) -> None:
        """Return the connection to the pool, because the whole response has arrived."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        protocol = self._protocol
        protocol.has_served = True
        transport = protocol.transport
        if transport is not None and transport.get_write_buffer_size():
            connection.close()  # the response came early: part of the request is still unsent
            return
        protocol.is_idle = True
        self._idle.add(protocol)
        connection.release()

    def _check_patience(self) -> None:
        since, now = self._waiting_since, self._loop.time()
        if since is None or now - since < self._patience:
            due = self._patience if since is None else since + self._patience - now
            self._timer = self._loop.call_later(due, self._check_patience)
            return
        silence = aiohttp.SocketTimeoutError("nothing arrived")
        (self._protocol if self._content is None else self._content).set_exception(silence)
        if self._protocol.on_data is not None:
            self._protocol.on_data()
        self.close()


class _Pump:
    """Passes arriving data to a function until the end, a pause or an error."""

    __slots__ = ("_content", "_has_more", "_is_busy", "_take", "done")

    def __init__(self, content: StreamReader, take: Take, loop: asyncio.AbstractEventLoop) -> None:
        self._content = content
        self._take = take
        self._is_busy = False
        self._has_more = False
        self.done: asyncio.Future[bool] = loop.create_future()

    def run(self) -> None:
        """Pass on all data that has arrived. Called on every read; reentrant."""
        if self._is_busy:
            # Draining a full buffer makes aiohttp resume reading, which calls this again.
            self._has_more = True
            return
        if self.done.done():
            return
        self._is_busy = True
        try:
            self._move()
        except BaseException as error:  # noqa: BLE001 - raised in the waiting task
            self.done.set_exception(error)
        finally:
            self._is_busy = False

    def _move(self) -> None:
        self._has_more = True
        while self._has_more:
            self._has_more = False
            data = self._content.read_nowait()
            if data and not self._take(data):
                self.done.set_result(False)
                return
        if self._content.at_eof():
            self.done.set_result(True)


def _basic_credentials(proxy: URL | None) -> str | None:
    """Return the login in a forward *proxy*'s URL as a header value, or None."""
    if proxy is None or proxy.user is None:
        return None
    login = f"{proxy.user}:{proxy.password or ''}"
    return f"Basic {b64encode(login.encode()).decode()}"
