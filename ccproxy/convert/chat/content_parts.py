"""
Conversion of content blocks to the parts of a Chat message, and of tool results to tool messages.

Every type of block except tool calls and thinking becomes a list of parts: text, images and files
in the form that the provider accepts, and a text note in place of unsupported content. Base64 is
never sent as text. Blocks of unknown types are dropped.

Tool messages contain only text (OpenAI's `ChatCompletionToolMessageParam`). An image or a file in a
tool result is replaced by a note and moved to the user message that follows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from ccproxy.convert.common.conversion import Conversion
from ccproxy.errors import Problem
from ccproxy.protocol.literals import (
    ABSENT,
    ANY_JSON,
    EMPTY,
    TRUE,
    is_object,
    is_present,
    is_string,
    join_literals,
    literal,
    read,
    required_string,
    text_of,
    with_path,
    wrap_literal,
)
from ccproxy.protocol.messages import Block, Source, blocks_of, source_of

Part = dict[str, Any]
"""A part of a Chat message's content; its strings are `Raw` literals."""


class _CacheControl(msgspec.Struct, omit_defaults=True):
    type: Raw = ABSENT
    ttl: Raw = ABSENT


_CACHE_CONTROL = msgspec.json.Decoder(_CacheControl)
_READABLE = ("title", "url", "text", "stdout", "stderr", "tool_name", "error_code", "content")
"""Keys of a server tool's result that contain readable text."""

NO_RESULT = Raw(b'"[no result]"')
"""The result of an interrupted call; providers refuse a call without a result."""
_NO_OUTPUT = Raw(b'"(no output)"')
_FOLLOWS = {
    "image_url": Raw(b'"[image follows]"'),
    "file": Raw(b'"[document follows]"'),
    "document_url": Raw(b'"[document follows]"'),
}


def text_part(text: Raw) -> Part:
    """Return a text part that contains the string literal *text*."""
    return {"type": "text", "text": text}


def texts_of(content: object) -> list[Raw] | None:
    """Return the string literals of a message's content, or None if it contains anything else."""
    if isinstance(content, Raw):
        return [content]
    if not isinstance(content, list) or any(part["type"] != "text" for part in content):
        return None
    return [part["text"] for part in content]


def content_of(parts: list[Part], *, flat: bool) -> Raw | list[Part]:
    """
    Return a message's content: a string for a single text part, else the parts.

    Claude Code sends a message as a list while it is the last one and as a string afterwards; both
    must become the same bytes for the provider's prompt cache. If *flat* is true, several text
    parts are joined.
    """
    if not parts:
        return EMPTY
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return _text(parts[0])
    if flat and all(part["type"] == "text" for part in parts):
        return join_literals("\\n\\n", [_text(part) for part in parts])
    return parts


def _text(part: Part) -> Raw:
    text: Raw = part["text"]
    return text


def to_parts(blocks: list[Block], conversion: Conversion) -> list[Part]:
    """Convert the *blocks* of a `content` field; errors contain the block's index."""
    parts: list[Part] = []
    index = 0
    try:
        for index, block in enumerate(blocks):  # noqa: B007 - the error needs it
            parts += block_to_parts(block, conversion)
    except Problem as problem:
        raise with_path(problem, "content", index) from problem
    return parts


def cache_mark(block: Block, conversion: Conversion) -> dict[str, Any]:
    """
    Return the cache_control field of *block* if the provider supports it.

    Only type and ttl are sent: other fields, such as Claude Code's scope, are refused ("Extra
    inputs are not permitted").
    """
    if not conversion.quirks.cache_control or not is_object(block.cache_control):
        return {}
    fields = read(_CACHE_CONTROL, block.cache_control, "cache_control")
    return {"cache_control": fields}


def block_to_parts(block: Block, conversion: Conversion) -> list[Part]:
    """Convert one block to parts."""
    parts = _text_block(block) if block.type == "text" else _other_block(block, conversion)
    if parts:
        parts[-1] |= cache_mark(block, conversion)
    return parts


def _text_block(block: Block) -> list[Part]:
    text = required_string(block.text, "text")
    return [{"type": "text", "text": text}] if text != EMPTY else []


def _other_block(block: Block, conversion: Conversion) -> list[Part]:
    converter = _CONVERTERS.get(block.type)
    if converter is None and block.type.endswith("_tool_result"):
        converter = _server_tool_result
    parts = converter(block, conversion) if converter else []
    if not parts:
        conversion.drop(f"messages.{block.type}")
    return parts


def _search_result(block: Block, conversion: Conversion) -> list[Part]:
    inner = to_parts(blocks_of(block.content), conversion)
    head = [raw for raw in (block.title, block.source) if is_string(raw)]
    return _one_text(head, inner)


def _tool_reference(block: Block, conversion: Conversion) -> list[Part]:
    name = text_of(required_string(block.tool_name, "tool_name"))
    return [text_part(literal(f"Tool {conversion.sent_name(name)} is now available."))]


def _compaction(block: Block, _conversion: Conversion) -> list[Part]:
    return [text_part(block.content)] if is_string(block.content) else []


def _one_text(head: list[Raw], parts: list[Part]) -> list[Part]:
    """Join *head* and the text of *parts* into one text part; other parts follow it."""
    literals = [*head, *(_text(part) for part in parts if part["type"] == "text")]
    texts = [text for text in literals if text != EMPTY]
    others = [part for part in parts if part["type"] != "text"]
    return [text_part(join_literals("\\n", texts)), *others] if texts else others


