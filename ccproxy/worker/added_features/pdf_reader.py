"""
The child process that reads one PDF: bytes on stdin, JSON on stdout.

    python -I pdf_reader.py < file.pdf

PDFs are untrusted input for a large C++ library. Therefore the process has limited memory and time,
writes no files, and imports nothing from ccproxy. It exits with status 0 and
`{"pages": [{"text", "image"}], "total"}`, or with status 1 and the error on stderr. `image` is the
picture of a page without text (base64 PNG in grayscale).
"""

from __future__ import annotations

import base64
import json
import resource
import struct
import sys
import zlib
from typing import Any

MEMORY = 1024 * 1024 * 1024
"""The limit of the address space in bytes."""
CPU_SECONDS = 20
MAX_PAGES = 100
MAX_CHARACTERS = 300_000
MAX_PICTURES = 10
LONG_SIDE = 1500
"""The longer side of a picture in pixels."""
REASONS = {
    "password": "it is encrypted and needs a password",
    "Data format": "it is damaged or not a PDF",
    "Security": "it is encrypted in an unknown way",
}
"""Phrase in the library's message -> reason why the file cannot be opened."""
DAMAGED = "[this page is damaged]"
CUT = "\n[the rest of this page is left out]"
SCANNED = 16
"""A page with fewer characters is returned as a picture."""


def limit() -> None:
    """Set the resource limits of this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read(data: bytes) -> dict[str, Any]:
    """Return the pages of the PDF *data*. Raises ValueError if it cannot be opened."""
    import pypdfium2  # from the extra `pdf`; imported after the limits are set

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        reason = next((text for phrase, text in REASONS.items() if phrase in str(error)), "")
        raise ValueError(reason or str(error)) from error
    pages: list[dict[str, str]] = []
    room, pictures = MAX_CHARACTERS, 0
    for index in range(min(len(document), MAX_PAGES)):
        picture = ""
        try:
            page = document[index]
            text = page.get_textpage().get_text_range().strip().replace("\r\n", "\n")
            if len(text) > room:
                text = text[:room] + CUT
            if len(text) < SCANNED and pictures < MAX_PICTURES:
                picture = _picture(page)
                pictures += 1
        except pypdfium2.PdfiumError:
            text = DAMAGED
        pages.append({"text": text, "image": picture})
        room -= len(text)
        if room <= 0:
            break
    return {"pages": pages, "total": len(document)}


def _picture(page: Any) -> str:  # noqa: ANN401 - pypdfium2 has no types
    scale = LONG_SIDE / max(*page.get_size(), 1.0)
    bitmap = page.render(scale=min(scale, 4.0), grayscale=True)
    data = bytes(bitmap.buffer)
    rows = (
        b"\0" + data[row * bitmap.stride : row * bitmap.stride + bitmap.width]
        for row in range(bitmap.height)
    )
    return base64.b64encode(_png(bitmap.width, bitmap.height, b"".join(rows))).decode()


def _png(width: int, height: int, rows: bytes) -> bytes:
    """Return a PNG with 8-bit grayscale pixels; each row begins with its filter, 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(rows, 6)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def main() -> int:
    """Read a PDF from stdin."""
    limit()
    try:
        answer = read(sys.stdin.buffer.read())
    except MemoryError:
        sys.stderr.write("it needs too much memory")
        return 1
    except Exception as error:  # noqa: BLE001 - a broken file may cause any error
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        sys.stderr.write(f"{name}{error}"[:300])
        return 1
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
