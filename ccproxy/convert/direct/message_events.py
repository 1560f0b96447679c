"""A whole message as the events of a stream, for a provider that does not stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse
from ccproxy.protocol.messages import Event

_EMPTY = {"text": "", "thinking": "", "signature": "", "input": {}}
"""The fields of a block that arrive as deltas, as they are at its start."""


def message_events(body: bytes) -> bytes:
    """
    Return the events of the message in *body*.

    Raises:
        Problem: If it is not a message.

    """
    try:
        message = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer("the provider's answer is not a message") from error
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        raise BadAnswer("the provider's answer is not a message")
    events = _events(message)
    return b"".join(
        sse.encode(event["type"].encode(), msgspec.json.encode(event)) for event in events
    )


def _events(message: dict[str, Any]) -> Iterator[Event]:
    start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(message["content"]):
        if not isinstance(block, dict):
            raise BadAnswer("the provider's answer is not a message")
        empty = {name: value for name, value in _EMPTY.items() if name in block}
        opening = {**block, **empty}
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
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