def _image(block: Block, conversion: Conversion) -> list[Part]:
    source = source_of(block)
    if not conversion.quirks.images:
        conversion.drop("messages.image")
        return [text_part(Raw(b'"[image omitted: this model does not accept images]"'))]
    if source.type == "base64":
        url = _data_url(source)
    elif source.type == "url":
        url = required_string(source.url, "source.url")
    elif source.type == "file":
        return [_file_note("image", source)]
    else:
        return []
    return [{"type": "image_url", "image_url": {"url": url}}]


def _data_url(source: Source) -> Raw:
    media_type = required_string(source.media_type, "source.media_type")
    data = required_string(source.data, "source.data")
    kind, inner = memoryview(media_type)[1:-1], memoryview(data)[1:]
    return Raw(b"".join((b'"data:', kind, b";base64,", inner)))


def _file_note(kind: str, source: Source) -> Part:
    # File IDs are valid only with Anthropic.
    return text_part(literal(f"[{kind} {text_of(source.file_id)}: uploaded files are not sent]"))


def _document(block: Block, conversion: Conversion) -> list[Part]:
    source = source_of(block)
    head = [raw for raw in (block.title, block.context) if is_string(raw) and raw != EMPTY]
    if source.type == "text":
        return _one_text(head, [text_part(required_string(source.data, "source.data"))])
    if source.type == "content":
        return _one_text(head, to_parts(blocks_of(source.content), conversion))
    if source.type == "base64" and text_of(source.media_type) != "application/pdf":
        return _one_text(head, [text_part(_decoded(source))])
    if source.type in ("base64", "url"):
        return _pdf(block, source, conversion)
    return [_file_note("document", source)] if source.type == "file" else []


def _decoded(source: Source) -> Raw:
    """Return the text in a base64 source, or a note if it is not text."""
    try:
        return literal(base64.b64decode(text_of(source.data), validate=True).decode())
    except (binascii.Error, ValueError):
        return literal(f"[document omitted: {text_of(source.media_type)} is not text]")


def _pdf(block: Block, source: Source, conversion: Conversion) -> list[Part]:
    title = block.title if is_string(block.title) and block.title != EMPTY else None
    context = [text_part(block.context)] if is_string(block.context) else []
    form = conversion.quirks.pdf
    if source.type == "url":
        url = required_string(source.url, "source.url")
        if form != "document_url":
            return [*context, text_part(wrap_literal("[document: ", url, "]"))]
    else:
        url = _data_url(source)
    if form == "document_url":
        name = {"document_name": title} if title else {}
        return [*context, {"type": "document_url", "document_url": url, **name}]
    if form == "file":
        name = {"filename": title or Raw(b'"document.pdf"')}
        return [*context, {"type": "file", "file": {**name, "file_data": url}}]
    conversion.drop("messages.document")
    note = wrap_literal(
        "[", title or Raw(b'"document"'), ": this provider does not accept PDF files]"
    )
    return [text_part(note), *context]


# Results of server tools.


def _server_tool_use(block: Block, _conversion: Conversion) -> list[Part]:
    name = text_of(block.name) or block.type
    arguments = f": {str(memoryview(block.input), 'utf-8')}" if is_present(block.input) else ""
    return [text_part(literal(f"[used {name}{arguments}]"))]


def _server_tool_result(block: Block, _conversion: Conversion) -> list[Part]:
    if is_string(block.content):
        return [text_part(block.content)] if block.content != EMPTY else []
    if not is_present(block.content):
        return []
    texts = _readable_texts(read(ANY_JSON, block.content, "content"))
    return [text_part(literal("\n".join(texts)))] if texts else []


def _readable_texts(value: object) -> list[str]:
    """Return the strings under the readable keys, in document order."""
    if isinstance(value, list):
        return [text for each in value for text in _readable_texts(each)]
    if not isinstance(value, dict):
        return []
    texts: list[str] = []
    for key, inner in value.items():
        readable = key in _READABLE or (key == "data" and value.get("type") == "text")
        if readable and isinstance(inner, str) and inner:
            texts.append(inner)
        elif isinstance(inner, (dict, list)):
            texts += _readable_texts(inner)
    return texts


_Converter = Callable[[Block, Conversion], list[Part]]
_CONVERTERS: dict[str, _Converter] = {
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
    "server_tool_use": _server_tool_use,
    "mcp_tool_use": _server_tool_use,
}


# Tool results.


def tool_result(block: Block, conversion: Conversion) -> tuple[Raw, list[Part]]:
    """
    Convert a tool_result into the text of a tool message and the parts that must follow it.

    The text is never empty or null, because some providers refuse either.
    """
    others: list[Part] = []
    if is_string(block.content):
        text = block.content
    elif is_present(block.content):
        text, others = _result_of_blocks(block.content, conversion)
    else:
        text = EMPTY
    if text == EMPTY:
        text = _NO_OUTPUT
    if block.is_error is not ABSENT and block.is_error == TRUE:
        text = wrap_literal("Error: ", text)
    return text, others


def orphan_result(block: Block, conversion: Conversion) -> list[Part]:
    """Convert a tool_result that has no call into text; a tool message would be refused."""
    text, others = tool_result(block, conversion)
    return [text_part(wrap_literal("[result of an earlier tool call]\\n", text)), *others]


def _result_of_blocks(content: Raw, conversion: Conversion) -> tuple[Raw, list[Part]]:
    blocks = blocks_of(content)
    if len(blocks) == 1 and is_string(blocks[0].text) and blocks[0].type == "text":
        return blocks[0].text, []
    parts = to_parts(blocks, conversion)
    texts = [part["text"] if part["type"] == "text" else _FOLLOWS[part["type"]] for part in parts]
    others = [part for part in parts if part["type"] != "text"]
    return join_literals("\\n", texts) if texts else EMPTY, others
