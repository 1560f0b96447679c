"""
Answers clients with an error while a worker is in a crash loop.

The port of a crashed worker stays open, and connections wait in the kernel for the next process.
In a crash loop that wait could last forever, so the supervisor accepts the connections itself and
answers each with an error of the Messages API. It stops when a worker is started.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from ccproxy.supervisor.fleet.plan import Phase, Port
from ccproxy.supervisor.fleet.worker_slot import WorkerSlot
from ccproxy.supervisor.sockets.listeners import Address, Listeners

LIMIT = 5.0
"""Seconds that a client has to send its request and read the answer."""

MAX_CLIENTS = 64
"""Connections answered concurrently; further ones are closed."""

_CHUNK = 65536
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,12})\r\n", re.IGNORECASE)


class UnavailableServer:
    """The ports on which the supervisor answers instead of a worker."""

    def __init__(self, listeners: Listeners, clock: Callable[[], float]) -> None:
        self._listeners = listeners
        self._clock = clock
        self._copies: dict[Address, socket.socket] = {}
        """Duplicates of the listening sockets, so that they can be closed in any order."""
        self._tasks: set[asyncio.Task[None]] = set()

    def update(self, slots: Sequence[WorkerSlot]) -> None:
        """Answer on the ports of entries with all slots in a crash loop, and on no others."""
        served = {slot.spec.address for slot in slots if not self._is_looping(slot)}
        looping = {slot.spec.address: slot for slot in slots if slot.spec.address not in served}
        for address in self._copies.keys() - looping.keys():
            self._stop(address)
        for address in looping.keys() - self._copies.keys():
            with suppress(OSError):  # no descriptor is free; the next `update` tries again
                self._start(looping[address])

    async def close(self) -> None:
        """Stop answering."""
        for address in list(self._copies):
            self._stop(address)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_looping(self, slot: WorkerSlot) -> bool:
        is_looping = slot.phase(self._clock(), Port.OURS) is Phase.CRASH_LOOP
        return is_looping and slot.record is None and self._listeners.has(slot.spec.address)

    def _start(self, slot: WorkerSlot) -> None:
        listener = socket.socket(fileno=os.dup(self._listeners.fileno(slot.spec.address)))
        try:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener, slot)
        except OSError:
            listener.close()
            raise
        self._copies[slot.spec.address] = listener

    def _stop(self, address: Address) -> None:
        listener = self._copies.pop(address)
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket, slot: WorkerSlot) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:  # the client has disconnected
            return
        except OSError:  # no descriptor is free; the next `update` tries again
            self._stop(slot.spec.address)
            return
        if len(self._tasks) >= MAX_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        task = asyncio.ensure_future(self._answer(client, slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, client: socket.socket, slot: WorkerSlot) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        try:
            async with asyncio.timeout(LIMIT):
                await _discard_request(reader)
                writer.write(_error_response(slot, self._clock()))
                writer.write_eof()
                # Closing with unread data would reset the connection and lose the answer.
                while await reader.read(_CHUNK):
                    pass
        except (OSError, EOFError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()


async def _discard_request(reader: asyncio.StreamReader) -> None:
    """Read and discard one request; a body of unknown length is not read."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    remaining = int(length[1]) if length else 0
    while remaining > 0 and (data := await reader.read(min(remaining, _CHUNK))):
        remaining -= len(data)


def _error_response(slot: WorkerSlot, now: float) -> bytes:
    label = slot.spec.label
    wait = max(1, math.ceil(slot.retry_at - now))
    text = (
        f"the proxy {label} is down: it exited {slot.failures} times in a row; next start in "
        f"{wait} s. See why: ccproxy status, ccproxy logs {label}"
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
