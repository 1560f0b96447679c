"""
Owns the listening sockets and hands them down.

A socket is bound and listening here before any worker exists, and stays open through crashes,
restarts and replacements: connections queue in the kernel meanwhile and none is refused.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ccproxy.supervisor.fleet.plan import Port

BACKLOG = 1024
"""Connections that may wait while no worker accepts."""

RETRY = 2.0
"""Seconds until a port that could not be had is tried again."""

SOON = 0.1
"""The same, where a worker of ours is about to let it go."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an address is not ours."""

    reason: str
    port: Port
    """Whether another program, a leaving worker or the system stands in the way."""
    again: float
    """When to try again, by the caller's clock."""


class Listeners:
    """Every listening socket of the fleet."""

    def __init__(
        self, *, clock: Callable[[], float], name_holder: Callable[[int], str] | None = None
    ) -> None:
        self._clock = clock
        self._name_holder = name_holder or name_holder_of
        self._sockets: dict[Address, socket.socket] = {}
        self._troubles: dict[Address, Trouble] = {}

    def has(self, address: Address) -> bool:
        """Say whether *address* is ours."""
        return address in self._sockets

    def trouble(self, address: Address) -> Trouble | None:
        """Say why *address* could not be had when it was last tried."""
        return self._troubles.get(address)

    def next_try(self, now: float) -> float:
        """Return the next moment after *now* at which a port is worth another try."""
        later = (trouble.again for trouble in self._troubles.values() if trouble.again > now)
        return min(later, default=math.inf)

    def fileno(self, address: Address) -> int:
        """Return the descriptor to hand down."""
        return self._sockets[address].fileno()

    def bind(self, address: Address, *, leaving: bool = False) -> Trouble | None:
        """
        Bind *address* and listen; return what stands in the way, if anything does.

        *leaving* says that a worker of ours may still have the port.
        """
        try:
            listener = _listen(address)
        except OSError as error:
            trouble = self._describe(address, error, leaving=leaving)
            self._troubles[address] = trouble
            return trouble
        self._troubles.pop(address, None)
        self._sockets[address] = listener
        return None

    def adopt(self, address: Address, listener: socket.socket) -> None:
        """Take over a *listener* that a worker handed back; a second one is closed."""
        if address in self._sockets:
            listener.close()
            return
        listener.setblocking(False)
        self._sockets[address] = listener

    def keep_only(self, wanted: Collection[Address]) -> list[Address]:
        """Close what is not *wanted* any more; return it."""
        gone = [address for address in self._sockets if address not in wanted]
        for address in gone:
            self._sockets.pop(address).close()
        for address in [address for address in self._troubles if address not in wanted]:
            del self._troubles[address]
        return gone

    def _describe(self, address: Address, error: OSError, *, leaving: bool) -> Trouble:
        now = self._clock()
        host, port = address
        if error.errno == errno.EADDRINUSE and leaving:
            text = f"port {port} is still held by a worker that is leaving"
            return Trouble(text, Port.HELD, now + SOON)
        if error.errno == errno.EADDRINUSE:
            before = self._troubles.get(address)
            # Asking who it is costs a walk through /proc; once is enough.
            reason = (
                before.reason if before and before.port is Port.FOREIGN else self._name_holder(port)
            )
            return Trouble(reason, Port.FOREIGN, now + RETRY)
        text = f"cannot listen on {host}:{port}: {error.strerror or error}"
        return Trouble(text, Port.BARRED, now + RETRY)


def name_holder_of(port: int) -> str:
    """Say who listens on *port*, as far as the system tells us."""
    import psutil  # costs 20 ms and 3 MB; most fleets never need it

    found = f"port {port} in use"
    try:
        connections = psutil.net_connections(kind="tcp")
        pid = next(
            one.pid
            for one in connections
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid
        )
        process = psutil.Process(pid)
        return f"{found} by {process.name()} (pid {pid}, user {process.username()})"
    except StopIteration:
        return f"{found} by another user's program"
    except (psutil.Error, OSError, KeyError):
        return f"{found} by another program"


def _listen(address: Address) -> socket.socket:
    host, port = address
    family, kind, protocol, _, name = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(name)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
