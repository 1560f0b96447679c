"""
A provider's Responses stream as the client's Messages stream: bytes in, bytes out.

Each read is cut into events, each event decoded and given to the state machine, and the events
that result are encoded and joined. Deltas take a faster path (`delta_pattern.py`).

An error does not discard what came before it in the same read: `feed` returns that first and
raises with the next call.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.convert.responses import delta_pattern
from ccproxy.convert.responses.answer import read_event, to_events
from ccproxy.convert.responses.delta_pattern import DeltaPattern
from ccproxy.convert.responses.stream import Absorb, ResponsesToMessageStream
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.responses import DONE, StreamEvent

_BODY_LIMIT = 64 * 1024 * 1024
"""The most bytes that are collected of an answer that is not streamed."""
_MAX_ATTEMPTS = 16
"""Patterns that matched no event, after which no more are learned."""
_encode = msgspec.json.Encoder().encode


class ResponsesRelay:
    """
    Relays one answer. Created per request, used once.

    The caller feeds it every read until `ended`, then closes it. When the provider breaks off or
    something else goes wrong it calls `fail` instead.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._machine = ResponsesToMessageStream(context)
        self._decoder = sse.Decoder()
        self._body: bytearray | None = None  # of a provider that does not stream
        self._has_read = False
        self._problem: Problem | None = None
        self._pattern: DeltaPattern | None = None
        self._absorb: Absorb = lambda _texts: None
        self._attempts = 0
        self.ended = False
        """True: nothing that the provider could still send matters."""

    @property
    def stopped(self) -> bool:
        """True: a stop sequence cut the answer; the provider would continue."""
        return self._machine.stopped

    @property
    def usage(self) -> dict[str, Any]:
        """The usage in the Messages API's sense, as far as it is known."""
        return self._machine.usage

    @property
    def removed_reasoning(self) -> list[dict[str, Any]]:
        """Reasoning items of the request that the API reports as removed."""
        return self._machine.removed_reasoning

    def feed(self, data: bytes) -> bytes:
        """
        Process one read and return the events for the client.

        Raises:
            Problem: If the answer is an error, unless something else must be sent first.
        """
        if self._problem is not None:
            raise self._problem
        out: list[bytes] = []
        try:
            if self._has_read or self._is_stream(data):
                self._take(data, out)
        except Problem as problem:
            self._problem = problem
            self.ended = True
            if not out:
                raise
        return b"".join(out)

    def close(self) -> bytes:
        """
        Return the end of the message; nothing if it was sent already.

        Raises:
            Problem: If the answer is an error or incomplete.
        """
        if self._problem is not None:
            raise self._problem
        if self.ended:
            return b""
        out: list[bytes] = []
        if self._body is not None:
            self._write(to_events(bytes(self._body), self._machine, self._context), out)
            self.ended = True
            return b"".join(out)
        for event in self._decoder.close():  # an event without its blank line
            self._take_event(event, out)
        if not self.ended:
            self._end(out)
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """Return the error event for *problem*, or the end of an answer that is complete."""
        if self.ended and self._problem is None:
            return b""
        if self._machine.complete and self._problem is None:
            with contextlib.suppress(Problem):
                return self.close()
        self.ended = True
        error = {"type": problem.kind, "message": problem.message}
        return sse.encode(b"error", _encode({"type": "error", "error": error}))

    def _is_stream(self, data: bytes) -> bool:
        """Collect *data* instead if it belongs to a JSON body."""
        if self._body is None and data.lstrip()[:1] in (b"{", b"["):
            self._body = bytearray()
        if self._body is not None:
            self._body += data
            if len(self._body) > _BODY_LIMIT:
                raise BadAnswer(f"The provider sent more than {_BODY_LIMIT:,} bytes at once")
            return False
        self._has_read = bool(data.strip())
        return True

    def _take(self, data: bytes, out: list[bytes]) -> None:
        start = self._copy(data, 0, out)
        while start < len(data) and not self.ended:
            end = data.find(b"\n\n", start) + 2
            piece = data[start:end] if end > 1 else data[start:]
            for event in self._decoder.feed(piece):
                self._take_event(event, out)
            start = self._copy(data, start + len(piece), out)

    def _take_event(self, received: sse.ServerEvent, out: list[bytes]) -> None:
        if self.ended:
            return
        if received.data.strip() == DONE:
            self._end(out)
            return
        if self._pattern is not None:
            # An event that came in two reads may match as well.
            framed = self._pattern.framed(received.data)
            if self._copy(framed, 0, out) == len(framed):
                return
        self._pattern = None
        event = read_event(received, self._context.target.quirks)
        if isinstance(event, ProviderError):
            raise event.problem
        self._write(self._machine.feed(event), out)
        if self._machine.complete:
            self._end(out)
        elif self._attempts < _MAX_ATTEMPTS:
            self._learn(event, received)

    def _learn(self, event: StreamEvent, received: sse.ServerEvent) -> None:
        absorb = self._machine.absorber(event)
        if absorb is not None:
            self._attempts += 1
            self._absorb = absorb
            self._pattern = delta_pattern.learn(received)

    def _copy(self, data: bytes, start: int, out: list[bytes]) -> int:
        """Process the events from *start* that match the pattern; return where the rest begins."""
        if self._pattern is None or not self._decoder.idle:
            return start
        literals, texts, end = self._pattern.find(data, start)
        if literals:
            self._attempts = 0
            block = self._absorb(texts)
            if block is not None:
                out.append(delta_pattern.text_events(literals, block))
        return end

    def _end(self, out: list[bytes]) -> None:
        self._write(self._machine.close(), out)
        self.ended = True

    @staticmethod
    def _write(events: list[Event], out: list[bytes]) -> None:
        out += [sse.encode(event["type"].encode(), _encode(event)) for event in events]
