"""Find and replace the images and PDFs in the messages of a request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Raw

from ccproxy.protocol.json_splice import fields_of
from ccproxy.protocol.lenient_json import string
from ccproxy.protocol.messages import BASE64

Content = dict[str, Any]
"""A content block."""
Replace = Callable[[Content], list[Content] | None]
"""Returns the replacement of a block, or None to keep the block."""

PDF_TYPE: Final = "application/pdf"
_KINDS: Final = ("image", "document")

_MESSAGES = msgspec.json.Decoder(list[Raw])


class MediaBody:
    """The body of a request whose images and documents can be replaced."""

    def __init__(self, body: bytes) -> None:
        self._fields = fields_of(body) or {}
        self._raw = _MESSAGES.decode(self._fields.get("messages", Raw(b"[]")))
        self._decoded: dict[int, dict[str, Any]] = {}
        for index, raw in enumerate(self._raw):
            if BASE64 in bytes(raw):
                self.message(index)

    def __len__(self) -> int:
        return len(self._raw)

    def message(self, index: int) -> dict[str, Any]:
        """Return the message at *index*, which the caller may modify."""
        message = self._decoded.get(index)
        if message is None:
            message = self._decoded[index] = msgspec.json.decode(self._raw[index])
        return message

    def media(self) -> list[tuple[int, Content]]:
        """Return every image and document with base64 data, and the index of its message."""
        all_blocks: list[tuple[int, Content]] = []
        for index, message in sorted(self._decoded.items()):
            blocks: list[Content] = []
            _replaced(message.get("content"), blocks.append)  # None keeps each block
            all_blocks += [(index, block) for block in blocks]
        return all_blocks

    def replace(self, change: Replace) -> None:
        """Replace every image and document with the result of *change*."""
        for message in self._decoded.values():
            message["content"] = _replaced(message.get("content"), change)

    def body(self) -> bytes:
        """Return the body with all changes."""
        messages = [self._decoded.get(index, raw) for index, raw in enumerate(self._raw)]
        return msgspec.json.encode({**self._fields, "messages": messages})


def text_block(text: str) -> Content:
    """Return a text block."""
    return {"type": "text", "text": text}


def data_of(block: Content) -> str:
    """Return the base64 data of a block, or an empty string."""
    source = block.get("source")
    if not isinstance(source, dict) or source.get("type") != "base64":
        return ""
    return string(source.get("data"))


def media_type_of(block: Content) -> str:
    """Return the media type of a block's data."""
    return str(block["source"].get("media_type"))


def digest(*parts: str) -> str:
    """Return the hash of *parts*, for use as a cache key."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _replaced(content: object, change: Replace, *, is_result: bool = False) -> object:
    if not isinstance(content, list):
        return content
    written: list[object] = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in _KINDS and data_of(block):
            new = change(block)
            written += [block] if new is None else new
        elif kind == "tool_result" and not is_result:
            inner = _replaced(block.get("content"), change, is_result=True)
            written.append({**block, "content": inner})
        else:
            written.append(block)
    return written
