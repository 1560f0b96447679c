"""
Convert the bytes of a Responses stream into the bytes of the client's stream.

Deltas that match the pattern of the previous one are not decoded (`delta_pattern.py`).
"""

from __future__ import annotations

from typing import Any

from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.dialects.answer_relay import AnswerRelay
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.convert.responses import delta_pattern
from ccproxy.convert.responses.answer import read_event, to_events
from ccproxy.convert.responses.delta_pattern import DeltaPattern
from ccproxy.convert.responses.stream import Absorb, ResponsesToMessageStream
from ccproxy.protocol import sse
from ccproxy.protocol.responses import DONE, StreamEvent

_MAX_ATTEMPTS = 16
"""After this many unused patterns in succession, no more are built."""


class ResponsesRelay(AnswerRelay[ResponsesToMessageStream]):
    """Relays one answer of the Responses API."""

    def __init__(self, context: AnswerContext) -> None:
        super().__init__(context, ResponsesToMessageStream(context))
        self._pattern: DeltaPattern | None = None
        self._absorb: Absorb = lambda _texts: None
        self._attempts = 0

    @property
    def removed_reasoning(self) -> list[dict[str, Any]]:
        """The request's reasoning items that the API reports as removed."""
        return self._machine.removed_reasoning

    def _whole_events(self, body: bytes) -> list[Event]:
        return to_events(body, self._machine, self._context)

    def _copy(self, data: bytes, at: int, out: list[bytes]) -> int:
        if self._pattern is None:
            return at
        literals, texts, end = self._pattern.find(data, at)
        if literals:
            self._attempts = 0
            block = self._absorb(texts)
            if block is not None:
                out.append(delta_pattern.text_events(literals, block))
        return end

    def _take_event(self, event: sse.ServerEvent, _read: bytes, out: list[bytes]) -> None:
        if self.ended:
            return
        if event.data.strip() == DONE:
            self._end(out)
        elif not self._copy_whole(event, out):
            self._convert(event, out)

    def _copy_whole(self, event: sse.ServerEvent, out: list[bytes]) -> bool:
        """Copy an event split across two reads; return False if it does not match the pattern."""
        if self._pattern is None:
            return False
        framed = self._pattern.framed(event.data)
        return self._copy(framed, 0, out) == len(framed)

    def _convert(self, event: sse.ServerEvent, out: list[bytes]) -> None:
        self._pattern = None
        decoded = read_event(event, self._context.target.quirks)
        if isinstance(decoded, ProviderError):
            raise decoded.problem
        self._write(self._machine.feed(decoded), out)
        if self._machine.complete:
            self._end(out)
        elif self._attempts < _MAX_ATTEMPTS:
            self._learn(decoded, event)

    def _learn(self, event: StreamEvent, received: sse.ServerEvent) -> None:
        absorb = self._machine.absorber(event)
        if absorb is not None:
            self._attempts += 1
            self._absorb = absorb
            self._pattern = delta_pattern.learn(received)
