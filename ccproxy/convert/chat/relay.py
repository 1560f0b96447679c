"""
Conversion of a Chat Completions stream to the client's, from bytes to bytes.

Each read is split into events, each event is decoded and passed to the state machine, and the
resulting events are encoded. Chunks that look like the previous one are converted without decoding
(`convert/chat/chunk_template.py`).

The output of chunks before an error in the same read is not lost: `feed` returns it and raises
with the next call.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from ccproxy.convert.chat import chunk_template as template
from ccproxy.convert.chat.answer import read_event, to_events
from ccproxy.convert.chat.stream import ChatToMessageStream
from ccproxy.convert.common.message_writer import AnswerContext, Event
from ccproxy.convert.errors.classify import ProviderError
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import chat, sse

_MAX_MISSES = 16
"""Templates that matched no chunk before learning stops: chunks of this stream differ too much."""
_BODY_LIMIT = 64 * 1024 * 1024
"""Bytes. Limit of an answer that is not streamed."""
_ENCODER = msgspec.json.Encoder()


class ChatRelay:
    """
    Relays one answer. Created per request, used once.

    The caller feeds every read until `ended`, then closes. If the provider breaks off or something
    else fails, it calls `fail` instead.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self._machine = ChatToMessageStream(context)
        self._decoder = sse.Decoder()
        self._template: template.Template | None = None
        self._misses = 0
        self._body: bytearray | None = None  # of a provider that does not stream
        self._has_read = False
        self._problem: Problem | None = None
        self.ended = False
        """True: anything else that the provider sends is ignored."""

    @property
    def stopped(self) -> bool:
        """True: a stop sequence cut the answer; the connection should be closed."""
        return self._machine.stopped

    @property
    def usage(self) -> dict[str, Any]:
        """The usage in the Messages API's sense, as far as it has been reported."""
        return self._machine.usage

    def feed(self, data: bytes) -> bytes:
        """
        Take one read and return the bytes for the client.

        Raises:
            Problem: If the answer is an error and there is no output before it.
        """
        out: list[bytes] = []
        at = 0
        if self._template is not None and self._decoder.idle:
            at = self._splice(self._template, data, at, out)
            if at == len(data):
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
        Return the end of the message, b"" if it was returned already.

        Raises:
            Problem: If the answer is an error, or has no end.
        """
        out: list[bytes] = []
        if self._problem is not None:
            raise self._problem
        if self._body is not None and not self.ended:
            return self.feed_whole(bytes(self._body))
        if not self.ended:
            for event in self._decoder.close():  # the last event may lack its blank line
                self._take_event(event, b"", out)
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
        return sse.encode(b"error", _ENCODER.encode({"type": "error", "error": error}))

    def feed_whole(self, body: bytes) -> bytes:
        """
        Return the stream of an answer that came as one JSON *body* (LM Studio).

        Raises:
            Problem: If it is an error, or no answer.
        """
        out: list[bytes] = []
        _encode(to_events(body, self._machine, self._context), out)
        self.ended = True
        return b"".join(out)

    # Events of one read

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
            if self._template is not None and self._decoder.idle:
                at = self._splice(self._template, data, at, out)

    def _is_stream(self, data: bytes) -> bool:
        """Return True if the answer is a stream; collect *data* if it is a JSON body."""
        if self._body is None and data.lstrip()[:1] in (b"{", b"["):
            self._body = bytearray()
        if self._body is not None:
            self._body += data
            _check_size(self._body)
            return False
        self._has_read = bool(data.strip())
        return True

    def _splice(self, template: template.Template, data: bytes, at: int, out: list[bytes]) -> int:
        texts: list[str] = []
        events, at = template.splice(data, at, texts)
        if texts:
            self._misses = 0
            out.append(events)
            self._machine.absorb(texts)
        return at

    def _take_event(self, event: sse.ServerEvent, read: bytes, out: list[bytes]) -> None:
        if self.ended:
            return
        if self._template is not None and not event.event:
            # An event that was split over two reads may match, too.
            framed = self._template.framed(event.data)
            if self._splice(self._template, framed, 0, out) == len(framed):
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
            _encode(events, out)
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
            self._template = template.learn(chunk, data, read, event)

    def _end(self, out: list[bytes]) -> None:
        _encode(self._machine.close(), out)
        self.ended = True


def _check_size(body: bytearray) -> None:
    if len(body) > _BODY_LIMIT:
        raise BadAnswer(f"The provider sent more than {_BODY_LIMIT:,} bytes at once")


def _encode(events: list[Event], out: list[bytes]) -> None:
    for event in events:
        name = event["type"].encode()
        out.append(b"event: %b\ndata: %b\n\n" % (name, _ENCODER.encode(event)))
        if name == b"message_start":
            out.append(sse.PING)
