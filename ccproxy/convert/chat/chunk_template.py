"""
Conversion of the most common kind of chunk without parsing it, which saves 10 µs per chunk.

Nearly every chunk of a stream differs from the previous one only in one JSON string, the new text,
and that string has the same bytes in both formats. The bytes around the string are therefore
learned once; as long as chunks match them, only the string is copied.

The result must be identical to the state machine's. A template is learned only from a chunk with
one string and nothing else, and is verified by decoding it with another string. Each copied string
is decoded once, to validate it and to get its length for the usage.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ccproxy.protocol import chat
from ccproxy.protocol.json_splice import NOT_JSON

_MAX_CHUNK = 4096
"""Bytes. No templates are learned from larger chunks, which are rare."""
_FRAMES = ((b"data: ", b"\n\n"), (b"data:", b"\n\n"), (b"data: ", b"\r\n\r\n"))
_PROBE = "\x01probe"
_PROBE_LITERAL = rb"\u0001probe"
_STRING_VALUE = re.compile(
    rb'"(content|reasoning_content|reasoning|reasoning_text|arguments)"\s*:\s*"((?:[^"\\]|\\.)*)"'
)
_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
_CLOSING = b"}}\n\n"
_STRING = msgspec.json.Decoder(str)


class Template:
    """The bytes around the string, in the provider's chunk and in the client's event."""

    __slots__ = ("_after", "_before", "_between", "_frame", "_opening", "_skip")

    def __init__(
        self, *, before: bytes, after: bytes, frame: tuple[bytes, bytes], opening: bytes
    ) -> None:
        # With the opening quote: a line break before it would be valid JSON but end the SSE line.
        self._before = frame[0] + before + b'"'
        self._skip = len(self._before) - 1
        self._after = after + frame[1]
        self._frame = frame
        self._opening = opening
        self._between = _CLOSING + opening

    def framed(self, data: bytes) -> bytes:
        """Return the bytes of an event that contains *data*, as the provider would send it."""
        return self._frame[0] + data + self._frame[1]

    def splice(self, data: bytes, at: int, texts: list[str]) -> tuple[bytes, int]:
        """
        Convert the consecutive chunks of *data* that match, starting at position *at*.

        Return the events and the position after the last chunk; append the strings to *texts*.
        """
        after = self._after
        literals = []
        while data.startswith(self._before, at):
            begin = at + self._skip
            end = data.find(b'"', begin + 1) + 1
            if not data.startswith(after, end):  # the string contains quotes, or nothing matches
                end = data.find(b'"' + after, begin + 1) + 1
            literal = data[begin:end]
            text = _decode(literal)
            if not text:
                break
            texts.append(text)
            literals.append(literal)
            at = end + len(after)
        if not literals:
            return b"", at
        return self._opening + self._between.join(literals) + _CLOSING, at


def learn(chunk: chat.Chunk, data: bytes, read: bytes, event: dict[str, Any]) -> Template | None:
    """
    Return a template for *chunk*, which was decoded from *data* and converted to *event*.

    *data* is a part of *read*. Return None if the chunk contains more than the event's text, or if
    the position of the text in *data* is ambiguous.
    """
    sole = sole_text(chunk)
    field = _DELTA_FIELDS.get(event["delta"]["type"])
    if sole is None or field is None or event["delta"][field] != sole[1] or len(data) > _MAX_CHUNK:
        return None
    spans = [
        match.span(2)
        for match in _STRING_VALUE.finditer(data)
        if _decode(b'"%b"' % match[2]) == sole[1]
    ]
    if len(spans) != 1:
        return None
    begin, end = spans[0]
    probe = chat.decode(data[:begin] + _PROBE_LITERAL + data[end:])
    if sole_text(probe) != (sole[0], _PROBE):
        return None
    # The frame of an event that began in an earlier read is unknown; assume the usual one.
    frame = next((frame for frame in _FRAMES if frame[0] + data + frame[1] in read), _FRAMES[0])
    shell = {**event, "delta": {"type": event["delta"]["type"], field: ""}}
    opening = b"event: content_block_delta\ndata: " + msgspec.json.encode(shell)
    return Template(
        before=data[: begin - 1],
        after=data[end + 1 :],
        frame=frame,
        opening=opening.removesuffix(b'""}}'),
    )


def _decode(literal: bytes) -> str | None:
    """Return the text of a JSON string, or None if it needs repair (`protocol/chat.py`)."""
    try:
        return _STRING.decode(literal)
    except NOT_JSON:
        return None


def sole_text(chunk: chat.Chunk) -> tuple[str, str] | None:
    """Return the field and text if *chunk* contains one string and nothing else, or else None."""
    if not chunk.choices or len(chunk.choices) != 1:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.finish_reason or delta.reasoning_details or delta.refusal:
        return None
    if delta.function_call is not None or delta.thinking_blocks or delta.reasoning_opaque:
        return None
    texts = [(name, text) for name in _TEXT_FIELDS if (text := getattr(delta, name))]
    for call in delta.tool_calls or ():
        if (
            call.id
            or call.extra_content
            or call.function is None
            or call.function.name
            or call.name
        ):
            return None
        texts.append(("arguments", call.function.arguments))
    if len(texts) != 1 or not isinstance(texts[0][1], str) or not texts[0][1]:
        return None
    return texts[0]


_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "reasoning_text")
