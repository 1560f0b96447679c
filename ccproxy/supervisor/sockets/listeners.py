"""
The listening TCP sockets of the fleet.

The supervisor binds a socket before any worker exists, and keeps it open while workers crash,
restart and are replaced. Meanwhile, connections wait in the kernel's queue and none is refused.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ccproxy.supervisor.fleet.plan import Port
from ccproxy.supervisor.processes.identity import command_line, option_of

BACKLOG = 1024
"""Connections that may wait while no worker accepts."""

RETRY = 2.0
"""Seconds before retrying a port that could not be bound."""

RETRY_SOON = 0.1
"""Like `RETRY`, while a worker of this fleet is about to release the port."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class BindProblem:
    """Why an address could not be bound."""

    reason: str
    port: Port
    """FOREIGN, HELD or REFUSED."""
    retry_at: float
    """When to retry, on the clock of the `Listeners`."""


class Listeners:
    """Every listening socket of the fleet."""

    def __init__(
        self, *, clock: Callable[[], float], describe: Callable[[int], str] | None = None
    ) -> None:
        self._clock = clock
        self._describe_holder = describe or describe_port_holder
        self._sockets: dict[Address, socket.socket] = {}
        self._problems: dict[Address, BindProblem] = {}

    def has(self, address: Address) -> bool:
        """Return True if *address* is bound here."""
        return address in self._sockets

    def problem(self, address: Address) -> BindProblem | None:
        """Return why *address* could not be bound at the last attempt."""
        return self._problems.get(address)

    def next_try(self, now: float) -> float:
        """Return the next time after *now* at which to retry a port."""
        times = (problem.retry_at for problem in self._problems.values() if problem.retry_at > now)
        return min(times, default=math.inf)

    def fileno(self, address: Address) -> int:
        """Return the descriptor that workers inherit."""
        return self._sockets[address].fileno()

    def bind(self, address: Address, *, is_leaving: bool = False) -> BindProblem | None:
        """
        Bind *address* and listen; return the problem if that fails.

        *is_leaving* means that a worker of this fleet may still hold the port.
        """
        try:
            listener = _listen(address)
        except OSError as error:
            problem = self._problem_of(address, error, is_leaving=is_leaving)
            self._problems[address] = problem
            return problem
        self._problems.pop(address, None)
        self._sockets[address] = listener
        return None

    def adopt(self, address: Address, listener: socket.socket) -> None:
        """Take over a *listener* that a worker returned; close it if *address* already has one."""
        if address in self._sockets:
            listener.close()
            return
        listener.setblocking(False)
        self._sockets[address] = listener

    def keep_only(self, addresses: Collection[Address]) -> list[Address]:
        """Close all listeners except those of *addresses*; return the closed addresses."""
        closed = [address for address in self._sockets if address not in addresses]
        for address in closed:
            self._sockets.pop(address).close()
        for address in [address for address in self._problems if address not in addresses]:
            del self._problems[address]
        return closed

    def _problem_of(self, address: Address, error: OSError, *, is_leaving: bool) -> BindProblem:
        now = self._clock()
        host, port = address
        if error.errno == errno.EADDRINUSE and is_leaving:
            text = f"port {port} is still held by a worker that is stopping"
            return BindProblem(text, Port.HELD, now + RETRY_SOON)
        if error.errno == errno.EADDRINUSE:
            before = self._problems.get(address)
            # Finding the holder reads all of /proc, so do it only once.
            is_known = before is not None and before.port is Port.FOREIGN
            reason = before.reason if before and is_known else self._describe_holder(port)
            return BindProblem(reason, Port.FOREIGN, now + RETRY)
        text = f"cannot listen on {host}:{port}: {error.strerror or error}"
        return BindProblem(text, Port.REFUSED, now + RETRY)


def describe_port_holder(port: int) -> str:
    """Describe the program that listens on *port*, as far as the system reports it."""
    import psutil  # takes 20 ms and 3 MB, and most fleets never need it

    text = f"port {port} in use"
    try:
        pid = next(
            one.pid
            for one in psutil.net_connections(kind="tcp")
            if one.laddr and one.laddr.port == port and one.status == psutil.CONN_LISTEN and one.pid
        )
        process = psutil.Process(pid)
        command = command_line(pid)
        label, home = option_of(command, "--label"), option_of(command, "--home")
        fleet = f"{f'{label} of ' if label else ''}the ccproxy fleet in {home}"
        name = fleet if home else process.name()
        return f"{text} by {name} (pid {pid}, user {process.username()})"
    except StopIteration:
        return f"{text} by another user's program"
    except (psutil.Error, OSError, KeyError):
        return f"{text} by another program"


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
