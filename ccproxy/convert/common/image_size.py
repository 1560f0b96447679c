"""
The pixel size of an image, read from the first bytes of its base64 data.

Formats: PNG, GIF, WebP and JPEG, the only ones that the Messages API accepts.
"""

from __future__ import annotations

import base64
import binascii

_HEAD = 16 * 1024
"""Base64 characters to decode; a thumbnail may precede the size in a JPEG."""
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xDA)) | {0x01, 0xFF}


def size_of(data: bytes | memoryview) -> tuple[int, int] | None:
    """Return the width and height of the image whose base64 begins with *data*, or None."""
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
    """Return the size from the first SOFn segment, or None."""
    offset = 2
    while offset + 9 <= len(head) and head[offset] == 0xFF:
        marker = head[offset + 1]
        if marker in _JPEG_SIZES:
            return _big(head, offset + 7, 2), _big(head, offset + 5, 2)
        if marker == 0xFF:
            offset += 1
        else:
            offset += 2 if marker in _WITHOUT_LENGTH else 2 + _big(head, offset + 2, 2)
    return None


def _big(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


def _little(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "little")
