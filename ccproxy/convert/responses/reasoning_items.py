"""
Store reasoning items in the signatures of thinking blocks.

A reasoning item is returned only to the provider, endpoint and model that created it, with its
encrypted content and summary unchanged. Its id is omitted: the API verifies only the ciphertext,
and some gateways change ids with every event. The summary is the text of the block; the signature
carries only the lengths of the summary's parts.

Some servers (Azure) send the encrypted content only in the final event, when the block is already
closed. In that case an empty thinking block at the end of the message carries it, with the index
of the item's own block or of the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from ccproxy.convert.chat.reasoning import origin_of
from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.literals import text_of
from ccproxy.protocol.messages import Block
from ccproxy.providers.quirks import Target

REASONING_ITEM: Final = "reasoning_item"
"""Key in a signature: the reasoning item of this block."""
LATE_ITEMS: Final = "late_reasoning_items"
"""Key in a signature: the reasoning items of earlier blocks, each with the index of its block."""
PART_SEPARATOR: Final = "\n\n"
"""Separates the parts of a summary in the text of a thinking block."""

Packed = Mapping[str, Any]


def pack(encrypted_content: str, summary_lengths: Sequence[int], target: Target) -> dict[str, Any]:
    """Return the fields of a reasoning item that a signature carries."""
    return {
        "endpoint": target.endpoint,
        "encrypted_content": encrypted_content,
        "summary": list(summary_lengths),
    }


def digest(encrypted_content: str) -> str:
    """Return a short hash that identifies a ciphertext."""
    return hashlib.blake2b(encrypted_content.encode(), digest_size=12).hexdigest()


class ReasoningItems:
    """The reasoning items in the blocks of one assistant message."""

    def __init__(
        self, blocks: Sequence[Block], conversion: Conversion, *, refused: Collection[str]
    ) -> None:
        self._blocks = blocks
        self._conversion = conversion
        self._refused = refused
        self._origins = [
            origin_of(block, conversion) if block.type == "thinking" else None for block in blocks
        ]
        self._late: dict[int, Packed] = {}
        for origin in self._origins:
            if origin is not None:
                self._late |= dict(origin.carried.get(LATE_ITEMS, ()))

    def before(self, index: int) -> dict[str, Any] | None:
        """Return the item that replaces the thinking block at *index* or precedes another block."""
        packed = self._late.get(index)
        origin = self._origins[index]
        if packed is None and origin is not None:
            packed = origin.carried.get(REASONING_ITEM)
        if packed is None:
            return None
        return self._unpack(packed, text_of(self._blocks[index].thinking))

    def _unpack(self, packed: Packed, thinking: str) -> dict[str, Any] | None:
        encrypted_content = packed["encrypted_content"]
        if packed["endpoint"] != self._conversion.target.endpoint:
            return None
        if self._refused and digest(encrypted_content) in self._refused:
            return None
        summary = [
            {"type": "summary_text", "text": text}
            for text in _summary_parts(packed["summary"], thinking)
        ]
        return {"type": "reasoning", "summary": summary, "encrypted_content": encrypted_content}


def _summary_parts(lengths: Sequence[int], thinking: str) -> list[str]:
    """Split *thinking* into the summary's parts, or one part if the client changed the text."""
    if not lengths:
        return []
    if sum(lengths) + len(PART_SEPARATOR) * (len(lengths) - 1) != len(thinking):
        return [thinking] if thinking else []
    parts, start = [], 0
    for length in lengths:
        parts.append(thinking[start : start + length])
        start += length + len(PART_SEPARATOR)
    return parts
