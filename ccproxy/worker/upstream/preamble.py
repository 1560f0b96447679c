"""
Detection of events at the beginning of a stream that carry no content.

Providers begin a stream with a chunk that has only a role, with `message_start` or with pings,
often before it is certain that they can serve the request. Such a preamble is held back, so that if
an error follows, another key, a retry or a fallback can still answer the request.
"""

from __future__ import annotations

from typing import Any

import msgspec

_PREAMBLE_TYPES = frozenset({"message_start", "ping"})
_NO_CONTENT = frozenset({"role", "name", "refusal_reason"})


def is_preamble(data: bytes) -> bool:
    """Return True if the event with this *data* begins an answer but carries no content."""
    try:
        event = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # the converter decides whether such data can be repaired
    if not isinstance(event, dict):
        return False
    if isinstance(choices := event.get("choices"), list):
        # A chunk that has only usage ends the answer.
        has_content = any(map(_has_content, choices)) or (not choices and event.get("usage"))
        return not has_content
    match event.get("type"):
        case "content_block_start":
            block = event.get("content_block")
            if not isinstance(block, dict):
                return False
            kind = block.get("type")
            return kind in ("text", "thinking") and not block.get(kind)
        case kind:
            return kind in _PREAMBLE_TYPES


def _has_content(choice: Any) -> bool:  # noqa: ANN401 - as the provider sent it
    if not isinstance(choice, dict):
        return True
    if choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return bool(choice.get("message") or choice.get("text"))
    return any(value for name, value in delta.items() if name not in _NO_CONTENT)
