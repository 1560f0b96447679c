"""Small PDFs, with pages of text and pages without text."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable

from ccproxy.convert.added_features.pdf_pages import PdfPages
from ccproxy.worker.added_features.pdf_texts import PdfTexts

SQUARE = "20 20 60 60 re f"


def pdf(*pages: str) -> bytes:
    """Return a PDF with a page for each text; the page of an empty text has only a black square."""
    drawn = [f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else SQUARE for text in pages]
    return _file(_stream(content.encode("latin-1")) for content in drawn)


def bomb(size: int) -> bytes:
    """Return a PDF whose only page has *size* bytes of compressed content."""
    return _file([_stream(zlib.compress(b" " * size, 9), b" /Filter /FlateDecode")])


def _stream(content: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d%b >>\nstream\n%b\nendstream" % (len(content), more, content)


def _file(contents: Iterable[bytes]) -> bytes:
    """Return a PDF with a page for each content stream."""
    objects: list[bytes] = [b"", b"", b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    numbers: list[int] = []
    for content in contents:
        objects.append(content)
        page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] "
        fonts = "/Resources << /Font << /F1 3 0 R >> >> "
        objects.append(f"{page}{fonts}/Contents {len(objects)} 0 R >>".encode())
        numbers.append(len(objects))
    kids = " ".join(f"{number} 0 R" for number in numbers)
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(numbers)} >>".encode()
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        start,
    )
    return bytes(out)


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def pages_of(data: str, texts: PdfTexts | None = None) -> PdfPages:
    """Return the pages of one PDF in base64."""
    return (await (texts or PdfTexts()).read([data]))[data]


def document(content: bytes, **fields: str) -> dict[str, object]:
    """Return a document block with a PDF."""
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded(content)}
    return {"type": "document", "source": source, **fields}


ENCRYPTED = zlib.decompress(base64.b64decode(
    "eNqNUz2L1EAYFgSL6QR/wFgsgnjO92SCYYv7WBSVO3bVRiwmyZs1specyazsraCc4B9QUKwFW5urbC0sLSzstbnS"
    "ThALJ7m7vcVYmA/IPPO8z/Pm4Z3e1vpghV0WqPft++cviGGKy/gBiiJEbu3uACZr1tlJOUZky46hxtwThqjfR1Ck"
    "DZF3CloeItfztMZ3sWj4+B4ia+W0cJgtlYp/ljZGFXjqoRO5CWluV8uZ16L+FpRi7l+vOIS6nFaJb6pRGJS+pv1g"
    "WB436R9vXDivV2P1V+uy499oIDKaxq5dNiBDZNXW0KqTqzB5BC5P7JKKWlK5AcXY3ccyaPZrV4HdRj8Pzl3cv/Lu"
    "IOs/fPrh1Mp29Gz+eH72xelXX1++f7u39+T17NelM/tvzl/4+PzTj99rjexR5ZGBXjK4g7n/bywWVowbHxiWPJSh"
    "Dnjotwf5xEGFycjZIrVVisgmjmhshREqMyYLqTAGAglKKiMZVwkwyWOgKXCZ6JimIgikBhqo2IQsUFoHzOd4G0dZ"
    "nFFuE64FCBEKluhQM2t0qkNrlA65iTOvCxICZaxkWlLq1zrLMksZNf2l3GYVZIjiANHFhbVSQuEMLzDm0213ihNM"
    "yw7GuOhgXLEOJngXk8ycYK6y+QSqNutRPgffHhmWpZ/bw2G8tu7HMBIiFrGiSgUJ6DCgxhoKNAaTCmYzHff/h+IH"
    "eKNIqt0dh/XxYNbOVq4NRgt/InsbmwP0BxST+r0="
))  # fmt: skip
"""A page of text that needs a password (RC4 with 128 bits)."""
