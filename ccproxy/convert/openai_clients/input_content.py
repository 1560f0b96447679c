"""Convert the content of Responses items into blocks: text, images, files and call outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.protocol.literals import EMPTY, invalid_request, is_present, is_string
from ccproxy.protocol.responses_request import InputItem, InputPart, parts_of

Block = dict[str, Any]
Path = tuple[str | int, ...]

_DATA_URI: Final = re.compile(r"data:([\w/+.-]*)(?:;[\w=.-]+)*?;base64,", re.IGNORECASE)
_PDF: Final = "application/pdf"
_TEXT_TYPES: Final = ("text/", "application/json", "application/xml")
_NO_FILES: Final = "this proxy stores no files: send the data itself"


def blocks_of_parts(
    parts: Sequence[InputPart], path: Path, dropped: dict[str, None]
) -> list[Block]:
    """
    Convert *parts* into content blocks, and add the types of unsupported parts to *dropped*.

    Raises:
        Problem: If a part refers to a stored file, or is invalid.
    """
    blocks: list[Block] = []
    for position, part in enumerate(parts):
        if is_string(part.text):
            if part.text != EMPTY:
                blocks.append({"type": "text", "text": part.text})
        elif is_string(part.refusal):
            blocks.append({"type": "text", "text": part.refusal})
        elif part.type == "input_image":
            blocks.append(_image(part, (*path, position)))
        elif part.type == "input_file":
            blocks.append(_document(part, (*path, position)))
        else:
            dropped[f"input.content.{part.type}"] = None
    return blocks


def result_content(item: InputItem, dropped: dict[str, None]) -> Raw | str | list[Block]:
    """Return the tool_result content for the output *item*."""
    output = item.output
    if is_string(output):
        return output
    if item.type == "tool_search_output":
        names = [tool.name for tool in item.tools]
        return f"Tools loaded: {', '.join(names)}" if names else "No tool was found."
    if not is_present(output):
        return ""
    if bytes(output)[:1] != b"[":
        return bytes(output).decode("utf-8", "replace")
    return blocks_of_parts(parts_of(output, "input", "output"), ("input", "output"), dropped)


def _image(part: InputPart, path: Path) -> Block:
    url = part.image_url
    if isinstance(url, dict):  # the format of Chat Completions
        url = url.get("url")
    if not isinstance(url, str):
        raise invalid_request(_NO_FILES if part.file_id else "Field required", *path, "image_url")
    return {"type": "image", "source": _source(url, "image/png", (*path, "image_url"))}


def _document(part: InputPart, path: Path) -> Block:
    if part.file_url:
        source = _source(part.file_url, _PDF, (*path, "file_url"))
    elif part.file_data:
        source = _source(part.file_data, _PDF, (*path, "file_data"))
    else:
        raise invalid_request(_NO_FILES if part.file_id else "Field required", *path, "file_data")
    block: Block = {"type": "document", "source": source}
    if part.filename:
        block["title"] = part.filename
    return block


def _source(text: str, default_type: str, path: Path) -> dict[str, str]:
    """Return the block source for a data URI, a URL or plain base64 data."""
    if text.startswith(("https://", "http://")):
        return {"type": "url", "url": text}
    uri = _DATA_URI.match(text)
    if uri is None and text.startswith("data:"):
        raise invalid_request("the data URI must hold base64", *path)
    media_type = (uri[1] if uri else "").lower() or default_type
    data = text[uri.end() :] if uri else text
    if default_type == _PDF and media_type.startswith(_TEXT_TYPES):
        return {"type": "text", "media_type": "text/plain", "data": _decoded(data, path)}
    return {"type": "base64", "media_type": media_type, "data": data}


def _decoded(data: str, path: Path) -> str:
    try:
        return msgspec.json.decode(msgspec.json.encode(data), type=bytes).decode()
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise invalid_request("must be the base64 of a text in UTF-8", *path) from error
