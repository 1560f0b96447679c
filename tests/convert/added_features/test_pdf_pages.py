"""The pages of a PDF as content blocks."""

from __future__ import annotations

import pytest

from ccproxy.convert.added_features.pdf_pages import PdfPage, PdfPages, pdf_blocks

TWO = PdfPages(pages=(PdfPage(text="Hello"), PdfPage(image="iVBO")), total=5)


def texts(blocks):
    return [block.get("text", block["type"]) for block in blocks]


@pytest.mark.parametrize(
    ("document", "read", "shows", "expected"),
    [
        pytest.param(
            {"title": "a.pdf", "context": "from the user"}, TWO, True,
            ['[PDF "a.pdf", 5 pages, as text without its layout]', "from the user",
             "[Page 1]\nHello", "[Page 2]", "image",
             '[End of PDF "a.pdf"; the last 3 pages are left out]'],
            id="pictures are shown"),
        pytest.param(
            {}, TWO, False,
            ["[PDF, 5 pages, as text without its layout]", "[Page 1]\nHello",
             "[Page 2]\n[this page is a picture without text]",
             "[End of PDF; the last 3 pages are left out]"],
            id="no model describes pictures"),
        pytest.param(
            {}, PdfPages(pages=(PdfPage(),), total=1), True,
            ["[PDF, 1 page, as text without its layout]",
             "[Page 1]\n[this page is a picture without text]", "[End of PDF]"],
            id="an empty page"),
        pytest.param({}, PdfPages(error="no PDF"), True,
                     ["[PDF could not be read: no PDF]"], id="an error"),
    ],
)  # fmt: skip
def test_blocks(document, read, shows, expected):
    assert texts(pdf_blocks(document, read, shows_pictures=shows)) == expected


def test_the_size_includes_texts_and_pictures():
    assert TWO.size == len("Hello" + "iVBO")
