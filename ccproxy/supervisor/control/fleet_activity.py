"""
Requests and events of all workers of a fleet, for `events`, `requests`, `top` and `ui`.

`recent_requests` queries each worker once. `FleetWatch` keeps a connection to every worker: it
finds workers that start later, and polls the fleet's status every few seconds to report changes to
entries and switches. It only reads. This module imports msgspec, so the command line imports it
lazily.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ccproxy.config.fleet import Fleet
from ccproxy.ipc.activity import (
    ActivityEvent,
    EventName,
    RequestTimeline,
    decode_event,
    decode_requests,
)
from ccproxy.ipc.control_messages import RequestsRequest, WatchRequest, encode
from ccproxy.supervisor.control.client import fleet_status
from ccproxy.supervisor.control.status import Row
from ccproxy.supervisor.sockets.peer_credentials import trusted_peer
from ccproxy.supervisor.sockets.unix_socket import MAX_LINE, NoAnswer, exchange
from ccproxy.supervisor.state.records import RecordFolder, WorkerRecord

STATUS_SECONDS = 4.0
"""Seconds between two polls of records and status."""
CONNECT_SECONDS = 1.0
REPLY_SECONDS = 2.0
_READ = 256 * 1024


class Requests(NamedTuple):
    """The requests of a fleet, oldest first."""

    running: list[RequestTimeline]
    finished: list[RequestTimeline]


def recent_requests(
    fleet: Fleet, labels: Collection[str] | None, request: RequestsRequest
) -> Requests:
    """
    Return the requests of the workers of *labels* (None for all); silent workers are omitted.

    If another entry answered a request, two workers report it under the same id. Both are returned;
    `answered_by` of the first names the second.
    """
    running: list[RequestTimeline] = []
    finished: list[RequestTimeline] = []
    for record in _running_workers(fleet, labels):
        with suppress(NoAnswer):
            line = exchange(record.control, encode(request), timeout=REPLY_SECONDS).line
            if (reply := decode_requests(line)) is not None:
                running += reply.running
                finished += reply.finished
    running.sort(key=lambda one: one.started)
    finished.sort(key=lambda one: one.started + one.total_s)
    return Requests(running, finished[-request.limit :] if request.limit else [])


@dataclass(slots=True)
class _Connection:
    """The event stream of one worker."""

    socket: socket.socket
    label: str
    buffer: bytearray = field(default_factory=bytearray)

    def receive(self) -> list[bytes] | None:
        """Return the lines that have arrived, or None at the end of the stream."""
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self.buffer += data
        *lines, rest = self.buffer.split(b"\n")
        self.buffer = bytearray(rest)
        return [bytes(line) for line in lines] if len(rest) <= MAX_LINE else None


class FleetWatch:
    """
    The events of a fleet, limited to *labels* unless None.

    `next_events` waits for a batch of events; iteration yields them one by one and never ends.
    """

    def __init__(
        self,
        fleet: Fleet,
        labels: Collection[str] | None = None,
        *,
        status_seconds: float = STATUS_SECONDS,
    ) -> None:
        self._fleet = fleet
        self._labels = None if labels is None else {label.lower() for label in labels}
        self._status_seconds = status_seconds
        self._selector = selectors.DefaultSelector()
        self._connections: dict[str, _Connection] = {}
        """By the worker's nonce."""
        self._next_look = 0.0
        self._last_look: float | None = None
        """Seconds since the epoch."""
        self.rows: dict[str, Row] = {}
        """The last status, by label; empty before the first events."""
        self._woken, self._waker = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)

    def next_events(self, timeout: float | None = None) -> list[ActivityEvent]:
        """Wait up to *timeout* seconds for events; return them, or an empty list."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            events = self._look() if now >= self._next_look else []
            until = self._next_look if deadline is None else min(deadline, self._next_look)
            wait = 0.0 if events else max(0.0, until - now)
            for key, _ in self._selector.select(wait):
                if key.fileobj is self._woken:
                    self._woken.recv(4096)
                    return events
                events += self._receive(key.data)
            if events or (deadline is not None and time.monotonic() >= deadline):
                return events

    def __iter__(self) -> Iterator[ActivityEvent]:
        while True:
            yield from self.next_events()

    def wake(self) -> None:
        """Make `next_events` return at once; may be called from another thread."""
        with suppress(OSError):
            self._waker.send(b"x")

    def close(self) -> None:
        """Close every connection."""
        for nonce in [*self._connections]:
            self._drop(nonce)
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _receive(self, nonce: str) -> list[ActivityEvent]:
        lines = self._connections[nonce].receive()
        if lines is None:
            self._drop(nonce)
            self._next_look = min(self._next_look, time.monotonic() + 0.2)
            return []
        return [event for line in lines if (event := decode_event(line)) is not None]

    def _drop(self, nonce: str) -> None:
        connection = self._connections.pop(nonce)
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _look(self) -> list[ActivityEvent]:
        """Connect to new workers, and return an event for each change in the status."""
        self._next_look = time.monotonic() + self._status_seconds
        since, self._last_look = self._last_look, time.time()
        for record in _running_workers(self._fleet, self._labels):
            if record.nonce not in self._connections:
                self._connect(record, since)
        rows = {
            row.label: row
            for row in fleet_status(self._fleet).proxies
            if self._labels is None or row.label.lower() in self._labels
        }
        events = [
            event
            for label, row in rows.items()
            for event in changes(self.rows.get(label), row, at=time.time())
        ]
        self.rows = rows
        return events

    def _connect(self, record: WorkerRecord, since: float | None) -> None:
        """Watch a worker, including its requests that ended *since* the previous poll."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(os.fspath(record.control))
            trusted_peer(connection)
            connection.sendall(encode(WatchRequest(since=since)))
        except (OSError, NoAnswer):
            connection.close()  # the next poll tries again
            return
        connection.setblocking(False)
        self._connections[record.nonce] = _Connection(connection, record.spec.label)
        self._selector.register(connection, selectors.EVENT_READ, record.nonce)


def changes(before: Row | None, now: Row, *, at: float) -> Iterable[ActivityEvent]:
    """Yield an event for each change that matters to a user; *before* is None at first."""

    def event(name: EventName, to: str, reason: str = "") -> ActivityEvent:
        return ActivityEvent(event=name, at=at, label=now.label, to=to, reason=reason)

    if before is None or (before.state, before.reason) != (now.state, now.reason):
        yield event("entry.state", now.state, now.reason or "")
    if before is None:
        return
    if before.switched != now.switched or before.models != now.models:
        yield event("models.switched", now.switched or now.models.get("big") or "")
    if before.passes_to != now.passes_to:
        yield event("proxy.switched", "off" if now.passes_to else "on", now.passes_to)
    if before.keeps_history != now.keeps_history:
        yield event("history.switched", "on" if now.keeps_history else "off")


def _running_workers(fleet: Fleet, labels: Collection[str] | None) -> list[WorkerRecord]:
    """Return the records of running workers, including those being replaced."""
    lower_labels = None if labels is None else {label.lower() for label in labels}
    return [
        record
        for record in RecordFolder(fleet.pids).running()
        if lower_labels is None or record.spec.label.lower() in lower_labels
    ]
