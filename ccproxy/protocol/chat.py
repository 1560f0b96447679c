"""
What a Chat Completions provider answers: a chunk of a stream, or a whole completion.

Only what conversion looks at is decoded. Providers fill the leaves with nearly anything (null,
"", objects where strings belong), so leaves are `Any` and their readers ask for the type; the
skeleton is typed. A whole completion is a chunk whose choices have a `message`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ccproxy.errors import BadAnswer
from ccproxy.protocol.lenient_json import decode_leniently


class Function(msgspec.Struct, gc=False):
    """Name and arguments of a call; each may be missing, null, late or in pieces."""

    name: Any = None
    arguments: Any = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A tool call, or a piece of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    extra_content: Any = None
    """Gemini: `{"google": {"thought_signature": …}}`."""


class Delta(msgspec.Struct, gc=False):
    """What the model said: a stream's `delta` or a whole answer's `message`."""

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
    """One of the answers, or a part of the one answer (Copilot splits it over several)."""

    index: Any = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop string that matched, or a token id."""
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
        """False for every chunk that is certainly an answer."""
        if self.choices is None or self.error is not None or self.base_resp is not None:
            return True
        for choice in self.choices:  # noqa: SIM110 - a generator costs more than the chunk
            if choice.error is not None:
                return True
        return False


Completion = Chunk

DONE = b"[DONE]"
"""The data of the event with which a stream ends."""

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
    """Tell whether *data* can be decoded, as a whole answer of any API can: it is an object."""
    try:
        decode(data)
    except BadAnswer:
        return False
    return True
