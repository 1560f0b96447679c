"""
The last few requests and events of a worker, in memory, for GET /debug_logs.

Without bodies, unless INSPECT is on: then for a day after it was switched on, the beginning of
each, with keys taken out; when the day is over, they are forgotten. A restart begins no new day:
whoever forgets the setting in an env file must not be watched for ever. Nothing of it is ever
written to a disk.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ccproxy.worker.server.access_record import Record

KINDS = ("request", "response", "error", "config", "model_switch", "model_mapping")
MOST_ENTRIES = 500
INSPECTION_SECONDS = 24 * 3600.0
LONGEST_BODY = 16 * 1024
"""Bytes of a body that are kept."""

Entry = dict[str, Any]


class DebugLog:
    """A ring of entries, each of one of `KINDS`."""

    def __init__(
        self,
        *,
        redact: Callable[[str], str],
        inspects_since: float | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """*inspects_since* is when INSPECT was switched on, as *wall* tells; None: it is off."""
        self._redact = redact
        self._wall = wall
        # A file may bear a date to come; the day is no longer for it.
        begun = None if inspects_since is None else min(inspects_since, wall())
        self._inspects_until = 0.0 if begun is None else begun + INSPECTION_SECONDS
        self._notes: deque[tuple[float, str, Mapping[str, Any]] | Record] = deque(
            maxlen=MOST_ENTRIES
        )

    @property
    def inspects(self) -> bool:
        """Whether bodies are kept."""
        return self.inspects_for > 0

    @property
    def inspects_for(self) -> float:
        """How many seconds longer bodies are kept."""
        return max(0.0, self._inspects_until - self._wall()) if self._inspects_until else 0.0

    def note(self, kind: str, **data: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Note an event of *kind*."""
        self._notes.append((self._wall(), kind, data))

    def note_request(self, record: Record) -> None:
        """Note a request to a model that has ended; it is put into words when somebody asks."""
        self._end_inspection()
        if self.inspects:
            record.asked, record.answer = record.asked[:LONGEST_BODY], record.answer[:LONGEST_BODY]
        else:
            record.asked = record.answer = b""
        self._notes.append(record)

    def entries(self, kind: str = "all", *, limit: int = 100) -> list[Entry]:
        """Return the last *limit* entries of *kind*, of all kinds if `all`, oldest first."""
        self._end_inspection()
        found = [entry for note in self._notes for entry in self._told(note)]
        wanted = [entry for entry in found if kind in ("all", entry["type"])]
        return wanted[-limit:] if limit else []

    def clear(self) -> int:
        """Forget everything; return how many entries that were."""
        count = len(self.entries(limit=MOST_ENTRIES * len(KINDS)))
        self._notes.clear()
        return count

    def _end_inspection(self) -> None:
        """Forget the bodies if their day is over."""
        if not self._inspects_until or self.inspects:
            return
        self._inspects_until = 0.0
        for note in self._notes:
            if isinstance(note, Record):
                note.asked = note.answer = b""

    def _told(self, note: tuple[float, str, Mapping[str, Any]] | Record) -> Iterator[Entry]:
        if isinstance(note, Record):
            yield from self._told_of(note)
            return
        at, kind, data = note
        yield _entry(at, kind, data)

    def _told_of(self, record: Record) -> Iterator[Entry]:
        asked = {"path": record.path, "model": record.requested, "stream": record.stream}
        yield self._entry_of(record, "request", asked, record.asked)
        mapped = {"requested": record.requested, "model": record.model}
        yield self._entry_of(record, "model_mapping", mapped)
        if record.error:
            said = {"status": record.status, "error": record.error, "reason": record.reason}
            yield self._entry_of(record, "error", said, record.answer)
            return
        ended = {
            "status": record.status,
            "stop_reason": record.stop_reason,
            "usage": dict(record.usage),
            "key": record.key,
            "attempts": record.attempts,
        }
        yield self._entry_of(record, "response", ended, record.answer)

    def _entry_of(
        self, record: Record, kind: str, data: Mapping[str, Any], body: bytes = b""
    ) -> Entry:
        more = {"body": self._redact(body.decode("utf-8", "replace"))} if body else {}
        return _entry(record.at, kind, {"request": record.request_id, **data, **more})


def _entry(at: float, kind: str, data: Mapping[str, Any]) -> Entry:
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return {"timestamp": stamp, "type": kind, "data": dict(data)}
