"""Parts of Responses items as content blocks."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from msgspec import Raw

from ccproxy.convert.openai_clients.input_content import blocks_of_parts
from ccproxy.errors import Problem
from ccproxy.protocol.responses_request import parts_of

PNG = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
TEXT = base64.b64encode("Grüße".encode()).decode()


def blocks(*parts):
    dropped: dict[str, None] = {}
    made = blocks_of_parts(parts_of(Raw(json.dumps(parts).encode())), ("input", 0), dropped)
    return json.loads(msgspec.json.encode(made)), list(dropped)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(
            {"type": "input_text", "text": "Hi"}, [{"type": "text", "text": "Hi"}], id="text"
        ),
        pytest.param({"type": "input_text", "text": ""}, [], id="an empty text"),
        pytest.param(
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            [{"type": "image", "source": PNG}],
            id="image data",
        ),
        pytest.param(
            {"type": "input_image", "image_url": {"url": "data:;charset=x;base64,AAAA"}},
            [{"type": "image", "source": PNG}],
            id="the form of Chat Completions, without a type",
        ),
        pytest.param(
            {"type": "input_image", "image_url": "https://x/a.png"},
            [{"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}],
            id="an image's URL",
        ),
        pytest.param(
            {"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"},
            [
                {
                    "type": "document",
                    "source": {**PNG, "media_type": "application/pdf"},
                    "title": "a.pdf",
                }
            ],
            id="plain base64 is a PDF",
        ),
        pytest.param(
            {"type": "input_file", "file_url": "https://x/a.pdf"},
            [{"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}],
            id="a file's URL",
        ),
        pytest.param(
            {"type": "input_file", "file_data": f"data:text/markdown;base64,{TEXT}"},
            [
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"},
                }
            ],
            id="a text file",
        ),
    ],
)
def test_parts(part, expected):
    assert blocks(part) == (expected, [])


def test_unknown_parts_are_reported():
    assert blocks({"type": "input_audio"}) == ([], ["input.content.input_audio"])


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            {"type": "input_image", "file_id": "f"},
            "input.0.0.image_url: this proxy stores no files",
        ),
        ({"type": "input_image"}, "input.0.0.image_url: Field required"),
        ({"type": "input_file", "file_id": "f"}, "input.0.0.file_data: this proxy stores no files"),
        ({"type": "input_file"}, "input.0.0.file_data: Field required"),
        ({"type": "input_image", "image_url": "data:image/png,x"}, "must hold base64"),
        ({"type": "input_file", "file_data": "data:text/x;base64,?"}, "base64 of a text"),
        ({"type": "input_file", "file_data": "data:text/x;base64,/w=="}, "base64 of a text"),
    ],
)
def test_refused_parts(part, text):
    with pytest.raises(Problem) as caught:
        blocks(part)
    assert text in caught.value.message
