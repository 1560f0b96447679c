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
from ccproxy.protocol.json_splice import NOT_JSON, fields_of
from ccproxy.protocol.lenient_json import check_objects, decode_leniently


class Function(msgspec.Struct, gc=False):
    """The name and arguments of a call; each may be missing, null or split across chunks."""

    name: Any = None
    arguments: Any = None


class ToolCallDelta(msgspec.Struct, gc=False):
    """A tool call or a part of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None
    name: Any = None
    """From servers that omit the `function` object; the arguments are in one of the next fields."""
    arguments: Any = None
    input: Any = None
    parameters: Any = None
    """Other names that such servers use for the arguments."""
    extra_content: Any = None
    """Gemini: `{"google": {"thought_signature": …}}`."""


class Delta(msgspec.Struct, gc=False):
    """Model output: the `delta` of a chunk or the `message` of a whole completion."""

    content: Any = None
    """A string, or a list of parts (Mistral)."""
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    """Copilot's reasoning."""
    reasoning_opaque: Any = None
    """Copilot: data that must be returned with the reasoning."""
    reasoning_details: Any = None
    thinking_blocks: Any = None
    """LiteLLM: Anthropic's thinking blocks."""
    refusal: Any = None
    tool_calls: list[ToolCallDelta] | None = None
    function_call: Function | None = None
    """The predecessor of `tool_calls`: one call without an id."""


class Choice(msgspec.Struct, gc=False):
    """An answer, or a part of it (Copilot splits one answer across several choices)."""

    index: Any = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    stop_reason: Any = None
    """vLLM: the stop string that matched, or a token ID."""
    matched_stop: Any = None
    """SGLang's equivalent of vLLM's `stop_reason`."""
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
        for choice in self.choices:  # noqa: SIM110 - a generator is slower
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

    An answer inside an envelope (`{"data": …, "success": true}`) is unwrapped. Fields of the
    wrong type are ignored if the rest can be read.

    Raises:
        BadAnswer: If *data* is not JSON, not in this format, or too large.
    """
    check_objects(data)
    try:
        chunk = _DECODER.decode(data)
    except NOT_JSON:
        chunk = decode_leniently(data, Chunk, repair=_without_wrong_types)
    if chunk.choices is None and b'"choices"' in data:
        return _inner_chunk(data) or chunk
    return chunk


def is_answer(data: bytes) -> bool:
    """Return True if *data* can be decoded, as complete answers of every API can."""
    try:
        decode(data)
    except BadAnswer:
        return False
    return True


_PING_WORDS = (b"ping", b"heartbeat", b"keepalive", b"keep-alive")
_HEARTBEATS = frozenset((b"", b"null", b"true", b"false", b'""', b"[]", b"{}", *_PING_WORDS)).union(
    b'"%b"' % word for word in _PING_WORDS
)
_MAX_HEARTBEAT = 32


def is_heartbeat(data: bytes) -> bool:
    """Return True if the event *data* has no content: null, an empty value, or a server's ping."""
    return len(data) <= _MAX_HEARTBEAT and data.strip().lower() in _HEARTBEATS


# Answers in unusual formats

_ENVELOPES = ("data", "result", "response")
_OUTPUT = ("content", "refusal", "function_call", "tool_calls")


def _inner_chunk(data: bytes) -> Chunk | None:
    """Return the answer inside the envelope *data*, or None."""
    try:
        fields = fields_of(data) or {}
        chunks = (_DECODER.decode(fields[name]) for name in _ENVELOPES if name in fields)
        return next((chunk for chunk in chunks if chunk.choices is not None), None)
    except NOT_JSON:
        return None


def _without_wrong_types(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """
    Return the chunk *value* without fields of the wrong type.

    Raises:
        ValueError: If something was removed and nothing readable remains.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {type(value).__name__}")
    repair = _Repair()
    choices = [repair.choice(choice) for choice in repair.objects(value.get("choices"))]
    if repair.has_lost and not (repair.has_output or value.get("usage") or value.get("error")):
        raise ValueError("some fields have the wrong type")
    return {**value, "choices": choices if "choices" in value else None}


class _Repair:
    """Replaces values of the wrong type in one chunk."""

    def __init__(self) -> None:
        self.has_lost = False
        """True: a nonempty value was removed."""
        self.has_output = False
        """True: model output remains."""

    def choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        self.has_output = self.has_output or bool(choice.get("finish_reason"))
        deltas: dict[str, Any] = {
            name: self._delta(choice[name]) for name in ("delta", "message") if name in choice
        }
        return {**choice, **deltas}

    def objects(self, value: object) -> list[dict[str, Any]]:
        """Return the objects in the list *value*; a single object counts as a list of one."""
        items = value if isinstance(value, list) else [value]
        self.has_lost = self.has_lost or any(item and not isinstance(item, dict) for item in items)
        return [item for item in items if isinstance(item, dict) and item]

    def _delta(self, value: object) -> dict[str, Any] | None:
        delta = next(iter(self.objects(value)), None)
        if delta is None:
            return None
        calls = [self._call(call) for call in self.objects(delta.get("tool_calls"))]
        function_call = next(iter(self.objects(delta.get("function_call"))), None)
        delta = {**delta, "tool_calls": calls or None, "function_call": function_call}
        self.has_output = self.has_output or any(
            delta[name] for name in delta if name in _OUTPUT or name.startswith("reasoning")
        )
        return delta

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        if "function" not in call:
            return call
        return {**call, "function": next(iter(self.objects(call["function"])), None)}
