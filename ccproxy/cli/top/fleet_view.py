"""The data of `top`: the fleet's status and requests, updated by a thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ccproxy.config.fleet import Fleet
from ccproxy.errors import CcproxyError
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.supervisor.control.status import Row

if TYPE_CHECKING:
    from ccproxy.ipc.activity import ActivityEvent, RequestTimeline
    from ccproxy.store.usage_totals import Totals

STATUS_SECONDS = 2.0
EVENT_SECONDS = 1.0
"""The maximum wait for an event."""
TODAY_SECONDS = 5.0
"""The interval between reads of the statistics."""
MAX_RECENT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet at one moment."""

    at: float = 0.0
    """Seconds since the epoch; 0 before the first update."""
    rows: Sequence[Row] = ()
    today: Mapping[str, Totals] = field(default_factory=dict)
    running: Sequence[RequestTimeline] = ()
    recent: Sequence[RequestTimeline] = ()
    """The finished requests, newest first."""


class SnapshotSource(Protocol):
    """The source of a view's content."""

    def snapshot(self) -> Snapshot:
        """Return the current state of the fleet."""


class FleetView:
    """Follows a fleet, or *labels* of it, from `start` to `close`."""

    def __init__(self, fleet: Fleet, labels: Sequence[str] | None = None) -> None:
        from ccproxy.supervisor.control.fleet_activity import FleetWatch  # msgspec

        self._fleet = fleet
        self._labels = labels
        self._watch = FleetWatch(fleet, labels, status_seconds=STATUS_SECONDS)
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], RequestTimeline] = {}
        self._recent: deque[RequestTimeline] = deque(maxlen=MAX_RECENT)
        self._known: set[tuple[str, str]] = set()
        self._today: Mapping[str, Totals] = {}
        self._at = 0.0
        self._is_closing = False
        self._thread = threading.Thread(target=self._follow, name="fleet view", daemon=True)

    def start(self) -> None:
        """Read the current state, then follow changes in a thread."""
        self._take(self._watch.next_events(0))
        self._read_past()
        self._read_today()
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and close every connection."""
        self._is_closing = True
        self._watch.wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._watch.close()

    def snapshot(self) -> Snapshot:
        """Return the current state of the fleet."""
        with self._lock:
            return Snapshot(
                at=self._at,
                rows=tuple(self._watch.rows.values()),
                today=self._today,
                running=tuple(self._running.values()),
                recent=tuple(reversed(self._recent)),
            )

    # In the thread.

    def _follow(self) -> None:
        next_read = 0.0
        while not self._is_closing:
            if time.monotonic() >= next_read:
                self._read_today()
                next_read = time.monotonic() + TODAY_SECONDS
            self._take(self._watch.next_events(EVENT_SECONDS))

    def _read_past(self) -> None:
        from ccproxy.supervisor.control.fleet_activity import recent_requests

        request = RequestsRequest(limit=MAX_RECENT // 4)
        past = recent_requests(self._fleet, self._labels, request)
        with self._lock:
            for one in past.finished:
                self._finish(one)

    def _read_today(self) -> None:
        from ccproxy.store.usage_totals import today  # SQLite

        try:
            totals = today(self._fleet.state)
        except CcproxyError:  # the rest is still shown
            return
        with self._lock:
            self._today = totals

    def _take(self, events: Iterable[ActivityEvent]) -> None:
        with self._lock:
            self._at = time.time()
            for event in events:
                request = event.request
                if request is None:
                    continue
                name = (request.id, request.label)
                # The start of a request that `_read_past` has read may arrive afterwards.
                if event.event == "request.started" and name not in self._known:
                    self._running[name] = request
                elif event.event == "request.finished":
                    self._finish(request)
            alive = {label for label, row in self._watch.rows.items() if row.in_flight}
            # The status may be older than a request that has just started.
            before = self._at - 2 * STATUS_SECONDS
            for name, request in [*self._running.items()]:
                if name[1] not in alive and request.started < before:
                    del self._running[name]  # its worker was killed, or the event was lost

    def _finish(self, request: RequestTimeline) -> None:
        name = (request.id, request.label)
        self._running.pop(name, None)
        if name in self._known or request.answered_by:
            return  # the entry that answered reports it
        if len(self._recent) == MAX_RECENT:
            oldest = self._recent[0]
            self._known.discard((oldest.id, oldest.label))
        self._known.add(name)
        self._recent.append(request)
