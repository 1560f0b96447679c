"""Convert whole messages and blocks into the events of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from ccproxy.errors import STATUS_OF_KIND, BadAnswer, Problem
from ccproxy.protocol import sse
from ccproxy.protocol.json_splice import object_of
from ccproxy.protocol.lenient_json import string
from ccproxy.protocol.messages import Event

_EMPTY = {"text": "", "thinking": "", "signature": "", "input": {}}
"""The initial values of the block fields that arrive as deltas."""


def read_message(body: bytes) -> dict[str, Any]:
    """Decode the whole message *body*. Raises BadAnswer if it is not a message."""
    message = object_of(body) or {}
    content = message.get("content")
    if isinstance(content, list) and all(isinstance(block, dict) for block in content):
        return message
    raise BadAnswer("the provider's answer is not a message")


@contextmanager
def reading_events() -> Iterator[None]:
    """Raise BadAnswer for malformed events, which can come from the provider in direct mode."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise BadAnswer("the provider's stream has an event that is not valid") from error


def problem_of(error: Mapping[str, Any]) -> Problem:
    """Convert the *error* of an error event into a Problem."""
    kind = string(error.get("type"))
    text = string(error.get("message")) or "the provider failed without giving a reason"
    return Problem(kind if kind in STATUS_OF_KIND else "api_error", text)


def message_events(body: bytes) -> bytes:
    """Return the events of the message in *body*. Raises BadAnswer if it is not a message."""
    return b"".join([encode_event(event) for event in _events(read_message(body))])


def encode_event(event: Event) -> bytes:
    """Encode an event for a stream."""
    return sse.encode(event["type"].encode(), msgspec.json.encode(event))


def block_events(block: dict[str, Any], index: int) -> Iterator[Event]:
    """Yield the events of the whole *block*."""
    empty = {name: value for name, value in _EMPTY.items() if name in block}
    opening = {**block, **empty}
    yield {"type": "content_block_start", "index": index, "content_block": opening}
    for delta in _deltas(block):
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _events(message: dict[str, Any]) -> Iterator[Event]:
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"]):
        yield from block_events(block, index)
    end = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": end, "usage": message.get("usage") or {}}
    yield {"type": "message_stop"}


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block.get("text"):
        yield {"type": "text_delta", "text": block["text"]}
    if block.get("thinking"):
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
    if block.get("signature"):
        yield {"type": "signature_delta", "signature": block["signature"]}
    if "input" in block:
        text = msgspec.json.encode(block["input"]).decode()
        yield {"type": "input_json_delta", "partial_json": text}
