"""
What was said, out of what was sent: the user's new turn, and the model's answer to it.

A request holds the whole conversation; only the text of its last user message is new. Reminders
that Claude Code puts beside it, tool results, images and thinking are none of it. A request that
only brings tool results has no turn of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.protocol import sse

LONGEST = 256 * 1024
"""Characters of one turn; what is longer is cut."""

_REMINDER = re.compile(
    r"<(system-reminder|local-command-caveat|ide_opened_file|ide_selection)>.*?</\1>", re.DOTALL
)


class _Conversation(msgspec.Struct, gc=False):
    messages: list[Raw]


class _Message(msgspec.Struct, gc=False):
    role: str
    content: Raw


_CONVERSATION = msgspec.json.Decoder(_Conversation)
_MESSAGE = msgspec.json.Decoder(_Message)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def user_turn(body: bytes) -> str:
    """Return what the user says anew in a request's *body*; empty if nothing."""
    try:
        for raw in reversed(_CONVERSATION.decode(body).messages):
            message = _MESSAGE.decode(raw)
            if message.role == "user":
                return _without_reminders(_text(msgspec.json.decode(message.content)))
    except _UNREADABLE:
        pass
    return ""


def assistant_turn(answer: bytes, *, is_stream: bool) -> str:
    """Return the text of an *answer*, a message or the events of one; empty if it has none."""
    try:
        found = _text_of_events(answer) if is_stream else _text_of_message(answer)
    except _UNREADABLE:
        return ""
    return found.strip()[:LONGEST]


def _without_reminders(text: str) -> str:
    return _REMINDER.sub("", text).strip()[:LONGEST]


def _text_of_message(answer: bytes) -> str:
    message = msgspec.json.decode(answer)
    return _text(message.get("content")) if isinstance(message, dict) else ""


def _text_of_events(answer: bytes) -> str:
    """Fold a stream: blocks stand apart by a blank line, as they do in a message."""
    blocks: dict[int, list[str]] = {}
    decoder = sse.Decoder()
    for event in (*decoder.feed(answer), *decoder.close()):
        if event.event not in (b"content_block_start", b"content_block_delta"):
            continue
        found = msgspec.json.decode(event.data, type=dict[str, Any])
        part = found.get("delta") or found.get("content_block") or {}
        if part.get("type") in ("text", "text_delta"):
            blocks.setdefault(found.get("index", 0), []).append(str(part.get("text", "")))
    return _joined("".join(texts) for _, texts in sorted(blocks.items()))


def _text(content: object) -> str:
    """Return the text of *content*, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return _joined(_text_of_block(block) for block in blocks if isinstance(block, dict))


def _text_of_block(block: Mapping[str, Any]) -> str:
    text = block.get("text") if block.get("type") == "text" else None
    return _REMINDER.sub("", text) if isinstance(text, str) else ""


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())
