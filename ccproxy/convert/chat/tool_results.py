"""
A tool's result as the text of a tool message.

Tool messages hold text only (OpenAI's `ChatCompletionToolMessageParam`). An image or a file in a
result leaves a mark in the text and goes into the user message that follows.
"""

from __future__ import annotations

from msgspec import Raw

from ccproxy.convert.chat.content_parts import Part, text_part, to_parts
from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.literals import (
    ABSENT,
    EMPTY,
    TRUE,
    is_present,
    is_string,
    join_literals,
    wrap_literal,
)
from ccproxy.protocol.messages import Block, blocks_of

NO_RESULT = Raw(b'"[no result]"')
"""The answer to a call that was interrupted; a call without an answer is refused everywhere."""

_NO_OUTPUT = Raw(b'"(no output)"')
_FOLLOWS = {
    "image_url": Raw(b'"[image follows]"'),
    "file": Raw(b'"[document follows]"'),
    "document_url": Raw(b'"[document follows]"'),
}


def to_result(block: Block, conversion: Conversion) -> tuple[Raw, list[Part]]:
    """
    Convert a tool_result into the text of a tool message and the parts that must follow it.

    The text is never empty and never null: some providers refuse the one, some the other.
    """
    others: list[Part] = []
    if is_string(block.content):
        text = block.content
    elif is_present(block.content):
        text, others = _of_blocks(block.content, conversion)
    else:
        text = EMPTY
    if text == EMPTY:
        text = _NO_OUTPUT
    if block.is_error is not ABSENT and block.is_error == TRUE:
        text = wrap_literal("Error: ", text)
    return text, others


def to_orphan(block: Block, conversion: Conversion) -> list[Part]:
    """Convert a tool_result whose call is gone: a tool message without its call is refused."""
    text, others = to_result(block, conversion)
    return [text_part(wrap_literal("[result of an earlier tool call]\\n", text)), *others]


def _of_blocks(content: Raw, conversion: Conversion) -> tuple[Raw, list[Part]]:
    blocks = blocks_of(content)
    if len(blocks) == 1 and is_string(blocks[0].text) and blocks[0].type == "text":
        return blocks[0].text, []
    parts = to_parts(blocks, conversion)
    texts = [part["text"] if part["type"] == "text" else _FOLLOWS[part["type"]] for part in parts]
    others = [part for part in parts if part["type"] != "text"]
    return join_literals("\\n", texts) if texts else EMPTY, others
