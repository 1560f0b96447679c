"""
The short way for the chunk that comes most often.

Theory of operation: nearly every chunk of a stream equals the one before but for one JSON string,
the new text. A JSON string is the same bytes in both formats. So what stands before and behind it
is learnt once, and as long as reads go on so, the string is copied instead of the chunk parsed.

It must never differ from the long way. So a template is learnt only from a chunk that says one
plain string and nothing else, it is proved by putting another string into it and decoding that,
and each copied string is decoded once: that checks it, and its length is needed for the usage.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ccproxy.protocol import chat

_LONGEST = 4096
"""Bytes of a chunk beyond which nothing is learnt: such chunks are not many."""
_FRAMES = ((b"data: ", b"\n\n"), (b"data:", b"\n\n"), (b"data: ", b"\r\n\r\n"))
_PROOF = "\x01proof"
_PROOF_LITERAL = rb"\u0001proof"
_STRING_VALUE = re.compile(
    rb'"(content|reasoning_content|reasoning|arguments)"\s*:\s*"((?:[^"\\]|\\.)*)"'
)
_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
_CLOSING = b"}}\n\n"
_STRING = msgspec.json.Decoder(str)


class Template:
    """What stands around the string in a provider's chunk (*before*, *behind*) and in our event."""

    __slots__ = ("_before", "_behind", "_between", "_frame", "_opening", "_skip")

    def __init__(
        self, *, before: bytes, behind: bytes, frame: tuple[bytes, bytes], opening: bytes
    ) -> None:
        # With the opening quote: a line end before the string is JSON, but would end our line.
        self._before = frame[0] + before + b'"'
        self._skip = len(self._before) - 1
        self._behind = behind + frame[1]
        self._frame = frame
        self._opening = opening
        self._between = _CLOSING + opening

    def framed(self, data: bytes) -> bytes:
        """Return the event whose data is *data* as it would stand in a read."""
        return self._frame[0] + data + self._frame[1]

    def splice(self, data: bytes, at: int, texts: list[str]) -> tuple[bytes, int]:
        """
        Convert the chunks that follow each other from *at* in *data*, as far as they fit.

        Return the events and where the first other byte is; *texts* gets the texts.
        """
        behind = self._behind
        literals = []
        while data.startswith(self._before, at):
            begin = at + self._skip
            end = data.find(b'"', begin + 1) + 1
            if not data.startswith(behind, end):  # the string holds quotes, or it does not fit
                end = data.find(b'"' + behind, begin + 1) + 1
            literal = data[begin:end]
            text = _decode(literal)
            if not text:
                break
            texts.append(text)
            literals.append(literal)
            at = end + len(behind)
        if not literals:
            return b"", at
        return self._opening + self._between.join(literals) + _CLOSING, at


def learn(chunk: chat.Chunk, data: bytes, read: bytes, event: dict[str, Any]) -> Template | None:
    """
    Return the template of *chunk*, whose bytes *data* stood in *read* and became *event*.

    None if it says anything but the text of *event*, or if that cannot be found in it for sure.
    """
    said = sole_text(chunk)
    field = _DELTA_FIELDS.get(event["delta"]["type"])
    if said is None or field is None or event["delta"][field] != said[1] or len(data) > _LONGEST:
        return None
    places = [
        found.span(2)
        for found in _STRING_VALUE.finditer(data)
        if _decode(b'"%b"' % found[2]) == said[1]
    ]
    if len(places) != 1:
        return None
    begin, end = places[0]
    proof = chat.decode(data[:begin] + _PROOF_LITERAL + data[end:])
    if sole_text(proof) != (said[0], _PROOF):
        return None
    # An event that began in an earlier read is not seen whole; then the usual frame is the guess.
    frame = next((frame for frame in _FRAMES if frame[0] + data + frame[1] in read), _FRAMES[0])
    shell = {**event, "delta": {"type": event["delta"]["type"], field: ""}}
    opening = b"event: content_block_delta\ndata: " + msgspec.json.encode(shell)
    return Template(
        before=data[: begin - 1],
        behind=data[end + 1 :],
        frame=frame,
        opening=opening.removesuffix(b'""}}'),
    )


def _decode(literal: bytes) -> str | None:
    """Return the text of a JSON string, None if it must be mended first (`protocol/chat.py`)."""
    try:
        return _STRING.decode(literal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def sole_text(chunk: chat.Chunk) -> tuple[str, str] | None:
    """Return the field and the text, if *chunk* says one plain string and nothing else."""
    if not chunk.choices or len(chunk.choices) != 1:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.finish_reason or delta.reasoning_details:
        return None
    if delta.refusal or delta.function_call is not None:
        return None
    said = [(name, text) for name in _SPOKEN if (text := getattr(delta, name))]
    for call in delta.tool_calls or ():
        if call.id or call.extra_content or call.function is None or call.function.name:
            return None
        said.append(("arguments", call.function.arguments))
    if len(said) != 1 or not isinstance(said[0][1], str) or not said[0][1]:
        return None
    return said[0]


_SPOKEN = ("content", "reasoning_content", "reasoning")
