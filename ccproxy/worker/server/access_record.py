"""
The record of one request: filled while the request is answered, logged when it ends.

Every step of handling the request adds its results here. Requests from monitors are logged at
DEBUG, so that one per second does not fill the log.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from ccproxy.errors import Problem
from ccproxy.ipc.activity import CacheLoss, FailedAttempt
from ccproxy.worker.accounting.payers import Shares
from ccproxy.worker.log.lines import RequestLog
from ccproxy.worker.upstream.recorded_answer import RecordedAnswer

MAX_CAPTURED = 8 * 1024 * 1024
"""Maximum bytes of a response kept for history and inspection."""
MAX_NAME = 256
"""Maximum characters of a model name or stop reason; the client and the provider choose them."""
MAX_PATH = 512
MAX_DROPPED = 100
"""Maximum number of omitted parts to keep; the client chooses their number and names."""
MAX_FAILURES = 16
"""Maximum number of failed attempts to keep; the last one is always included."""

CLIENT_LEFT = 499
"""The status logged if the client disconnects first. nginx defined it; it is never sent."""

_TOKEN_FIELDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}


class Bodies(msgspec.Struct):
    """The bodies of a request and its response, kept only for history and inspection."""

    request: bytes = b""
    response: bytes = b""
    sent: bytes = b""
    """The body of the last request to the provider."""
    times: array[float] = msgspec.field(default_factory=lambda: array("d"))
    """The monotonic time at which each piece of the response was written."""
    ends: array[int] = msgspec.field(default_factory=lambda: array("Q"))
    """The offset in the response at which each piece ends, in bytes."""
    _pieces: list[bytes] = []
    _size: int = 0

    def add(self, data: bytes) -> None:
        """Keep a piece of the response, up to the limit."""
        if (room := MAX_CAPTURED - self._size) > 0:
            self._pieces.append(data[:room])
            self._size += min(len(data), room)
            self.times.append(time.monotonic())
            self.ends.append(self._size)

    def join(self) -> None:
        """Join the pieces of the response."""
        self.response = b"".join(self._pieces)
        self._pieces.clear()

    def trim(self, limit: int) -> None:
        """Truncate each body to *limit* bytes."""
        self.request = self.request[:limit]
        self.response = self.response[:limit]
        self.sent = self.sent[:limit]
        pieces = bisect_left(self.ends, limit) + 1 if limit else 0
        del self.times[pieces:], self.ends[pieces:]

    @property
    def held(self) -> int:
        """The total size of the stored data, in bytes."""
        return len(self.request) + len(self.response) + len(self.sent) + 16 * len(self.times)


class AccessRecord(msgspec.Struct, kw_only=True):
    """One request, as it will appear in the log."""

    request_id: str
    method: str
    path: str
    started_at: float = msgspec.field(default_factory=time.time)
    """Seconds since the epoch."""
    is_probe: bool = False
    """Whether the request is logged at DEBUG only."""
    bodies: Bodies | None = None
    recorded_answers: list[RecordedAnswer] = []
    """The provider's answers, while exchanges are recorded."""
    status: int = 0
    error: str | None = None
    """The Messages API error type sent to the client, or `client_left`."""
    reason: str | None = None
    """The error's message, redacted."""
    requested: str = ""
    """The client's name for the model; empty if this is not a model request."""
    model: str = ""
    """The model that answers."""
    stream: bool = False
    key: str = ""
    """The last key used, as `…last4`."""
    attempts: int = 0
    """How many times the request was sent to the provider."""
    usage: Mapping[str, Any] = {}
    stop_reason: str | None = None
    answered_by: str = ""
    """The label of the other entry that answers and counts the request, or empty."""
    is_fallback: bool = False
    """Whether the other entry answers because this one could not."""
    traceparent: str = ""
    """The client's span, if traces are sent."""
    route: str = ""
    """The entry that answers and the reason, if the model's name alone did not decide."""
    shares: Shares = ()
    """The request's budget reservations; empty before its admission, or if no budget applies."""
    session: str = ""
    """The id of Claude Code's session; empty for other clients."""
    agent: str = ""
    """The id of the sub-agent that sent the request."""
    is_turn: bool = False
    """Whether it is a turn of a session, rather than a sub-agent's or an auxiliary request."""
    user: str = ""
    """The name of the gateway user who sent the request."""
    size: int = 0
    """The size of the request body, in bytes."""
    dropped: tuple[str, ...] = ()
    """The parts of the request that are not sent to the provider."""
    failures: tuple[FailedAttempt, ...] = ()
    """The attempts that the provider refused."""
    chunks: int = 0
    """The number of writes of answer data to the client."""
    pings: int = 0
    fee: float = 0.0
    """The price of web searches in US dollars; part of `cost`."""
    cost: float | None = None
    """US dollars; None if the model's price is unknown, or before the request ends."""
    cache_loss: CacheLoss | None = None
    _started: float = msgspec.field(default_factory=time.monotonic)
    _converted: float = 0.0
    _sent_at: float = 0.0
    _first_byte: float | None = None
    _ended: float = 0.0

    # Events of the request, in order.

    def begin_model_request(self, requested: str, model: str, *, stream: bool) -> None:
        """Record that the request is for a model."""
        self.requested, self.model, self.stream = requested[:MAX_NAME], model[:MAX_NAME], stream
        self._converted = time.monotonic()

    def drop(self, parts: Sequence[str]) -> None:
        """Record the *parts* of the request that are not sent to the provider."""
        self.dropped = tuple(part[:MAX_NAME] for part in parts[:MAX_DROPPED])

    def take_route(self, route: str, model: str, requested: str = "") -> None:
        """Record which entry or model answers, and why."""
        self.route, self.model = route, model[:MAX_NAME]
        if requested:
            self.requested = requested[:MAX_NAME]

    def hand_over(self, label: str, request_id: str = "", *, is_fallback: bool = False) -> None:
        """Record that the entry *label* answers, under *request_id* if it is not empty."""
        self.answered_by, self.is_fallback = label, is_fallback
        self.request_id = request_id or self.request_id

    def take_back(self) -> None:
        """Record that no other entry answers after all."""
        self.answered_by, self.is_fallback = "", False

    def attempt(self, key: str) -> None:
        """Record that the request is sent to the provider with *key*."""
        self.key = key
        self.attempts += 1
        self._sent_at = time.monotonic()

    def attempt_failed(self, failure: FailedAttempt) -> None:
        """Record that the provider refused an attempt."""
        self.failures = (*self.failures[: MAX_FAILURES - 1], failure)

    def write_chunk(self) -> None:
        """Record that a part of the answer is written; the first part starts the response."""
        self.chunks += 1
        if self._first_byte is None:
            self._first_byte = time.monotonic()

    def end_model_request(self, usage: Mapping[str, Any], stop_reason: str | None) -> None:
        """Record the answer's token counts and stop reason."""
        self.usage = usage
        self.stop_reason = None if stop_reason is None else stop_reason[:MAX_NAME]

    def add_fee(self, dollars: float) -> None:
        """Record the price of a web search."""
        self.fee += dollars

    def fail(self, problem: Problem) -> None:
        """Record the error that the client receives."""
        self.error, self.reason = problem.kind, problem.message

    def client_left(self) -> None:
        """Record that the client has disconnected."""
        self.status, self.error = CLIENT_LEFT, "client_left"

    # Derived values.

    @property
    def elapsed(self) -> float:
        """Seconds from the start of the request to its end, or to now if it is running."""
        return (self._ended or time.monotonic()) - self._started

    @property
    def converted_after(self) -> float | None:
        """Seconds until the request was converted, or None."""
        return self._converted - self._started if self._converted else None

    @property
    def sent_after(self) -> float | None:
        """Seconds until the last attempt was sent, or None."""
        return self._sent_at - self._started if self._sent_at else None

    @property
    def first_byte_after(self) -> float | None:
        """Seconds until the first byte of the answer was written, or None."""
        return None if self._first_byte is None else self._first_byte - self._started

    @property
    def request_body(self) -> bytes:
        """The request's body; empty if bodies are not kept."""
        return b"" if self.bodies is None else self.bodies.request

    @property
    def response_body(self) -> bytes:
        """The response's body, once the request has ended; empty if bodies are not kept."""
        return b"" if self.bodies is None else self.bodies.response

    def trim_bodies(self, limit: int) -> None:
        """Truncate each body to *limit* bytes."""
        if self.bodies is not None:
            self.bodies.trim(limit)

    def drop_bodies(self) -> None:
        """Delete the bodies and the provider's answers."""
        self.trim_bodies(0)
        self.recorded_answers = []

    @property
    def held(self) -> int:
        """The size of the stored bodies, in bytes."""
        return self.bodies.held if self.bodies else 0

    @property
    def event_times(self) -> tuple[float, ...]:
        """
        When each event of the response was written, in seconds since the request began.

        Empty if the bodies are not kept. Events without data are left out.
        """
        bodies = self.bodies
        if bodies is None or not bodies.times:
            return ()
        times, end = [], 0
        for event in bodies.response.split(b"\n\n"):
            end += len(event) + 2
            if b"data:" in event:
                piece = min(bisect_left(bodies.ends, end), len(bodies.times) - 1)
                times.append(round(bodies.times[piece] - self._started, 4))
        return tuple(times)

    @property
    def has_begun(self) -> bool:
        """Whether part of the answer has been written to the client."""
        return self._first_byte is not None

    @property
    def failed(self) -> bool:
        """Whether the client received an error; a client disconnect is not an error."""
        return self.error is not None and self.status != CLIENT_LEFT

    @property
    def is_abandoned(self) -> bool:
        """Whether the client disconnected while waiting for the provider's answer."""
        is_pending = self.attempts > len(self.failures)
        return self.status == CLIENT_LEFT and not self.has_begun and is_pending

    @property
    def ttfb(self) -> float | None:
        """Seconds to the first byte of the answer, or None."""
        if self._first_byte is not None or self.error is not None:
            return self.first_byte_after
        return self._ended - self._started

    def finish(self, log: RequestLog | FilteringBoundLogger) -> None:
        """Write the log line; a request without a status has failed unexpectedly."""
        if self.status == 0:
            self.status, self.error = 500, "api_error"
        ended = self._ended = time.monotonic()
        begun = ended if self._first_byte is None else self._first_byte
        if self.bodies is not None:
            self.bodies.join()
        write = log.debug if self.is_probe else log.info
        write(
            "request.finished",
            request=self.request_id,
            method=self.method,
            path=self.path,
            status=self.status,
            ms=_milliseconds(ended - self._started),
            **(self._model_fields(begun) if self.requested else {}),
            **({"user": self.user} if self.user else {}),
            **({"error": self.error, "reason": self.reason} if self.error else {}),
        )

    def audit_fields(self, label: str) -> dict[str, Any]:
        """Return the fields of the gateway's audit log line, for the entry *label*."""
        return {
            "user": self.user,
            "entry": self.answered_by or label,
            "model": self.model,
            "request": self.request_id,
            "status": self.status,
            "tokens": self._tokens(),
            "cost": None if self.cost is None else round(self.cost, 6),
        }

    def _tokens(self) -> dict[str, Any]:
        return {name: self.usage.get(field) or 0 for name, field in _TOKEN_FIELDS.items()}

    def _model_fields(self, begun: float) -> dict[str, Any]:
        return {
            "ttfb_ms": _milliseconds(begun - self._started),
            "requested": self.requested,
            "model": self.model,
            "key": self.key,
            "stream": self.stream,
            "attempts": self.attempts,
            "stop_reason": self.stop_reason,
            **({"route": self.route} if self.route else {}),
            **({"answered_by": self.answered_by} if self.answered_by else {}),
            "tokens": self._tokens(),
        }


def _milliseconds(seconds: float) -> float:
    """Return *seconds* in milliseconds with one decimal."""
    return round(seconds * 10_000) / 10  # round(…, 1) formats the number and parses it again
