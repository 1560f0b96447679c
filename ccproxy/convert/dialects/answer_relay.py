"""
Convert the bytes of a provider's stream into the client's: code shared by converted dialects.

Each read is split into events, each event is decoded and passed to the dialect's state machine, and
the resulting events are encoded. Events that match the dialect's template of the previous one can
be copied without decoding.

Output that precedes an error in the same read is not lost: `feed` returns it, and the next call
raises the error.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.messages import error_body

_BODY_LIMIT = 64 * 1024 * 1024
"""The maximum size in bytes of an answer that is not streamed."""
encode = msgspec.json.Encoder().encode


class AnswerMachine(Protocol):
    """The state machine of a dialect."""

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence ended the answer."""

    @property
    def complete(self) -> bool:
        """Whether the answer is complete; further data is ignored."""

    @property
    def usage(self) -> dict[str, Any]:
        """The usage reported so far, in the Messages API's terms."""

    def close(self) -> list[Event]:
        """Return the end of the message. Raises Problem if the answer is incomplete."""


Machine = TypeVar("Machine", bound=AnswerMachine)


class AnswerRelay(ABC, Generic[Machine]):
    """
    Relays one answer. An instance belongs to one request.

    The caller feeds every read until `ended` is true, then closes. After a failure, such as an
    interrupted stream, it calls `fail` instead.
    """

    def __init__(self, context: AnswerContext, machine: Machine) -> None:
        self._context = context
        self._machine = machine
        self._decoder = sse.Decoder()
        self._body: bytearray | None = None  # an answer that is not streamed
        self._has_read = False
        self._problem: Problem | None = None
        self.ended = False
        """Whether further data of the provider is ignored."""

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence ended the answer, so the connection should be closed."""
        return self._machine.stopped

    @property
    def usage(self) -> dict[str, Any]:
        """The usage reported so far, in the Messages API's terms."""
        return self._machine.usage

    def feed(self, data: bytes) -> bytes:
        """
        Process one read, and return the bytes for the client.

        Raises:
            Problem: If the answer is an error and no output precedes it.
        """
        out: list[bytes] = []
        at = 0
        if self._decoder.idle:
            at = self._copy(data, 0, out)
            if 0 < at == len(data):
                return out[0] if out else b""
        try:
            self._take(data, at, out)
        except Problem as problem:
            self._problem = problem
            self.ended = True
            if not out:
                raise
        return b"".join(out)

    def close(self) -> bytes:
        """
        Return the end of the message, or b"" if it was already returned.

        Raises:
            Problem: If the answer is an error or incomplete.
        """
        if self._problem is not None:
            raise self._problem
        if self.ended:
            return b""
        out: list[bytes] = []
        if self._body is not None:
            self._write(self._whole_events(bytes(self._body)), out)
            self.ended = True
            return b"".join(out)
        for event in self._decoder.close():  # the last event may lack its blank line
            self._take_event(event, b"", out)
        if not self.ended:
            self._end(out)
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """Return the error event for *problem*, or the end of the answer if it is complete."""
        if self.ended and self._problem is None:
            return b""
        if self._machine.complete and self._problem is None:
            with contextlib.suppress(Problem):
                return self.close()
        self.ended = True
        return sse.encode(b"error", error_body(problem))

    # Defined by each dialect

    @abstractmethod
    def _copy(self, data: bytes, at: int, out: list[bytes]) -> int:
        """Copy the matching events from offset *at*; return the offset of the remaining data."""

    @abstractmethod
    def _take_event(self, event: sse.ServerEvent, read: bytes, out: list[bytes]) -> None:
        """Convert one *event*, which ended in *read*."""

    @abstractmethod
    def _whole_events(self, body: bytes) -> list[Event]:
        """Return the events of an answer that is one JSON *body*."""

    # The events of one read

    def _take(self, data: bytes, at: int, out: list[bytes]) -> None:
        if self._problem is not None:
            raise self._problem
        if not self._has_read and not self._is_stream(data):
            return
        while at < len(data) and not self.ended:
            end = data.find(b"\n\n", at) + 2
            piece = data[at:end] if end > 1 else data[at:]
            for event in self._decoder.feed(piece):
                self._take_event(event, piece, out)
            at += len(piece)
            if self._decoder.idle:
                at = self._copy(data, at, out)

    def _is_stream(self, data: bytes) -> bool:
        """Return True if the answer is a stream; collect *data* if it is a JSON body."""
        if self._body is None and data.removeprefix(BOM_UTF8).lstrip()[:1] in (b"{", b"["):
            self._body = bytearray()
        if self._body is not None:
            self._body += data
            if len(self._body) > _BODY_LIMIT:
                raise BadAnswer(f"The provider sent more than {_BODY_LIMIT:,} bytes at once")
            return False
        self._has_read = bool(data.strip())
        return True

    def _end(self, out: list[bytes]) -> None:
        self._write(self._machine.close(), out)
        self.ended = True

    @staticmethod
    def _write(events: list[Event], out: list[bytes]) -> None:
        for event in events:
            name = event["type"].encode()
            out.append(sse.encode(name, encode(event)))
            if name == b"message_start":
                out.append(sse.PING)
