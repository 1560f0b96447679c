"""Convert the parts of Chat messages into parts of Responses items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw

from ccproxy.convert.chat.content_parts import Part, content_of, to_parts, tool_result
from ccproxy.convert.common.conversion import Conversion
from ccproxy.protocol.literals import ABSENT, EMPTY, TRUE, is_present, is_string, wrap_literal
from ccproxy.protocol.messages import Block, blocks_of

Item = dict[str, Any]
"""An item of `input`; its strings are `Raw` literals."""

_PDF_SUFFIX: Final = b".pdf"
_UNNAMED: Final = Raw(b'"document.pdf"')
_DATA_URL: Final = b'"data:'


def input_content(parts: Sequence[Part], *, flat: bool) -> Raw | list[Item]:
    """Return the content of a user, system or developer message: one string, or input parts."""
    content = content_of(list(parts), flat=flat)
    return [_input_part(part) for part in content] if isinstance(content, list) else content


def _input_part(part: Part) -> Item:
    match part["type"]:
        case "text":
            return {"type": "input_text", "text": part["text"]}
        case "image_url":
            return {"type": "input_image", "image_url": part["image_url"]["url"]}
        case "document_url":  # the form of PDF files that the provider's Chat Completions accept
            return _document(part.get("document_name", _UNNAMED), part["document_url"])
        case _:
            return _document(part["file"]["filename"], part["file"]["file_data"])


def _document(name: Raw, url: Raw) -> Item:
    if bytes(memoryview(url)[: len(_DATA_URL)]) != _DATA_URL:
        return {"type": "input_text", "text": wrap_literal("[document: ", url, "]")}
    return {"type": "input_file", "filename": _with_suffix(name), "file_data": url}


def _with_suffix(name: Raw) -> Raw:
    """Return *name* with the suffix `.pdf`, by which the API detects the type of the file."""
    inner = bytes(name)[1:-1]
    return name if inner.lower().endswith(_PDF_SUFFIX) else Raw(b'"%b%b"' % (inner, _PDF_SUFFIX))


def tool_output(block: Block, conversion: Conversion) -> tuple[Raw | list[Item], list[Part]]:
    """
    Convert a tool_result into the output of a call, and the parts that must follow the output.

    Images and files belong to the output if the provider accepts lists. Otherwise they follow in a
    user message.
    """
    has_blocks = is_present(block.content) and not is_string(block.content)
    if conversion.quirks.output_parts and has_blocks:
        parts = to_parts(blocks_of(block.content), conversion)
        if any(part["type"] != "text" for part in parts):
            return [_input_part(part) for part in _marked(parts, block)], []
    return tool_result(block, conversion)


def _marked(parts: list[Part], block: Block) -> list[Part]:
    """Prefix *parts* with "Error:" if the tool failed, because outputs have no error field."""
    if block.is_error is ABSENT or block.is_error != TRUE:
        return parts
    is_text = parts[0]["type"] == "text"
    text = wrap_literal("Error: ", parts[0]["text"] if is_text else EMPTY)
    return [{"type": "text", "text": text}, *parts[is_text:]]
