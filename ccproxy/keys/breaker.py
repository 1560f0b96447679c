"""
The circuit breakers of a provider, which refuse requests at once while the provider is down.

A breaker is closed while requests succeed. Five failed requests in a row, or half of at least ten
within 30 s, open it for 10 s. Then one request is let through as a probe (half open). If it
succeeds, the breaker closes; if it fails, the time is doubled, up to 120 s. Requests count, not
attempts: a request that succeeds at its third attempt is a success.

There is one breaker per model, since a failing model proves nothing about the others, and one
for connections. A failed connection proves nothing about a model: a network outage may end at any
moment, so the breaker for connections always opens for the same short time. Clients are told to
stop retrying once the provider has been unreachable for `OUTAGE_PATIENCE`, or if no connection has
ever succeeded: the cause is then probably a wrong address or a server that is not running.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ccproxy.errors import Problem

FAILURES_IN_A_ROW = 5
WINDOW = 30.0
MIN_REQUESTS = 10
"""Minimum number of requests in the window before the failure rate counts."""
OPEN_FIRST = 10.0
OPEN_LONGEST = 120.0
OPEN_WITHOUT_CONNECTION = 5.0
OUTAGE_PATIENCE = 30.0
"""Seconds. Claude Code retries a request ten times, which takes one to three minutes. It shows the
error only after that, unless the response forbids retries."""
_MOST_MODELS = 256
"""Maximum number of breakers for models, because a client may name any number of models."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The admission of one request through one breaker; `is_probe` is True while half open."""

    is_probe: bool


_PASS = Pass(is_probe=False)


class Breaker:
    """A single circuit breaker."""

    def __init__(
        self,
        subject: str,
        *,
        clock: Callable[[], float],
        open_first: float = OPEN_FIRST,
        open_longest: float = OPEN_LONGEST,
        patience: float = math.inf,
    ) -> None:
        self._subject = subject
        self._clock = clock
        self._open_first = open_first
        self._open_longest = open_longest
        self._patience = patience
        self._has_succeeded = False
        self._failing_since = 0.0
        self._failures = 0
        self._recent: deque[tuple[float, bool]] = deque()
        self._open_until: float | None = None
        self._open_for = open_first
        self._is_probing = False
        self._last_error = ""

    @property
    def seconds_open(self) -> float:
        """The seconds until a request is let through; 0 if one would be let through now."""
        if self._open_until is None:
            return 0.0
        return max(0.0, self._open_until - self._clock())

    @property
    def is_closed(self) -> bool:
        """True if requests are let through."""
        return self._open_until is None

    @property
    def is_worth_retrying(self) -> bool:
        """False if requests have failed for too long for a client to wait for recovery."""
        if self._patience == math.inf or not self._failures:
            return True
        lasts = self._clock() - self._failing_since
        return self._has_succeeded and lasts < self._patience

    def enter(self) -> Pass:
        """
        Admit a request.

        Raises:
            Problem: If the breaker is open.
        """
        if self._open_until is None:
            return _PASS
        if self._is_probing or self.seconds_open > 0:
            raise self._refusal()
        self._is_probing = True
        return Pass(is_probe=True)

    def succeed(self, admission: Pass) -> None:
        """Count a success: the provider responded, even if it refused the request."""
        self._count(failed=False)
        self._has_succeeded, self._failures = True, 0
        if admission.is_probe:
            self._is_probing = False
            self._open_until = None
            self._open_for = self._open_first
            self._recent.clear()

    def fail(self, admission: Pass, error: str) -> None:
        """Count a failure; *error* is reported to refused requests."""
        self._last_error = error
        self._count(failed=True)
        if not self._failures:
            self._failing_since = self._clock()
        self._failures += 1
        if admission.is_probe:
            self._is_probing = False
            self._open_for = min(2 * self._open_for, self._open_longest)
            self._open_until = self._clock() + self._open_for
        elif self._open_until is None and self._fails_too_often():
            self._open_until = self._clock() + self._open_for

    def abandon(self, admission: Pass) -> None:
        """End a request that has no result, for example because the client has disconnected."""
        if admission.is_probe:
            self._is_probing = False

    def _count(self, *, failed: bool) -> None:
        now = self._clock()
        self._recent.append((now, failed))
        while self._recent[0][0] <= now - WINDOW:
            self._recent.popleft()

    def _fails_too_often(self) -> bool:
        failures = sum(failed for _, failed in self._recent)
        half = len(self._recent) >= MIN_REQUESTS and 2 * failures >= len(self._recent)
        return self._failures >= FAILURES_IN_A_ROW or half

    def _failure_count(self) -> str:
        if self._failures >= FAILURES_IN_A_ROW:
            return f"{self._failures} requests in a row"
        failures = sum(failed for _, failed in self._recent)
        return f"{failures} of the last {len(self._recent)} requests"

    def _refusal(self) -> Problem:
        seconds = max(1, math.ceil(self.seconds_open))
        return Problem(
            "overloaded_error",
            f"{self._subject} is failing ({self._failure_count()}); next attempt in {seconds} s. "
            f"The last error: {self._last_error}",
            retry_after=seconds,
            should_retry=None if seconds <= 60 and self.is_worth_retrying else False,
        )


