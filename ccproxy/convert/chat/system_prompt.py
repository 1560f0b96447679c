"""
The system prompt, and system messages in the middle of a conversation.

Claude Code's prompt begins with an attribution block, `x-anthropic-billing-header: …`. It changes
with every conversation and is meaningless to other providers; it is removed because it would defeat
their prompt caches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from ccproxy.convert.chat.content_parts import Part, cache_mark, content_of, text_part
from ccproxy.convert.common.conversion import Conversion
from ccproxy.errors import Problem
from ccproxy.protocol.claude_code import BILLING_LINE
from ccproxy.protocol.literals import (
    EMPTY,
    is_present,
    join_literals,
    literal,
    required_string,
    text_of,
    with_path,
    wrap_literal,
)
from ccproxy.protocol.messages import Block, blocks_of

_ATTRIBUTION = b'"%b:' % BILLING_LINE
_ATTRIBUTION_LINE = re.compile(
    r"x-anthropic-billing-header:(?:(?:[ \t]*[\w.-]+=[^;\n]*;)+|[^\n]*)\s*"
)


def to_system_prompt(
    system: Raw, conversion: Conversion, *, instructions: Sequence[str] = ()
) -> dict[str, Any] | None:
    """
    Convert the system prompt to the first message; return None if the prompt is empty.

    ccproxy's *instructions* are appended to its blocks.
    """
    blocks = blocks_of(system, "system") if is_present(system) else []
    parts = _parts(blocks, conversion, "system")
    parts += [text_part(literal(text)) for text in instructions]
    return {"role": "system", "content": _content(parts)} if parts else None


def to_system_message(
    blocks: Sequence[Block], conversion: Conversion, *, first: bool
) -> dict[str, Any] | None:
    """
    Convert a system message of the conversation; return None if the message is empty.

    `first`: nothing precedes it. If the provider accepts a system message only at the start, a
    later one becomes user text in the `<system-reminder>` tags that Claude Code uses.
    """
    parts = _parts(blocks, conversion, "content")
    if not parts:
        return None
    if first or conversion.quirks.system_messages == "anywhere":
        return {"role": "system", "content": _content(parts)}
    text = join_literals("\\n\\n", [part["text"] for part in parts])
    if bytes(memoryview(text)[1:18]) != b"<system-reminder>":
        text = wrap_literal("<system-reminder>\\n", text, "\\n</system-reminder>")
    return {"role": "user", "content": text}


def _content(parts: list[Part]) -> Raw | list[Part]:
    """Return *parts* as one string, or unchanged if a part has a cache mark."""
    return content_of(parts, flat=not any("cache_control" in part for part in parts))


def _parts(blocks: Sequence[Block], conversion: Conversion, field: str) -> list[Part]:
    """Convert the *blocks* of *field*; errors contain the field and the block's index."""
    parts: list[Part] = []
    index = 0
    try:
        for index, block in enumerate(blocks):  # noqa: B007 - the error needs it
            parts += _text_parts(block, conversion)
    except Problem as problem:
        raise with_path(problem, field, index) from problem
    return parts


def _text_parts(block: Block, conversion: Conversion) -> list[Part]:
    if block.type != "text":
        # Beta features of Claude Code send tool_addition and tool_removal here.
        conversion.drop(f"system.{block.type}")
        return []
    text = _without_attribution(required_string(block.text, "text"))
    return [] if text == EMPTY else [text_part(text) | cache_mark(block, conversion)]


def _without_attribution(text: Raw) -> Raw:
    if bytes(memoryview(text)[: len(_ATTRIBUTION)]) != _ATTRIBUTION:
        return text
    return literal(_ATTRIBUTION_LINE.sub("", text_of(text), count=1))
