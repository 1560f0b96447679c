"""
Events for any number of watchers, each a connection to the worker's control socket.

Events are collected for half a second, and only if there are watchers. They are then created and
encoded together, which takes a fifth of the time of encoding them one by one between other work,
and all watchers receive the same batch. Data that a watcher's socket does not accept at once waits
in a bounded queue. If the queue is full, the watcher is dropped: it receives the queued events, a
final `events.lost` event and the end of the stream. Requests never wait for a watcher.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ccproxy.ipc.activity import ActivityEvent, encode_line

COLLECT_SECONDS = 0.5
"""Interval between batches; the first event after a pause is sent at once."""
MAX_BATCH = 200
"""A batch of this many events is sent without waiting for COLLECT_SECONDS to pass."""
MAX_QUEUE = 2 * 1024 * 1024
"""Bytes that may wait for one watcher: about 3,000 events, more than in a busy second."""
SEND_SECONDS = 30.0
"""How long a watcher may take to read queued data."""


class _Watcher:
    """One connection and its queue, which begins with *first*."""

    def __init__(self, connection: socket.socket, first: bytes) -> None:
        self.lost = 0
        """Number of lost events; after the first one, the watcher receives no more."""
        self._connection = connection
        self._queue = [first]
        self._size = len(first)
        """Bytes in the queue, including those that are being sent."""
        self._has_queue = asyncio.Event()
        self._has_queue.set()

    def send(self, data: bytes, events: int) -> None:
        """Send *data*, which contains *events* events; queue what the socket does not accept."""
        if self.lost or self._size + len(data) > MAX_QUEUE:
            self.lost += events
            self._has_queue.set()
            return
        if not self._has_queue.is_set():
            # An error other than a full buffer recurs when the queue is sent.
            with suppress(OSError):
                data = data[self._connection.send(data) :]
        if data:
            self._queue.append(data)
            self._size += len(data)
            self._has_queue.set()

    async def send_queue(self) -> None:
        """
        Send queued events until everything before the first loss is sent.

        Raises:
            OSError, TimeoutError: If the watcher has disconnected or does not read.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._has_queue.wait()
            while self._queue:
                data = b"".join(self._queue)
                self._queue.clear()
                async with asyncio.timeout(SEND_SECONDS):
                    await loop.sock_sendall(self._connection, data)
                self._size -= len(data)
            if self.lost:
                return
            self._has_queue.clear()


class EventFeed:
    """Sends the events of one worker to all watchers."""

    def __init__(self, label: str, *, collect_seconds: float = COLLECT_SECONDS) -> None:
        self._label = label
        self._collect_seconds = collect_seconds
        self._watchers: set[_Watcher] = set()
        self._batch: list[Callable[[], ActivityEvent]] = []
        self._timer: asyncio.TimerHandle | None = None
        """Set while events are collected."""

    @property
    def is_watched(self) -> bool:
        """Whether there are watchers; if not, no event needs to be created."""
        return bool(self._watchers)

    def publish(self, make: Callable[[], ActivityEvent]) -> None:
        """Send the event that *make* creates to every watcher; never blocks."""
        self._batch.append(make)
        if self._timer is None or len(self._batch) >= MAX_BATCH:
            self._send_batch()
        if self._timer is None:
            self._collect()

    async def serve(self, connection: socket.socket, *, first: Iterable[ActivityEvent]) -> None:
        """
        Send events until the watcher leaves or is dropped, beginning with *first*.

        Raises:
            OSError, TimeoutError: If the watcher has disconnected or does not read.
        """
        self._send_batch()  # *first* covers these events
        watcher = _Watcher(connection, b"".join(map(encode_line, first)))
        self._watchers.add(watcher)
        sending = asyncio.ensure_future(self._send_queue(connection, watcher))
        leaving = asyncio.ensure_future(_wait_until_left(connection))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._send_batch()  # if the worker exits, its last events are sent without waiting
            self._watchers.discard(watcher)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled() and (error := sending.exception()) is not None:
            raise error

    def _collect(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._collect_seconds, self._end_collection)

    def _end_collection(self) -> None:
        self._timer = None
        if self._batch:
            self._send_batch()
            self._collect()

    def _send_batch(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        data = b"".join(encode_line(make()) for make in batch)
        for watcher in self._watchers:
            watcher.send(data, len(batch))

    async def _send_queue(self, connection: socket.socket, watcher: _Watcher) -> None:
        await watcher.send_queue()
        self._watchers.discard(watcher)
        event = ActivityEvent(
            event="events.lost", at=time.time(), label=self._label, lost=watcher.lost
        )
        async with asyncio.timeout(SEND_SECONDS):
            await asyncio.get_running_loop().sock_sendall(connection, encode_line(event))


async def _wait_until_left(connection: socket.socket) -> None:
    """Wait until the other end closes the connection."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        while await loop.sock_recv(connection, 4096):
            pass
