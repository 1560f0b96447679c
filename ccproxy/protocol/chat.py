"""
Answers of Chat Completions providers: chunks of a stream, and whole completions.

Only the fields that conversion reads are decoded. Containers are typed; leaves are `Any`, because
providers send null, "" or objects where strings belong, and their readers check the type. In a
whole completion the choices have a `message`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ccproxy.errors import BadAnswer
from ccproxy.protocol.lenient_json import decode_leniently


class Function(msgspec.Struct, gc=False):
    """Name and arguments of a call; each may be missing, null or split over chunks."""

    name: Any = None
    arguments: Any = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A tool call or a part of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None
    """Gemini: `{"google": {"thought_signature": …}}`."""


class Delta(msgspec.Struct, gc=False):
    """Model output: the `delta` of a chunk or the `message` of a whole completion."""

    content: Any = None
    """A string, or a list of parts (Mistral)."""
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: Function | None = None
    """The form before tools: one call without an id."""


class Choice(msgspec.Struct, gc=False):
    """An answer, or a part of it (Copilot splits one answer over several choices)."""

    index: Any = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop string that matched, or a token ID."""
    matched_stop: Any = None
    """SGLang: the same."""
    usage: Any = None
    """Kimi reports the usage here."""
    error: Any = None


class Chunk(msgspec.Struct, gc=False):
    """One data event of a stream, or a whole completion."""

    choices: list[Choice] | None = None
    usage: Any = None
    x_groq: Any = None
    """Groq: `{"usage": …}`."""
    error: Any = None
    base_resp: Any = None
    """MiniMax: `{"status_code", "status_msg"}`; 0 is success."""

    @property
    def may_be_error(self) -> bool:
        """Return False if the chunk is certainly an answer."""
        if self.choices is None or self.error is not None or self.base_resp is not None:
            return True
        for choice in self.choices:  # noqa: SIM110 - a generator costs more than the chunk
            if choice.error is not None:
                return True
        return False


Completion = Chunk

DONE = b"[DONE]"
"""Data of the event that ends a stream."""

_DECODER = msgspec.json.Decoder(Chunk)


def decode(data: bytes) -> Chunk:
    """
    Decode one data event or a whole body.

    Raises:
        Problem: api_error if *data* is not JSON, or not of this form.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_leniently(data, Chunk)


def is_answer(data: bytes) -> bool:
    """Return True if *data* can be decoded; so can a whole answer of any API, an object."""
    try:
        decode(data)
    except BadAnswer:
        return False
    return True
