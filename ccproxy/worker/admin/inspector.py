"""
The last requests and events of a worker, in memory, for GET /debug_logs.

Redacted bodies are included while INSPECT is on: for 24 hours after it was switched on, after which
they are deleted. A restart does not extend the period, so that a setting forgotten in an env file
does not keep recording indefinitely. Nothing is written to disk. /debug_logs shows the beginning of
each body; `ccproxy ui` shows whole bodies while their total size is below the limit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from ccproxy.ipc.control_messages import InspectReply
from ccproxy.redaction import Redactor
from ccproxy.worker.server.access_record import AccessRecord, Bodies

KINDS = ("request", "response", "error", "config", "model_switch", "model_mapping")
MAX_NOTES = 500
INSPECTION_SECONDS = 24 * 3600.0
MAX_BODY_BYTES = 16 * 1024
"""Bytes of each body that /debug_logs shows."""
MAX_HELD_BODY = 1024 * 1024
"""Bytes of each body that are kept."""
MAX_HELD = 32 * 1024 * 1024
"""Bytes of all bodies together; the oldest bodies are deleted first."""

Entry = dict[str, Any]
Note = tuple[float, str, Mapping[str, Any]] | AccessRecord
"""The time, kind and data of an event, or the record of a request."""


class Inspector:
    """A ring buffer of notes, each shown as one or more entries of `KINDS`."""

    def __init__(
        self,
        *,
        redact: Redactor,
        inspects_since: float | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """*inspects_since* is when INSPECT was switched on, by *wall*, or None if it is off."""
        self._redact = redact
        self._wall = wall
        # A file's date may be in the future; that must not extend the period.
        start = None if inspects_since is None else min(inspects_since, wall())
        self._inspects_until = 0.0 if start is None else start + INSPECTION_SECONDS
        self._notes: deque[Note] = deque(maxlen=MAX_NOTES)

    @property
    def inspects(self) -> bool:
        """True while bodies are included."""
        return self._inspects_until > 0 and self.inspects_for > 0

    @property
    def inspects_for(self) -> float:
        """For how many more seconds bodies are included."""
        return max(0.0, self._inspects_until - self._wall()) if self._inspects_until else 0.0

    def note(self, kind: str, **data: Any) -> None:  # noqa: ANN401 - any JSON value
        """Add an event of *kind*."""
        self._append((self._wall(), kind, data))

    def note_request(self, record: AccessRecord) -> None:
        """Add a finished request to a model; its entries are created only when they are read."""
        self._end_inspection()
        self._append(record)
        if record.bodies is not None:
            record.trim_bodies(MAX_HELD_BODY if self.inspects else 0)
            self._delete_old_bodies()

    def entries(self, kind: str = "all", *, limit: int = 100) -> list[Entry]:
        """Return the last *limit* entries of *kind*, oldest first; `all` matches every kind."""
        self._end_inspection()
        # Create only these entries: redacting the bodies of all requests takes a second.
        last = islice(self._matches(kind), limit)
        return [self._entry(note, each) for note, each in last][::-1]

    def count(self, kind: str = "all") -> int:
        """Return the number of entries of *kind*."""
        return sum(1 for _ in self._matches(kind))

    def exchange(self, request_id: str) -> InspectReply | None:
        """Return the redacted bodies of one request, or None if they are not kept."""
        self._end_inspection()
        for note in reversed(self._notes):
            if isinstance(note, AccessRecord) and note.request_id == request_id and note.held:
                bodies = note.bodies or Bodies()
                sizes = len(bodies.request), len(bodies.sent), len(bodies.response)
                return InspectReply(
                    request=self._readable(bodies.request),
                    sent=self._readable(bodies.sent),
                    response=self._readable(bodies.response, is_stream=note.stream),
                    event_times=note.event_times,
                    is_cut=MAX_HELD_BODY in sizes,
                )
        return None

    def clear(self) -> int:
        """Delete everything; return the number of entries."""
        count = self.count()
        self._delete_bodies()
        self._notes.clear()
        return count

    def _append(self, note: Note) -> None:
        if len(self._notes) == MAX_NOTES and isinstance(oldest := self._notes[0], AccessRecord):
            oldest.trim_bodies(0)  # other lists keep the record for longer
        self._notes.append(note)

    def _delete_bodies(self) -> None:
        for note in self._notes:
            if isinstance(note, AccessRecord):
                note.trim_bodies(0)

    def _delete_old_bodies(self) -> None:
        """Delete bodies, oldest first, until the rest fits into the limit."""
        records = [note for note in self._notes if isinstance(note, AccessRecord)]
        excess = sum(record.held for record in records) - MAX_HELD
        for record in records:
            if excess <= 0:
                return
            excess -= record.held
            record.trim_bodies(0)

    def _readable(self, body: bytes, *, is_stream: bool = False) -> str:
        redact = self._redact.events if is_stream else self._redact
        return redact(body.decode("utf-8", "replace"))

    def _end_inspection(self) -> None:
        """Delete the bodies once the period is over."""
        if not self._inspects_until or self.inspects:
            return
        self._inspects_until = 0.0
        self._delete_bodies()

    def _matches(self, kind: str) -> Iterator[tuple[Note, str]]:
        """Yield the note and the kind of each matching entry, newest first."""
        for note in reversed(self._notes):
            for each in reversed(_kinds_of(note)):
                if kind in ("all", each):
                    yield note, each

    def _entry(self, note: Note, kind: str) -> Entry:
        if isinstance(note, AccessRecord):
            return self._request_entry(note, kind)
        at, _, data = note
        return _entry(at, kind, data)

    def _request_entry(self, record: AccessRecord, kind: str) -> Entry:
        data: dict[str, Any] = {"request": record.request_id}
        body, is_stream = record.response_body, record.stream
        match kind:
            case "request":
                data |= {"path": record.path, "model": record.requested, "stream": record.stream}
                body, is_stream = record.request_body, False
            case "model_mapping":
                data |= {"requested": record.requested, "model": record.model}
                body = b""
            case "error":
                data |= {"status": record.status, "error": record.error, "reason": record.reason}
            case _:
                data |= {
                    "status": record.status,
                    "stop_reason": record.stop_reason,
                    "usage": dict(record.usage),
                    "key": record.key,
                    "attempts": record.attempts,
                }
        if body:
            data["body"] = self._readable(body[:MAX_BODY_BYTES], is_stream=is_stream)
        return _entry(record.started_at, kind, data)


def _kinds_of(note: Note) -> tuple[str, ...]:
    if isinstance(note, AccessRecord):
        return "request", "model_mapping", "error" if note.error else "response"
    return (note[1],)


def _entry(at: float, kind: str, data: Mapping[str, Any]) -> Entry:
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return {"timestamp": stamp, "type": kind, "data": dict(data)}
