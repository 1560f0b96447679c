"""
The size of a picture, read from the first bytes of its base64, as far as tokens depend on it.

Formats: PNG, GIF, WebP and JPEG, which are all that the Messages API takes.
"""

from __future__ import annotations

import base64
import binascii

_HEAD = 16 * 1024
"""Characters of base64: a JPEG's size may stand behind a thumbnail."""
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDS_ALONE = frozenset(range(0xD0, 0xDA)) | {0x01, 0xFF}


def size_of(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return width and height of the picture whose base64 begins with *data*, if it tells them."""
    try:
        head = base64.b64decode(data[: min(_HEAD, len(data) // 4 * 4)])
    except (binascii.Error, ValueError):
        return None
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        return _big(head, 16, 4), _big(head, 20, 4)
    if head.startswith(b"GIF8") and len(head) >= 10:
        return _little(head, 6, 2), _little(head, 8, 2)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    return _jpeg(head) if head.startswith(b"\xff\xd8") else None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return _little(head, 24, 3) + 1, _little(head, 27, 3) + 1
        case b"VP8 ":
            return _little(head, 26, 2) & 0x3FFF, _little(head, 28, 2) & 0x3FFF
        case b"VP8L":
            bits = _little(head, 21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Walk over the segments to the one that holds the size (SOFn)."""
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker in _JPEG_SIZES:
            return _big(head, at + 7, 2), _big(head, at + 5, 2)
        at += 1 if marker == 0xFF else 2 if marker in _STANDS_ALONE else 2 + _big(head, at + 2, 2)
    return None


def _big(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")
