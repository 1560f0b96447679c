"""
What is known about a request when it ends, and the one line that is logged about it.

The record is filled in on the way and costs nothing until then. Probes are logged at DEBUG, so
that a monitor which asks every second does not fill the log.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from structlog.typing import FilteringBoundLogger

from ccproxy.worker.log.lines import RequestLog

LONGEST_HEARD = 8 * 1024 * 1024
"""Bytes of an answer that are kept for history and inspection."""

CLIENT_LEFT = 499
"""The status logged when the client went away first (nginx's number; it is never sent)."""

_TOKEN_FIELDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}


class Record(msgspec.Struct, kw_only=True):
    """One request, as it will stand in the log."""

    request_id: str
    method: str
    path: str
    quiet: bool = False
    """Whether this is a probe, of interest only at DEBUG."""
    status: int = 0
    requested: str = ""
    model: str = ""
    key: str = ""
    """Which key was used, `…last4`."""
    stream: bool = False
    attempts: int = 0
    usage: Mapping[str, Any] = {}
    stop_reason: str | None = None
    error: str | None = None
    """The Anthropic error type that the client was told, or `client_left`."""
    reason: str | None = None
    """The error's message, redacted."""
    elsewhere: bool = False
    """Whether another worker of the fleet answers, which counts and remembers the request."""
    route: str = ""
    """Who answers and why, where that was decided by more than the model's name."""
    at: float = msgspec.field(default_factory=time.time)
    """When it came, in seconds since the epoch."""
    keeps: bool = False
    """Whether somebody wants to see the bodies when the request has ended."""
    asked: bytes = b""
    """The request's body, where it is kept."""
    answer: bytes = b""
    """The same of the answer, as the client got it."""
    _started: float = msgspec.field(default_factory=time.monotonic)
    _ended: float = 0.0
    _first_byte: float | None = None
    _heard: list[bytes] = []
    _heard_size: int = 0

    def first_byte(self) -> None:
        """Note that the answer begins; only the first call counts."""
        if self._first_byte is None:
            self._first_byte = time.monotonic()

    def hear(self, data: bytes) -> None:
        """Keep a part of the answer; of an overlong one only the beginning."""
        if self._heard_size < LONGEST_HEARD:
            self._heard.append(data)
            self._heard_size += len(data)

    @property
    def has_begun(self) -> bool:
        """Whether the client has seen the beginning of the answer."""
        return self._first_byte is not None

    @property
    def failed(self) -> bool:
        """Whether the client was told of an error; it leaving is none."""
        return self.error is not None and self.status != CLIENT_LEFT

    @property
    def ttfb(self) -> float | None:
        """Seconds to the first byte of the answer; None if there was none."""
        if self._first_byte is not None:
            return self._first_byte - self._started
        return None if self.error is not None else self._ended - self._started

    def client_left(self) -> None:
        """Note that nobody waits for the answer any more."""
        self.status, self.error = CLIENT_LEFT, "client_left"

    def finish(self, log: RequestLog | FilteringBoundLogger) -> None:
        """Write the line; without a status the endpoint failed in a way that nobody foresaw."""
        if self.status == 0:
            self.status, self.error = 500, "api_error"
        ended = self._ended = time.monotonic()
        begun = ended if self._first_byte is None else self._first_byte
        self.answer = b"".join(self._heard)
        self._heard.clear()
        write = log.debug if self.quiet else log.info
        write(
            "request.finished",
            request=self.request_id,
            method=self.method,
            path=self.path,
            status=self.status,
            ms=_milliseconds(ended - self._started),
            **(self._model_fields(begun) if self.requested else {}),
            **({"error": self.error, "reason": self.reason} if self.error else {}),
        )

    def _model_fields(self, begun: float) -> dict[str, Any]:
        """Return what there is to say only about a request to a model."""
        return {
            "ttfb_ms": _milliseconds(begun - self._started),
            "requested": self.requested,
            "model": self.model,
            "key": self.key,
            "stream": self.stream,
            "attempts": self.attempts,
            "stop_reason": self.stop_reason,
            **({"route": self.route} if self.route else {}),
            "tokens": {ours: self.usage.get(name) or 0 for ours, name in _TOKEN_FIELDS.items()},
        }


def _milliseconds(seconds: float) -> float:
    """Return *seconds* in milliseconds with one decimal."""
    return round(seconds * 10_000) / 10  # round(…, 1) writes the number out and reads it back
