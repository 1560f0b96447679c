"""
Requests on aiohttp's connections, with nothing around them that a proxy does not need.

aiohttp's connector owns the connections (names, TLS, forward proxies, the pool), and its parser
reads the answers. What `ClientSession` adds, such as cookies, redirects, forms, tracing and a task
that writes the body, costs more than all of ccproxy's own work on a small request. Here is one
POST: a head that was put together before, a body that is bytes, and the answer's beginning.

The body of an answer is read in two ways. `read` waits in a task, which the event loop must wake
for every piece. `pump` gives every piece to a function at once, inside the connection's own
`data_received`: for a stream of small chunks the wake-up is most of the cost. What the function
does not take stays in aiohttp's buffer, and aiohttp stops reading from the provider.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EofStream, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ccproxy.worker.server.flow_control import ResumesWhatIsPaused

READ_BUFFER = 64 * 1024
FIELD_LIMIT = 64 * 1024
"""Bytes of one header of the provider's."""

_HEADS_KEPT = 512
_LARGEST_KEPT = 8 * 1024
"""Characters of a head that is remembered."""
_MOST_INTERIM = 16
"""Interim answers (1xx) before the answer; Early Hints are one or two."""
_JOINED = 64 * 1024
"""Bytes of a body that are copied to go out with the head in one write."""
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_NOTHING_KNOWN = aiohttp.RequestInfo(URL(), "POST", CIMultiDictProxy(CIMultiDict()), URL())

Headers = tuple[tuple[str, str], ...]
Take = Callable[[bytes], bool]
"""Takes a piece of an answer; False: no more for now."""


class Line(ResumesWhatIsPaused, ResponseHandler):
    """aiohttp's end of a connection to the provider, which tells a listener of every read."""

    listener: Callable[[], None] | None = None
    has_served = False
    is_idle = False
    """Whether it waits in the pool, where nothing may come."""

    def data_received(self, data: bytes) -> None:
        """Let aiohttp take the bytes apart; what nobody asked for is nobody's answer."""
        if self.is_idle:
            self.abort()
            return
        super().data_received(data)
        if self.listener is not None:
            self.listener()
        if self.is_idle and self.should_close:
            self.abort()  # behind the answer's end there was more

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let aiohttp end the answer, or break it off."""
        super().connection_lost(exc)
        if self.listener is not None:
            self.listener()


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is the same for many requests."""

    request: aiohttp.ClientRequest
    """By this the connector knows where to connect; it is never sent."""
    start: bytes
    """The request line and the headers, up to the body's length."""


