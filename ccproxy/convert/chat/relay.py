"""
Conversion of the bytes of a Chat Completions stream to the bytes of the client's stream.

Chunks that look like the previous one are converted without decoding
(`convert/chat/chunk_template.py`).
"""

from __future__ import annotations

from ccproxy.convert.chat import chunk_template
from ccproxy.convert.chat.answer import read_event, to_events
from ccproxy.convert.chat.stream import ChatToMessageStream
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.dialects.answer_relay import AnswerRelay
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import Problem
from ccproxy.protocol import chat, sse

_MAX_MISSES = 16
"""Learning stops after this many unmatched templates in a row: the chunks differ too much."""


class ChatRelay(AnswerRelay[ChatToMessageStream]):
    """Relays one Chat Completions answer."""

    def __init__(self, context: AnswerContext) -> None:
        super().__init__(context, ChatToMessageStream(context))
        self._template: chunk_template.Template | None = None
        self._misses = 0

    def _whole_events(self, body: bytes) -> list[Event]:
        return to_events(body, self._machine, self._context)

    def _copy(self, data: bytes, at: int, out: list[bytes]) -> int:
        if self._template is None:
            return at
        texts: list[str] = []
        events, at = self._template.splice(data, at, texts)
        if texts:
            self._misses = 0
            out.append(events)
            self._machine.absorb(texts)
        return at

    def _take_event(self, event: sse.ServerEvent, read: bytes, out: list[bytes]) -> None:
        if self.ended:
            return
        if self._template is not None and not event.event:
            # An event that was split across two reads may also match.
            framed = self._template.framed(event.data)
            if self._copy(framed, 0, out) == len(framed):
                return
        self._template = None
        if event.data.strip() == chat.DONE:
            self._machine.done()
            self._end(out)
            return
        try:
            chunk = self._read(event)
        except Problem:
            if not self._machine.complete:
                raise
            self._end(out)  # anything after the end of the answer is ignored
            return
        events = self._machine.feed(chunk)
        if events:
            self._write(events, out)
            if len(events) == 1 and self._misses <= _MAX_MISSES:
                self._learn(chunk, event.data, read, events[0])
        if self._machine.stopped:
            self._end(out)

    def _read(self, event: sse.ServerEvent) -> chat.Chunk:
        chunk = read_event(event, self._context.target.quirks)
        if isinstance(chunk, ProviderError):
            raise chunk.problem
        return chunk

    def _learn(self, chunk: chat.Chunk, data: bytes, read: bytes, event: Event) -> None:
        is_delta = event["type"] == "content_block_delta"
        if is_delta and event["index"] == self._machine.steady_block:
            self._misses += 1
            self._template = chunk_template.learn(chunk, data, read, event)
