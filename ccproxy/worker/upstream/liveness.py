"""
Finds out quickly whether a connection from the pool still reaches the provider.

After the machine has slept, the VPN has changed or a load balancer has silently timed out, the
kernel retransmits data on a dead connection for about 15 minutes. So if none of a request's data on
a reused connection is acknowledged, a time limit for acknowledgements is set (TCP_USER_TIMEOUT).
The limit is removed at the first acknowledgement, because it also counts the time in which a
provider does not read a large body, and because with it, a single lost keep-alive probe can end a
silent stream.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

UNACKNOWLEDGED_SECONDS = 6.0
"""A connection on which nothing is acknowledged for this long is dead."""
CHECK_SECONDS = 0.5

_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_TCP_INFO = getattr(socket, "TCP_INFO", None)
_LAST_ACK_RECEIVED = 56
"""Offset of tcpi_last_ack_recv in struct tcp_info (linux/tcp.h), in milliseconds."""


class LivenessTest:
    """Watches *transport* from the moment a request is sent on it until `end`."""

    __slots__ = ("_is_limited", "_loop", "_started", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._started = loop.time()
        self._is_limited = False
        # Most responses begin before that, so the test usually costs no system call.
        self._timer = loop.call_later(CHECK_SECONDS, self._check)

    def end(self) -> None:
        """Stop watching, because the response has begun or the connection is closed."""
        self._timer.cancel()
        if self._is_limited:
            self._limit(0)

    def _check(self) -> None:
        since_ack = self._seconds_since_ack()
        if since_ack is None:
            return
        if since_ack < self._loop.time() - self._started:
            self.end()
            return
        if not self._is_limited:
            self._is_limited = True
            self._limit(UNACKNOWLEDGED_SECONDS)
        self._timer = self._loop.call_later(CHECK_SECONDS, self._check)

    def _seconds_since_ack(self) -> float | None:
        """Return the age of the last acknowledgement, or None if the system does not report it."""
        if self._transport is None or _USER_TIMEOUT is None or _TCP_INFO is None:
            return None
        connection = self._transport.get_extra_info("socket")
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LAST_ACK_RECEIVED + 4)
            (milliseconds,) = struct.unpack_from("=I", info, _LAST_ACK_RECEIVED)
        except (OSError, struct.error, AttributeError):  # closed, or struct too short
            return None
        return float(milliseconds) / 1000

    def _limit(self, seconds: float) -> None:
        if self._transport is None or _USER_TIMEOUT is None:
            return
        connection = self._transport.get_extra_info("socket")
        try:
            connection.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(seconds * 1000))
        except (OSError, AttributeError):  # the connection is closed
            return


def is_unacknowledged(error: Exception) -> bool:
    """Return True if the connection ended because the peer acknowledged nothing."""
    return getattr(error, "errno", None) in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