class Wire:
    """Sends requests on the connections of *connector*, through *proxy* if there is one."""

    def __init__(
        self, connector: aiohttp.BaseConnector, *, proxy: str | None, timeout: aiohttp.ClientTimeout
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connector = connector
        # aiohttp has no public way to choose the protocol.
        factory: Any = partial(Line, self._loop)
        self._connector._factory = factory
        self._proxy = URL(proxy) if proxy else None
        self._timeout = timeout
        self._kept_head = lru_cache(maxsize=_HEADS_KEPT)(self._make_head)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()

    async def post(self, url: str, headers: Headers, body: bytes, *, patience: float) -> Reply:
        """
        Send a request and return its answer as soon as that begins.

        A connection from the pool may have died unnoticed; then the request goes out once more.

        Raises:
            TimeoutError: If nothing came for *patience* seconds.
            aiohttp.ClientError: If there is no connection, it broke, or what came is no HTTP.

        """
        head = self.head(url, headers)
        reply = Reply(await self._connect(head), loop=self._loop, patience=patience)
        try:
            await reply.send(head.start, body)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not reply.is_reused:
                raise
            reply = Reply(await self._connect(head), loop=self._loop, patience=patience)
            await reply.send(head.start, body)
        return reply

    def head(self, url: str, headers: Headers) -> Head:
        """Put together what goes before a body, or remember it; a client sends the same again."""
        size = sum(map(len, chain.from_iterable(headers)), len(url))
        return (self._kept_head if size <= _LARGEST_KEPT else self._make_head)(url, headers)

    async def _connect(self, head: Head) -> Connection:
        try:
            return await self._connector.connect(head.request, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    def _make_head(self, url: str, headers: Headers) -> Head:
        # A client's query goes out as it came: yarl would take it apart and write it anew.
        place, mark, query = url.partition("?")
        # aiohttp says what Host is, and what a login in the URL means.
        request = aiohttp.ClientRequest(
            "POST", URL(place), headers=headers, loop=self._loop, proxy=self._proxy
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
        if through_proxy and (login := _login(self._proxy)):
            lines.append(f"Proxy-Authorization: {login}")
        if any(map(_FORBIDDEN.search, lines)):
            raise ValueError("a header to the provider has a line break in it")
        start = "\r\n".join([*lines, "Content-Length: "])
        return Head(request=request, start=start.encode("utf-8", "surrogateescape"))


class Reply:
    """
    One answer: status and headers once it has begun, then its body.

    Whoever waits for the provider does so for a limited time; time in which nobody reads, because
    the client does not take what was read, is not the provider's.
    """

    status: int
    headers: Mapping[str, str]

    def __init__(
        self, connection: Connection, *, loop: asyncio.AbstractEventLoop, patience: float
    ) -> None:
        line = connection.protocol
        if not isinstance(line, Line):
            raise TypeError("a connection that this wire did not make")
        self.is_reused = line.has_served
        self._connection: Connection | None = connection
        self._line = line
        self._content: StreamReader | None = None
        self._loop = loop
        self._patience = patience
        self._waiting_since: float | None = None
        self._timer = self._loop.call_later(patience, self._look_at_clock)

    @property
    def content_type(self) -> str:
        """The media type without parameters, in lower case."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def is_over(self) -> bool:
        """Whether all of the body has been read."""
        return self._content is not None and self._content.at_eof()

    async def send(self, head: bytes, body: bytes) -> None:
        """Send the request and wait until its answer begins; raises as `Wire.post` does."""
        try:
            self._write(head, body)
            self._waiting_since = self._loop.time()
            message, content = await self._read_head()
        except (HttpProcessingError, EofStream) as error:
            self.close()
            raise aiohttp.ClientResponseError(_NOTHING_KNOWN, ()) from error
        except BaseException:  # whatever it is, the connection must not linger
            self.close()
            raise
        finally:
            self._waiting_since = None
        self.status, self.headers, self._content = message.code, message.headers, content
        content.on_eof(self._end)

    async def _read_head(self) -> tuple[RawResponseMessage, StreamReader]:
        for _ in range(_MOST_INTERIM):
            message, content = await self._line.read()
            if 200 <= message.code < 600:
                return message, content
            if not 100 <= message.code < 200 or message.upgrade:
                raise HttpProcessingError(message=f"status {message.code}")
        raise HttpProcessingError(message="interim answers without end")

    def allow(self, patience: float) -> None:
        """Let silence last for *patience* seconds from now on."""
        self._patience = patience
        if self._connection is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(patience, self._look_at_clock)

    async def read(self) -> bytes:
        """Return what has come, as soon as there is something; nothing at the end."""
        self._waiting_since = self._loop.time()
        try:
            return await self._body.readany()
        finally:
            self._waiting_since = None

    async def pump(self, take: Take) -> bool:
        """
        Give every piece to *take* as it comes; return True when the body has ended.

        False: *take* wants no more for now. What it raises is raised here.
        """
        pump = _Pump(self._body, take, self._loop)

        def listen() -> None:
            self._waiting_since = self._loop.time()
            pump.run()

        self._line.listener = listen
        try:
            listen()
            return await pump.done
        finally:
            self._line.listener = self._waiting_since = None

    def close(self) -> None:
        """Give the rest of the answer up, and with it the connection, unless nothing is left."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _write(self, head: bytes, body: bytes) -> None:
        line = self._line
        line.is_idle = False
        line.set_response_params(
            read_until_eof=True,
            read_bufsize=READ_BUFFER,
            max_line_size=FIELD_LIMIT,
            max_field_size=FIELD_LIMIT,
        )
        if line.transport is None:
            raise aiohttp.ServerDisconnectedError
        start = b"%b%d\r\n\r\n" % (head, len(body))
        if len(body) <= _JOINED:
            line.transport.write(start + body)
        else:
            line.transport.writelines((start, body))

    @property
    def _body(self) -> StreamReader:
        if self._content is None:
            raise RuntimeError("the answer has not begun")
        return self._content

    def _end(self) -> None:
        """Give the connection back: all of the answer is here."""
        self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._line.has_served = True
        transport = self._line.transport
        if transport is not None and transport.get_write_buffer_size():
            connection.close()  # an answer before the request was out: the rest is in the way
        else:
            self._line.is_idle = True
            connection.release()

    def _look_at_clock(self) -> None:
        since, now = self._waiting_since, self._loop.time()
        if since is None or now - since < self._patience:
            due = self._patience if since is None else since + self._patience - now
            self._timer = self._loop.call_later(due, self._look_at_clock)
            return
        silence = aiohttp.SocketTimeoutError("nothing came")
        (self._line if self._content is None else self._content).set_exception(silence)
        if self._line.listener is not None:
            self._line.listener()
        self.close()


class _Pump:
    """Moves what is read to whoever takes it, until the end, a pause or an error."""

    __slots__ = ("_content", "_has_more", "_is_busy", "_take", "done")

    def __init__(self, content: StreamReader, take: Take, loop: asyncio.AbstractEventLoop) -> None:
        self._content = content
        self._take = take
        self._is_busy = False
        self._has_more = False
        self.done: asyncio.Future[bool] = loop.create_future()

    def run(self) -> None:
        """Move all that is there; called at every read, also from within itself."""
        if self._is_busy:
            # Taking from a full buffer lets aiohttp read on at once, which calls us again.
            self._has_more = True
            return
        if self.done.done():
            return
        self._is_busy = True
        try:
            self._move()
        except BaseException as error:  # noqa: BLE001 - it belongs to the task that waits
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


def _login(proxy: URL | None) -> str | None:
    """Return the login in the address of a forward *proxy* as a header's value."""
    if proxy is None or proxy.user is None:
        return None
    login = f"{proxy.user}:{proxy.password or ''}"
    return f"Basic {b64encode(login.encode()).decode()}"
