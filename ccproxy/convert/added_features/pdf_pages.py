"""Convert the pages of a PDF into content blocks, for providers that accept no PDFs."""

from __future__ import annotations

import msgspec

from ccproxy.convert.added_features.media_blocks import Content, text_block
from ccproxy.text import counted

SCAN_NOTE = "[this page is a picture without text]"


class PdfPage(msgspec.Struct, frozen=True):
    """A page of a PDF."""

    text: str = ""
    image: str = ""
    """The picture of a page without text, as base64 PNG."""


class PdfPages(msgspec.Struct, frozen=True):
    """The result of reading a PDF."""

    pages: tuple[PdfPage, ...] = ()
    total: int = 0
    error: str = ""
    is_final: bool = True
    """False if a later attempt may succeed."""

    @property
    def size(self) -> int:
        """The number of characters in all text and base64 pictures."""
        return sum(len(page.text) + len(page.image) for page in self.pages)


def pdf_blocks(document: Content, read: PdfPages, *, shows_pictures: bool) -> list[Content]:
    """Return the blocks that replace *document*, with pictures only if *shows_pictures*."""
    title = document.get("title")
    name = f'PDF "{title}"' if isinstance(title, str) and title else "PDF"
    if read.error:
        return [text_block(f"[{name} could not be read: {read.error}]")]
    blocks = [text_block(f"[{name}, {counted(read.total, 'page')}, as text without its layout]")]
    if isinstance(context := document.get("context"), str) and context:
        blocks.append(text_block(context))
    for number, page in enumerate(read.pages, 1):
        is_shown = bool(page.image) and shows_pictures
        text = page.text or ("" if is_shown else SCAN_NOTE)
        blocks.append(text_block(f"[Page {number}]\n{text}".strip()))
        if is_shown:
            source = {"type": "base64", "media_type": "image/png", "data": page.image}
            blocks.append({"type": "image", "source": source})
    remaining_pages = read.total - len(read.pages)
    rest = f"; the last {remaining_pages} pages are left out" if remaining_pages else ""
    return [*blocks, text_block(f"[End of {name}{rest}]")]
