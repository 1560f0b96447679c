"""
The requests of one worker, running and finished, for the control socket and its watchers.

Running requests are kept in a dict and the last finished ones in a ring buffer. Both reuse the
access records. Timelines are created from the records only when a client reads them.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ccproxy.ipc.activity import (
    SLOW_SECONDS,
    ActivityEvent,
    EventName,
    FailedAttempt,
    KeyEvent,
    RequestsReply,
    RequestTimeline,
)
from ccproxy.ipc.control_messages import RequestsRequest
from ccproxy.keys.display import MoveView
from ccproxy.worker.activity.cache_loss_detector import CacheLossDetector, ReadPrompt
from ccproxy.worker.activity.event_feed import EventFeed
from ccproxy.worker.activity.provider_failures import ProviderFailures
from ccproxy.worker.activity.timeline import session_move, timeline_of
from ccproxy.worker.activity.traffic import TrafficMeter
from ccproxy.worker.server.access_record import AccessRecord

MAX_FINISHED = 1000
"""Finished requests that are kept, about 1 KiB each."""


class Activity:
    """The current and past activity of a worker."""

    def __init__(
        self, label: str, *, redact: Callable[[str], str], loss_detector: CacheLossDetector
    ) -> None:
        self._loss_detector = loss_detector
        self.traffic = TrafficMeter()
        self.provider_failures = ProviderFailures()
        self.feed = EventFeed(label)
        self._label = label
        self._redact = redact
        self._running: dict[int, AccessRecord] = {}
        self._finished: deque[AccessRecord] = deque(maxlen=MAX_FINISHED)
        self.on_finish: list[Callable[[AccessRecord], None]] = []
        """Called with each finished request to a model."""

    # The life of a request, in order.

    def accept(self, record: AccessRecord) -> None:
        """Add a running request, whether or not it is for a model."""
        self._running[id(record)] = record

    def start(self, record: AccessRecord) -> None:
        """Report that the model of a request is known."""
        if self.feed.is_watched and id(record) in self._running:
            self._publish("request.started", record)

    def refuse(self, record: AccessRecord, failure: FailedAttempt, key_id: str) -> None:
        """Record that the provider refused an attempt, and report the consequence for the key."""
        record.attempt_failed(failure)
        if not self.feed.is_watched:
            return
        key = KeyEvent(
            id=key_id,
            tail=failure.key,
            cause=failure.cause,
            status=failure.status,
            effect=failure.effect,
            next=failure.next,
            request=record.request_id,
            reason=failure.reason,
        )
        self._publish_key("key.refused", key)

    def move_session(self, move: MoveView) -> None:
        """Report that a session has moved to another key."""
        if self.feed.is_watched:
            event = self._event("session.moved", move.at, move=session_move(move))
            self.feed.publish(lambda: event)

    def finish(self, record: AccessRecord, read: ReadPrompt | None) -> None:
        """Record a finished request to a model; *read* returns its prompt."""
        record.cache_loss = self._loss_detector.note(record, read)
        self._finished.append(record)
        self.provider_failures.note(record)
        if not record.answered_by:
            self.traffic.note(record)
        for note in self.on_finish:
            note(record)
        if self.feed.is_watched:
            self._publish("request.finished", record)

    def release(self, record: AccessRecord) -> None:
        """Remove a running request."""
        self._running.pop(id(record), None)

    def change_keys(self, ids: Sequence[str], action: str) -> None:
        """Report a user's action on keys."""
        if self.feed.is_watched:
            for key_id in ids:
                self._publish_key("key.changed", KeyEvent(id=key_id, action=action))

    # Queries.

    def requests(self, request: RequestsRequest) -> RequestsReply:
        """Return the requests that match *request*."""
        running = [
            self._timeline(record, is_running=True)
            for record in self._running.values()
            if record.requested and _is_wanted(record, request)
        ]
        matches = (record for record in reversed(self._finished) if _is_wanted(record, request))
        last = [
            self._timeline(record, is_running=False)
            for record in islice(matches, max(0, request.limit))
        ]
        return RequestsReply(running=tuple(running), finished=tuple(reversed(last)))

    def first_events(self, since: float | None) -> Iterator[ActivityEvent]:
        """Yield the requests that ended after *since* and all running ones, for a new watcher."""
        now = time.time()
        for record in self._finished if since is not None else ():
            if record.started_at + record.elapsed >= (since or 0.0):
                yield self._request_event("request.finished", record, now)
        for record in self._running.values():
            if record.requested:
                yield self._request_event("request.started", record, now)

    def _timeline(self, record: AccessRecord, *, is_running: bool) -> RequestTimeline:
        return timeline_of(record, label=self._label, is_running=is_running, redact=self._redact)

    def _publish(self, name: EventName, record: AccessRecord) -> None:
        self.feed.publish(partial(self._request_event, name, record, time.time()))

    def _publish_key(self, name: EventName, key: KeyEvent) -> None:
        event = self._event(name, time.time(), key=key)
        self.feed.publish(lambda: event)

    def _request_event(self, name: EventName, record: AccessRecord, at: float) -> ActivityEvent:
        timeline = self._timeline(record, is_running=name == "request.started")
        return self._event(name, at, request=timeline)

    def _event(self, name: EventName, at: float, **content: Any) -> ActivityEvent:  # noqa: ANN401 - one field
        return ActivityEvent(event=name, at=at, label=self._label, pid=os.getpid(), **content)


def _is_wanted(record: AccessRecord, request: RequestsRequest) -> bool:
    ends = record.request_id.startswith, record.request_id.endswith
    if request.id and not any(matches(request.id) for matches in ends):
        return False
    if request.failed and not record.failed:
        return False
    if request.slow:
        waited = record.first_byte_after
        return (record.elapsed if waited is None else waited) >= SLOW_SECONDS
    return True
