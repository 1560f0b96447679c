"""
The provider's breaker: one that is down is left alone for a while.

Theory of operation: closed, every request goes through. Five failed requests in a row, or half of
at least ten within 30 s, open it for 10 s: requests are answered at once. Then one request may try
(half open): if it succeeds the breaker closes, if it fails the time doubles, up to 120 s. It counts
the client's requests, not attempts: a request that succeeds at its third attempt is a success.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ccproxy.errors import Problem

IN_A_ROW = 5
WINDOW = 30.0
ENOUGH = 10
OPEN_FIRST = 10.0
OPEN_LONGEST = 120.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request's passage; it must be given back by one of three methods."""

    is_probe: bool


_PASSAGE = Ticket(is_probe=False)


class Breaker:
    """Lets requests through to a provider that is thought to live."""

    def __init__(self, provider: str, *, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._clock = clock
        self._in_a_row = 0
        self._recent: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None
        self._open_for = OPEN_FIRST
        self._probing = False
        self._last = ""

    @property
    def seconds_open(self) -> float:
        """How long it stays open, 0 if requests (or one probe) may pass."""
        if self._open_until is None:
            return 0.0
        return max(0.0, self._open_until - self._clock())

    @property
    def is_closed(self) -> bool:
        """Whether the provider is thought to live."""
        return self._open_until is None

    def enter(self) -> Ticket:
        """
        Ask to pass.

        Raises:
            Problem: If the provider is thought to be down.

        """
        if self._open_until is None:
            return _PASSAGE
        if self._probing or self.seconds_open > 0:
            raise self._refusal()
        self._probing = True
        return Ticket(is_probe=True)

    def succeeded(self, ticket: Ticket) -> None:
        """The provider answered, whatever it said about the request."""
        self._count(failed=False)
        self._in_a_row = 0
        if ticket.is_probe:
            self._probing = False
            self._open_until = None
            self._open_for = OPEN_FIRST
            self._recent.clear()

    def failed(self, ticket: Ticket, why: str) -> None:
        """The provider failed or could not be reached; *why* is shown to those who wait."""
        self._last = why
        self._count(failed=True)
        self._in_a_row += 1
        if ticket.is_probe:
            self._probing = False
            self._open_for = min(2 * self._open_for, OPEN_LONGEST)
            self._open_until = self._clock() + self._open_for
        elif self._open_until is None and self._is_too_much():
            self._open_until = self._clock() + self._open_for

    def left(self, ticket: Ticket) -> None:
        """The request ended without a word from the provider (the client went away)."""
        if ticket.is_probe:
            self._probing = False

    def _count(self, *, failed: bool) -> None:
        now = self._clock()
        self._recent.append((now, failed))
        while self._recent[0][0] <= now - WINDOW:
            self._recent.popleft()

    def _is_too_much(self) -> bool:
        failures = sum(failed for _, failed in self._recent)
        half = len(self._recent) >= ENOUGH and 2 * failures >= len(self._recent)
        return self._in_a_row >= IN_A_ROW or half

    def _count_shown(self) -> str:
        if self._in_a_row >= IN_A_ROW:
            return f"{self._in_a_row} requests in a row"
        failures = sum(failed for _, failed in self._recent)
        return f"{failures} of the last {len(self._recent)} requests"

    def _refusal(self) -> Problem:
        seconds = max(1, math.ceil(self.seconds_open))
        return Problem(
            "overloaded_error",
            f"{self._provider} fails ({self._count_shown()}), so "
            f"it is asked again in {seconds} s. The last failure: {self._last}",
            retry_after=seconds,
            should_retry=False if seconds > 60 else None,
        )
