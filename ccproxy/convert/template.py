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
from typing import Any, NamedTuple

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
_CLOSING = b'"}}\n\n'
_STRING = msgspec.json.Decoder(str)


class Template(NamedTuple):
    """What stands around the text in a provider's chunk, quotes included, and in our event."""

    before: bytes
    behind: bytes
    opening: bytes

    def splice(self, data: bytes, at: int, texts: list[str]) -> tuple[bytes, int]:
        """
        Convert the chunks that follow each other from *at* in *data*, as far as they fit.

        Return the events and where the first other byte is; *texts* gets the texts.
        """
        before, behind, opening = self
        literals = []
        while data.startswith(before, at):
            begin = at + len(before)
            end = data.find(behind, begin)
            if end < 0:
                break
            try:
                text = _STRING.decode(data[begin - 1 : end + 1])
            except (msgspec.DecodeError, UnicodeDecodeError):
                break
            if not text:
                break
            texts.append(text)
            literals.append(data[begin:end])
            at = end + len(behind)
        if not literals:
            return b"", at
        return opening + (_CLOSING + opening).join(literals) + _CLOSING, at


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
        if _STRING.decode(b'"%b"' % found[2]) == said[1]
    ]
    if len(places) != 1:
        return None
    begin, end = places[0]
    proof = chat.decode(data[:begin] + _PROOF_LITERAL + data[end:])
    if sole_text(proof) != (said[0], _PROOF):
        return None
    for opening, closing in _FRAMES:
        if opening + data + closing in read:
            shell = msgspec.json.encode(
                {**event, "delta": {"type": event["delta"]["type"], field: ""}}
            )
            ours = b"event: content_block_delta\ndata: " + shell.removesuffix(b'"}}')
            return Template(opening + data[:begin], data[end:] + closing, ours)
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
