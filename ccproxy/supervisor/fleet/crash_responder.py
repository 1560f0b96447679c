"""
Speaks for workers that die as often as they are started: clients are told, not left hanging.

Theory of operation: the port of a worker that crashed stays open, and whoever connects waits in
the kernel for the next one. In a crash loop nobody knows how long, so there the supervisor takes
the connections itself and answers each with an error. It stops as soon as a worker is started.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import socket
from collections.abc import Callable, Sequence

from ccproxy.supervisor.fleet.plan import Phase, Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.sockets.listeners import Address, Listeners

LIMIT = 5.0
"""Seconds that a client gets to send its request and to take the answer."""

MOST_CLIENTS = 64
"""So many are answered at once; further ones are hung up on."""

_CHUNK = 65536
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,12})\r\n", re.IGNORECASE)


class CrashResponder:
    """The ports at which the supervisor answers instead of a worker."""

    def __init__(self, listeners: Listeners, clock: Callable[[], float]) -> None:
        self._listeners = listeners
        self._clock = clock
        self._doors: dict[Address, socket.socket] = {}
        """Copies of the listening sockets, so that they can be closed in any order."""
        self._talks: set[asyncio.Task[None]] = set()

    def update(self, units: Sequence[WorkerSlot]) -> None:
        """Begin to answer where all of *units* are in a crash loop, and end it elsewhere."""
        present = {unit.spec.address for unit in units if not self._is_absent(unit)}
        absent = {unit.spec.address: unit for unit in units if unit.spec.address not in present}
        for address in self._doors.keys() - absent.keys():
            self._shut(address)
        for address in absent.keys() - self._doors.keys():
            self._open(absent[address])

    async def close(self) -> None:
        """Answer nobody any more."""
        for address in list(self._doors):
            self._shut(address)
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def _is_absent(self, unit: WorkerSlot) -> bool:
        looping = unit.phase(self._clock(), Port.OURS) is Phase.CRASH_LOOP
        return looping and unit.record is None and self._listeners.has(unit.spec.address)

    def _open(self, unit: WorkerSlot) -> None:
        door = socket.socket(fileno=os.dup(self._listeners.fileno(unit.spec.address)))
        self._doors[unit.spec.address] = door
        asyncio.get_running_loop().add_reader(door, self._let_in, door, unit)

    def _shut(self, address: Address) -> None:
        door = self._doors.pop(address)
        asyncio.get_running_loop().remove_reader(door)
        door.close()

    def _let_in(self, door: socket.socket, unit: WorkerSlot) -> None:
        try:
            client, _ = door.accept()
        except BlockingIOError:  # gone again
            return
        except OSError:  # no descriptor is free: until the loop looks again
            self._shut(unit.spec.address)
            return
        if len(self._talks) >= MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        talk = asyncio.ensure_future(self._answer(client, unit))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _answer(self, client: socket.socket, unit: WorkerSlot) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            async with asyncio.timeout(LIMIT):
                await _read_request(reader)
                writer.write(_refusal(unit, self._clock()))
                writer.write_eof()
                # To close with something unread would reset the connection, answer and all.
                while await reader.read(_CHUNK):
                    pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> None:
    """Read one request and forget it; a body of unknown length is left alone."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    left = int(length[1]) if length else 0
    while left > 0 and (data := await reader.read(min(left, _CHUNK))):
        left -= len(data)


def _refusal(unit: WorkerSlot, now: float) -> bytes:
    """Say in the Messages API's words that nobody is there, and when to come back."""
    label = unit.spec.label
    wait = max(1, math.ceil(unit.rest_until - now))
    text = (
        f"the proxy {label} is down: it ended {unit.failures} times in a row and is started again "
        f"in {wait} s. See why: ccproxy status, ccproxy logs {label}"
    )
    error = {"type": "error", "error": {"type": "overloaded_error", "message": text}}
    body = json.dumps(error).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"retry-after: {wait + 1}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body
