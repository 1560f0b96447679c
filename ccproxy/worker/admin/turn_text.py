"""
Extraction of the two turns of an exchange: the user's new text and the model's answer.

A request holds the whole conversation; only the text of its last user message is new. Reminders
that Claude Code adds to it, tool results, images and thinking are not part of the turn. A request
that contains only tool results has no user turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.errors import BadAnswer
from ccproxy.protocol import sse

MAX_TURN_CHARS = 256 * 1024
"""Maximum characters of a turn; longer turns are truncated."""

_REMINDER = re.compile(r"<(system-reminder|local-command-caveat|ide_opened_file|ide_selection)>")


class _RequestMessages(msgspec.Struct, gc=False):
    messages: list[Raw]


class _Message(msgspec.Struct, gc=False):
    role: str
    content: Raw


_REQUEST = msgspec.json.Decoder(_RequestMessages)
_MESSAGE = msgspec.json.Decoder(_Message)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, BadAnswer)


def user_turn(body: bytes) -> str:
    """Return the user's new text in the request *body*, or "" if there is none."""
    try:
        for raw in reversed(_REQUEST.decode(body).messages):
            message = _MESSAGE.decode(raw)
            if message.role == "user":
                text = _text(msgspec.json.decode(message.content))
                return without_reminders(text).strip()[:MAX_TURN_CHARS]
    except _UNREADABLE:
        pass
    return ""


def assistant_turn(answer: bytes, *, is_stream: bool) -> str:
    """Return the text of *answer*, a message or the events of one, or "" if it has none."""
    try:
        text = _text_of_events(answer) if is_stream else _text_of_message(answer)
    except _UNREADABLE:
        return ""
    return text.strip()[:MAX_TURN_CHARS]


def without_reminders(text: str) -> str:
    """Return *text* without complete reminder elements, in time linear in its length."""
    pieces: list[str] = []
    at = 0
    unclosed: set[str] = set()
    for opening in _REMINDER.finditer(text):
        closing = f"</{opening[1]}>"
        if opening.start() < at or closing in unclosed:
            continue
        end = text.find(closing, opening.end())
        if end < 0:
            unclosed.add(closing)  # do not search again: each search scans the rest of the text
            continue
        pieces.append(text[at : opening.start()])
        at = end + len(closing)
    return "".join([*pieces, text[at:]])


def _text_of_message(answer: bytes) -> str:
    message = msgspec.json.decode(answer)
    return _text(message.get("content")) if isinstance(message, dict) else ""


def _text_of_events(answer: bytes) -> str:
    """Return the text of a stream, its blocks separated like those of a message."""
    blocks: dict[int, list[str]] = {}
    # The last event may be incomplete: a long stream is captured only up to a limit.
    for event in sse.Decoder().feed(answer):
        if event.event not in (b"content_block_start", b"content_block_delta"):
            continue
        data = msgspec.json.decode(event.data, type=dict[str, Any])
        part = data.get("delta") or data.get("content_block")
        index = data.get("index")
        if isinstance(part, dict) and part.get("type") in ("text", "text_delta"):
            texts = blocks.setdefault(index if isinstance(index, int) else 0, [])
            texts.append(str(part.get("text", "")))
    return _joined("".join(texts) for _, texts in sorted(blocks.items()))


def _text(content: object) -> str:
    """Return the text of *content*, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return _joined(_text_of_block(block) for block in blocks if isinstance(block, dict))


def _text_of_block(block: Mapping[str, Any]) -> str:
    text = block.get("text") if block.get("type") == "text" else None
    return without_reminders(text) if isinstance(text, str) else ""


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())
