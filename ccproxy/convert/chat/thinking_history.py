"""
Earlier thinking on its way back to a provider.

Some providers demand it, some refuse it, most ignore it; `Quirks.history` says which. The text is
that of the thinking block, whoever signed it: a session survives a change of the provider. What
only its maker can read (thought signatures, encrypted details) goes back to the same model of the
same provider, and to nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from ccproxy.convert.common.conversion import Conversion
from ccproxy.convert.common.thinking import (
    REASONING_DETAILS,
    THOUGHT_SIGNATURES,
    Origin,
    unpack_details,
)
from ccproxy.protocol.literals import EMPTY, is_string, join_literals, text_of, wrap_literal
from ccproxy.protocol.messages import Block

UNKNOWN_SIGNATURE = "skip_thought_signature_validator"
"""What Gemini takes for a signature that nobody knows (ai.google.dev, thought signatures)."""


def thought_text(thoughts: Sequence[Block]) -> Raw | None:
    """Return what was thought as one string literal, None if there is no text."""
    texts = [block.thinking for block in thoughts if _has_text(block)]
    return join_literals("\\n\\n", texts) if texts else None


def reasoning_fields(
    thoughts: Sequence[Block], conversion: Conversion, *, required: bool
) -> dict[str, Any]:
    """
    Return the fields of an assistant message that give its thinking back.

    `required`: the provider refuses this message without the field, "" being enough
    (DeepSeek, Kimi: "reasoning_content is missing in assistant tool call message").
    """
    form = conversion.quirks.history
    if form in ("reasoning_content", "reasoning"):
        text = thought_text(thoughts) or (EMPTY if required else None)
        return {} if text is None else {form: text}
    if form == "reasoning_details":
        details = [detail for block in thoughts for detail in _details(block, conversion)]
        return {"reasoning_details": details} if details else {}
    if form == "drop" and thoughts:
        conversion.drop("messages.thinking")
    return {}


def content_with_thoughts(
    content: Raw | None, thoughts: Sequence[Block], conversion: Conversion
) -> Raw | list[dict[str, Any]] | None:
    """Return an assistant message's content with its thinking, where that is its place."""
    form = conversion.quirks.history
    thought = thought_text(thoughts) if form in ("think_tags", "thinking_parts") else None
    if thought is None:
        return content
    if form == "think_tags":
        tagged = wrap_literal("<think>\\n", thought, "\\n</think>\\n\\n")
        return tagged if content is None else join_literals("", [tagged, content])
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": thought}]}
    return [thinking] if content is None else [thinking, {"type": "text", "text": content}]


def thought_signatures(thoughts: Sequence[Block], conversion: Conversion) -> dict[str, str]:
    """Return the signature of each tool call (by the client's id) that *thoughts* carry."""
    signatures: dict[str, str] = {}
    for block in thoughts:
        origin = _origin(block, conversion)
        signatures |= origin.carried.get(THOUGHT_SIGNATURES, {}) if origin else {}
    return signatures


def _details(block: Block, conversion: Conversion) -> list[dict[str, Any]]:
    origin = _origin(block, conversion)
    packed = origin.carried.get(REASONING_DETAILS) if origin else None
    if packed:
        return unpack_details(packed, text_of(block.thinking))
    return [{"type": "reasoning.text", "text": block.thinking}] if _has_text(block) else []


def _origin(block: Block, conversion: Conversion) -> Origin | None:
    """Return who signed *block* if it is who will read it."""
    origin = conversion.signer.open(text_of(block.signature))
    target = conversion.target
    if origin is None or (origin.provider, origin.model) != (target.provider, target.model):
        return None
    return origin


def _has_text(block: Block) -> bool:
    return is_string(block.thinking) and block.thinking != EMPTY