class Ticket(msgspec.Struct, frozen=True):
    """The admission of one request; it must be passed to exactly one other method of `Breakers`."""

    connection: Pass
    model: Pass
    breaker: Breaker


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBreaker:
    """A breaker that refuses requests."""

    model: str | None
    """The model; None for the breaker for connections."""
    seconds: float


class Breakers:
    """The breakers of a provider: one for connections, one per model."""

    def __init__(self, provider: str, *, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._clock = clock
        self._connection = Breaker(
            provider,
            clock=clock,
            open_first=OPEN_WITHOUT_CONNECTION,
            open_longest=OPEN_WITHOUT_CONNECTION,
            patience=OUTAGE_PATIENCE,
        )
        self._models: dict[str, Breaker] = {}

    def enter(self, model: str) -> Ticket:
        """
        Admit a request for *model*.

        Raises:
            Problem: If the breaker of the model or of connections is open.
        """
        breaker = self._models.get(model)
        if breaker is None:
            breaker = self._add(model)
        connection = self._connection.enter()
        try:
            return Ticket(connection, breaker.enter(), breaker)
        except Problem:
            self._connection.abandon(connection)
            raise

    def succeed(self, ticket: Ticket) -> None:
        """Count a response from the provider, even if it refuses the request."""
        self._connection.succeed(ticket.connection)
        ticket.breaker.succeed(ticket.model)

    def fail(self, ticket: Ticket, error: str) -> None:
        """Count a failure of the provider, or a timeout."""
        self._connection.succeed(ticket.connection)
        ticket.breaker.fail(ticket.model, error)

    def lose_connection(self, ticket: Ticket, error: str) -> bool:
        """Count a failed connection; return True if the client may retry."""
        self._connection.fail(ticket.connection, error)
        ticket.breaker.abandon(ticket.model)
        return self._connection.is_worth_retrying

    def abandon(self, ticket: Ticket) -> None:
        """End the request without a result, for example because the client disconnected."""
        self._connection.abandon(ticket.connection)
        ticket.breaker.abandon(ticket.model)

    def open(self) -> list[OpenBreaker]:
        """Return the breakers that are refusing requests."""
        breakers: list[tuple[str | None, Breaker]] = [
            (None, self._connection),
            *self._models.items(),
        ]
        return [
            OpenBreaker(model=model, seconds=breaker.seconds_open)
            for model, breaker in breakers
            if breaker.seconds_open > 0
        ]

    def _add(self, model: str) -> Breaker:
        if len(self._models) >= _MOST_MODELS:
            closed = (name for name, breaker in self._models.items() if breaker.is_closed)
            del self._models[next(closed, next(iter(self._models)))]
        subject = f"{model} at {self._provider}" if model else self._provider
        breaker = self._models[model] = Breaker(subject, clock=self._clock)
        return breaker
