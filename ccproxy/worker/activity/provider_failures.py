"""
Detection of a failing provider, from the results of the worker's requests alone.

A result counts if the provider received the request: an answer is a success; an error that is not
about the request itself is a failure, even if a fallback answered in the end. ccproxy's own
refusals and requests that the client aborted do not count.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ccproxy.convert.errors.causes import Cause
from ccproxy.worker.server.access_record import CLIENT_LEFT, AccessRecord

WINDOW = 300.0
MAX_RESULTS = 100
MANY = 4
"""Minimum number of requests in the window for the failure rate to count, and minimum number of
consecutive failures for an outage."""
MAX_TEXT = 200

_ABOUT_THE_REQUEST = {
    cause.value
    for cause in (
        *(Cause.OVERFLOW, Cause.TOO_LARGE, Cause.BAD_REQUEST),
        *(Cause.CONTENT, Cause.IMAGE, Cause.DOCUMENT),
    )
}


class ProviderFailures:
    """The failures since the last success, and their share in the last five minutes."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._results: deque[tuple[float, bool]] = deque(maxlen=MAX_RESULTS)
        self._has_succeeded = False
        self._in_a_row = 0
        self._since = 0.0
        self._last_error = ""

    def note(self, record: AccessRecord) -> None:
        """Count the result of a finished request."""
        failure = record.failures[-1] if record.failures else None
        if record.status == CLIENT_LEFT or not (record.attempts or failure):
            return
        failed = record.failed or bool(record.answered_by)
        if failed and failure is not None and failure.cause in _ABOUT_THE_REQUEST:
            return
        now = self._clock()
        if not failed and self._in_a_row >= MANY:
            self._results.clear()  # the outage has ended
        self._results.append((now, failed))
        if not failed:
            self._has_succeeded, self._in_a_row = True, 0
            return
        self._since = self._since if self._in_a_row else now
        self._in_a_row += 1
        text = record.reason if failure is None or not failure.reason else failure.reason
        self._last_error = (text or record.error or "")[:MAX_TEXT]

    def describe(self) -> str:
        """Describe the failures for the user; empty if there are too few to be conclusive."""
        since = time.strftime("%H:%M", time.localtime(self._since))
        error = f"; last error: {self._last_error}"
        if self._in_a_row > 1:
            return f"the last {self._in_a_row} requests failed, since {since}{error}"
        if self._in_a_row and not self._has_succeeded:
            return f"the first request failed at {since}{error}"
        start = self._clock() - WINDOW
        recent = [failed for at, failed in self._results if at > start]
        if len(recent) < MANY or 2 * sum(recent) < len(recent):
            return ""
        return f"{sum(recent)} of {len(recent)} requests failed in the last five minutes{error}"
