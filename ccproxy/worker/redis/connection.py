"""
A connection to Redis: commands are pipelined, each reply has a callback, and nothing is retried.

The commands of a pool are few and small, but they add to the cost of every request: with hiredis as
the parser, two script calls cost the worker 0.1 ms of CPU time; with redis-py's client, 0.5 ms.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from ccproxy.config.services.redis_address import RedisAddress, Sentinel

MAX_REPLY = 64 * 1024 * 1024
"""Maximum size of one reply in bytes; the state of a pool has a few thousand."""

MAX_ERROR = 300
"""Maximum length of an error text; longer ones are truncated."""

Reply = Any
"""An integer, bytes, a list of replies, or None."""
Callback = Callable[[Reply], None]


class RedisError(Exception):
    """Redis is unavailable or has refused a command; the message is for the user."""


class RedisConnection(asyncio.Protocol):
    """Sends commands, and passes each reply to its callback; errors are passed as `RedisError`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._unread = 0
        """Number of bytes received since the last complete reply."""
        self._callbacks: deque[Callback] = deque()
        self._transport: asyncio.Transport | None = None
        self.on_lost: Callable[[str], None] = lambda _reason: None
        """Called once if the connection ends without `close`, after all callbacks got an error."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass complete replies to their callbacks."""
        self._reader.feed(data)
        self._unread += len(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._unread = 0
                if isinstance(reply, hiredis.ReplyError):
                    reply = RedisError(str(reply)[:MAX_ERROR])
                self._callbacks.popleft()(reply)
        except (hiredis.ProtocolError, IndexError, MemoryError):
            self._end("the server does not speak the Redis protocol")
        if self._unread > MAX_REPLY:
            self._end(f"a reply is larger than {MAX_REPLY >> 20} MiB")

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end of the connection."""
        self._end(str(error) if error else "the server has closed the connection")

    @property
    def is_open(self) -> bool:
        """True if commands can be sent."""
        return self._transport is not None

    def send(self, command: tuple[str | int | float | bytes, ...], on_reply: Callback) -> None:
        """Send *command*; raise RedisError if the connection is closed."""
        if self._transport is None:
            raise RedisError("the connection is closed")
        self._callbacks.append(on_reply)
        packed = hiredis.pack_command(command)  # type: ignore[arg-type] # its stub allows one item
        self._transport.write(packed)

    async def call(self, *command: str | int | float | bytes) -> Reply:
        """Send a command and return its reply; raise RedisError if it fails."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, RedisError):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(command, on_reply)
        return await future

    def close(self) -> None:
        """Close the connection; callbacks that still wait for a reply get a `RedisError`."""
        self.on_lost = lambda _reason: None
        self._end("closed")

    def _end(self, reason: str) -> None:
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        callbacks, self._callbacks = self._callbacks, deque()
        for callback in callbacks:
            callback(RedisError(reason))
        self.on_lost(reason)


async def connect(address: RedisAddress, *, limit: float) -> RedisConnection:
    """
    Connect to the server, or to the master that the Sentinels name, and log in.

    Raises:
        RedisError: If connecting fails or takes longer than *limit* seconds.
    """
    try:
        async with asyncio.timeout(limit):
            if address.sentinels:
                return await _connect_to_master(address)
            return await _log_in(await _open(address, address.host, address.port), address)
    except TimeoutError as error:
        raise RedisError(f"no connection within {limit * 1000:g} ms") from error
    except OSError as error:
        raise RedisError(error.strerror or str(error)) from error


async def _connect_to_master(address: RedisAddress) -> RedisConnection:
    """Query the Sentinels one by one, until one of them names a server that is the master."""
    reason = ""
    for sentinel in address.sentinels:
        try:
            host, port = await _master(address, sentinel)
            connection = await _log_in(await _open(address, host, port), address)
        except (RedisError, OSError) as error:
            reason = f"{sentinel.host}: {error}"
        else:
            return connection
    raise RedisError(f"no Sentinel has named a reachable master ({reason})")


async def _master(address: RedisAddress, sentinel: Sentinel) -> tuple[str, int]:
    connection = await _open(address, sentinel.host, sentinel.port)
    try:
        if address.sentinel_password:
            await connection.call("AUTH", address.sentinel_password)
        master = await connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master)
    finally:
        connection.close()
    if not master:
        raise RedisError(f"unknown master {address.master}")
    return master[0].decode(), int(master[1])


async def _open(address: RedisAddress, host: str, port: int) -> RedisConnection:
    loop = asyncio.get_running_loop()
    if address.path:
        _, connection = await loop.create_unix_connection(RedisConnection, address.path)
        return connection
    context = _tls_context(address) if address.uses_tls else None
    _, connection = await loop.create_connection(RedisConnection, host, port, ssl=context)
    return connection


async def _log_in(connection: RedisConnection, address: RedisAddress) -> RedisConnection:
    try:
        if address.password:
            login = (address.user, address.password) if address.user else (address.password,)
            await connection.call("AUTH", *login)
        if address.database:
            await connection.call("SELECT", address.database)
        if address.sentinels and (await connection.call("ROLE"))[0] != b"master":
            raise RedisError("the server is no longer the master")
    except BaseException:  # in any case, the connection must not leak
        connection.close()
        raise
    return connection


def _tls_context(address: RedisAddress) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=address.ca_bundle)
