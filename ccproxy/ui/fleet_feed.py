"""
The live state of the fleet, for every open page.

One `FleetView` follows the fleet, however many pages are open. Every second its content is encoded
once and sent to all of them. A page that reads too slowly is disconnected; it reconnects and
receives everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import asdict

import msgspec

from ccproxy.cli.top.fleet_view import Snapshot, SnapshotSource
from ccproxy.ipc.activity import RequestTimeline

TICK_SECONDS = 1.0
MAX_RUNNING = 200
"""The maximum number of running requests in one message; the newest are sent."""
MAX_PENDING = 8
"""The maximum number of pending messages per page."""
MAX_PAGES = 32


class FleetFeed:
    """Sends the content of *view* to every open page."""

    def __init__(self, view: SnapshotSource, *, tick_seconds: float = TICK_SECONDS) -> None:
        self._view = view
        self._tick_seconds = tick_seconds
        self._readers: set[asyncio.Queue[bytes | None]] = set()
        self._sent: frozenset[tuple[str, str]] = frozenset()

    @property
    def is_full(self) -> bool:
        """True if the maximum number of pages is connected."""
        return len(self._readers) >= MAX_PAGES

    async def run(self) -> None:
        """Send the current fleet to every page at each tick."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            if self._readers:
                self._send(self._view.snapshot())

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole content, then each update, as server-sent events."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_PENDING)
        self._readers.add(queue)
        try:
            snapshot = self._view.snapshot()
            yield _event(snapshot, finished=snapshot.recent, first=True)
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._readers.discard(queue)

    def close(self) -> None:
        """Disconnect every page."""
        for queue in [*self._readers]:
            self._end(queue)

    def _send(self, snapshot: Snapshot) -> None:
        new = [one for one in snapshot.recent if (one.id, one.label) not in self._sent]
        self._sent = frozenset((one.id, one.label) for one in snapshot.recent)
        message = _event(snapshot, finished=new, first=False)
        for queue in [*self._readers]:
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._end(queue)

    def _end(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._readers.discard(queue)
        with suppress(asyncio.QueueEmpty):
            queue.get_nowait()
        with suppress(asyncio.QueueFull):
            queue.put_nowait(None)


def _event(snapshot: Snapshot, *, finished: Sequence[RequestTimeline], first: bool) -> bytes:
    content = {
        "first": first,
        "at": snapshot.at,
        "rows": [row.as_json() for row in snapshot.rows],
        "today": {label: asdict(totals) for label, totals in snapshot.today.items()},
        "running": snapshot.running[-MAX_RUNNING:],
        "running_total": len(snapshot.running),
        "finished": finished,
    }
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
