"""
Events for any number of watchers, each a connection to the worker's control socket.

An event is encoded once, and only if somebody watches. Each watcher has a queue that is bounded in
bytes and sent in batches. A watcher whose queue is full is dropped: it gets what it can still read,
a last event `events.lost` and the end of the stream. Requests never wait for a watcher.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable
from contextlib import suppress

from ccproxy.ipc.activity import ActivityEvent, encode_line

COLLECT_SECONDS = 0.5
"""Time between two batches; the first event after a pause is sent at once."""
MAX_QUEUE = 2 * 1024 * 1024
"""Bytes that may wait for one watcher: about 3,000 events, more than a busy second has."""
SEND_SECONDS = 30.0
"""How long a watcher may leave a batch unread."""


class _Watcher:
    """The events that wait for one watcher."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.lost = 0
        self.is_reading = True
        """False while a batch is being sent."""
        self.has_lines = asyncio.Event()

    def put(self, line: bytes) -> None:
        if self.lost or self.size + len(line) > MAX_QUEUE:
            self.lost += 1
            return
        self.lines.append(line)
        self.size += len(line)
        self.has_lines.set()

    def take(self) -> bytes:
        data = b"".join(self.lines)
        self.lines.clear()
        self.size = 0
        self.has_lines.clear()
        return data


class EventFeed:
    """Sends the events of one worker to everybody who watches."""

    def __init__(self, label: str, *, collect_seconds: float = COLLECT_SECONDS) -> None:
        self._label = label
        self._collect_seconds = collect_seconds
        self._watchers: set[_Watcher] = set()

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches; if not, an event need not be made."""
        return bool(self._watchers)

    def publish(self, event: ActivityEvent) -> None:
        """Send *event* to every watcher; never waits."""
        line = encode_line(event)
        for watcher in self._watchers:
            watcher.put(line)

    async def serve(self, connection: socket.socket, *, first: Iterable[ActivityEvent]) -> None:
        """
        Send events until the watcher leaves or is dropped, beginning with *first*.

        Raises:
            OSError, TimeoutError: If the watcher has left, or reads nothing.

        """
        watcher = _Watcher()
        for event in first:
            watcher.put(encode_line(event))
        self._watchers.add(watcher)
        sending = asyncio.ensure_future(self._send(connection, watcher))
        leaving = asyncio.ensure_future(_wait_until_left(connection))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watchers.discard(watcher)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
            if watcher.is_reading:  # the worker exits: its last requests are sent without waiting
                with suppress(OSError):
                    connection.send(watcher.take())
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    async def _send(self, connection: socket.socket, watcher: _Watcher) -> None:
        loop = asyncio.get_running_loop()
        while not watcher.lost:
            await watcher.has_lines.wait()
            watcher.is_reading = False
            async with asyncio.timeout(SEND_SECONDS):
                await loop.sock_sendall(connection, watcher.take())
            watcher.is_reading = True
            await asyncio.sleep(self._collect_seconds)
        self._watchers.discard(watcher)
        event = ActivityEvent(
            event="events.lost", at=time.time(), label=self._label, lost=watcher.lost
        )
        async with asyncio.timeout(SEND_SECONDS):
            await loop.sock_sendall(connection, watcher.take() + encode_line(event))


async def _wait_until_left(connection: socket.socket) -> None:
    """Return when the other end closes the connection."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while await loop.sock_recv(connection, 4096):
            pass
