"""
Convert the answer of an exchange for a Responses client, from Messages bytes to Responses bytes.

`Exchange` and `Passthrough` return the Messages stream or message that this module converts.
"""

from __future__ import annotations

import msgspec

from ccproxy.convert.direct.message_events import message_events
from ccproxy.convert.openai_clients.response_writer import MessageEvent, ResponseWriter
from ccproxy.convert.stream_converter import StreamConverter
from ccproxy.errors import BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import NOT_JSON

_EVENT = msgspec.json.Decoder(MessageEvent)
_encode = msgspec.json.Encoder().encode


class ResponseStream:
    """Converts the stream of an exchange."""

    def __init__(self, source: StreamConverter, writer: ResponseWriter) -> None:
        self._source = source
        self._writer = writer
        self._decoder = sse.Decoder()

    @property
    def ended(self) -> bool:
        """Whether the rest of the provider's stream can be ignored."""
        return self._source.ended

    @property
    def stopped(self) -> bool:
        """Whether the provider continues after the end of the answer."""
        return self._source.stopped

    def feed(self, data: bytes) -> bytes:
        """Convert bytes of the provider's stream. Raises Problem if they contain an error."""
        return self._converted(self._source.feed(data))

    def close(self) -> bytes:
        """Return the end of the answer. Raises Problem if the answer is incomplete."""
        return self._converted(self._source.close()) + self._writer.close()

    def fail(self, problem: Problem) -> bytes:
        """Return `response.failed`, or the end of the answer if it is complete."""
        rest = self._source.fail(problem)
        if rest.startswith(b"event: error"):
            return self._writer.fail(problem)
        return self._converted(rest) + self._writer.fail(problem)

    def _converted(self, data: bytes) -> bytes:
        events = self._decoder.feed(data) if data else ()
        return b"".join([self._writer.take(_read(event)) for event in events])


def whole_response(message: bytes, writer: ResponseWriter) -> bytes:
    """Convert a whole *message* into a response. Raises Problem if it is invalid."""
    for event in sse.Decoder().feed(message_events(message)):
        writer.take(_read(event))
    return _encode(writer.response)


def _read(event: sse.ServerEvent) -> MessageEvent:
    try:
        return _EVENT.decode(event.data)
    except NOT_JSON as error:
        raise BadAnswer("The provider's stream has an event that is not valid") from error
